"""Converts objects to rows and back: which fields are columns, which are wrapped, what an audit row may show."""

from __future__ import annotations

import hashlib
import json
import json.scanner
import sys
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from operator import or_
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Table

from dnsvip.address.proof import Bind
from dnsvip.errors import CodecError, SecretError, StoreError
from dnsvip.site import (
    Client,
    ClientState,
    DnsToken,
    Match,
    Networks,
    Proof,
    Step,
    Tier,
    TsigKey,
    Zone,
)
from dnsvip.site.long_json import dumped
from dnsvip.site.plain import JsonObject, SiteObject, adapter, derive, dump
from dnsvip.site.registry import KINDS
from dnsvip.site.unreadable import Unreadable
from dnsvip.store.database.damage import readable, shown
from dnsvip.store.secrets.kek import KeyEncryptionKey, tsig_context

Row = dict[str, Any]

REPEATED: Mapping[str, tuple[str, ...]] = {
    "client": ("id", "tier"),
    "tier": ("code",),
    "dns_token": ("digest", "previous"),
}
"""The columns that say once more what `spec` does: where the two differ, either may be damaged."""


def columns_of(table: Table) -> list[ColumnElement[Any]]:
    """What is read of an object from the table of its kind."""
    names = "name", "spec", "secret", *REPEATED.get(table.name, ())
    return [table.c[name] for name in names if name in table.c]


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    """What reads the objects of a kind, of whichever of its classes."""
    classes = KINDS[kind].classes
    return adapter(classes[0]) if len(classes) == 1 else TypeAdapter(reduce(or_, classes))


_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed declares another class
"""`json.loads` without its two white space searches, which cost more than parsing a client."""

_NO_ATTRIBUTES: dict[str, str | int] = {}
_STEPS = {step.value: step for step in Step}
_NETWORKS = {networks.value: networks for networks in Networks}
_STATES = {state.value: state for state in ClientState}
_PROOFS = {(b.value, s, r): Proof(b, s, r) for b in Bind for s in (False, True) for r in (False, True)}


def to_row(kind: str, name: str, site_object: SiteObject, kek: KeyEncryptionKey) -> Row:
    """The columns of an object, without `origin` and `generation`.

    Only fields that differ from their defaults are stored, so that the previous version can read an object that uses
    nothing new. A client is stored whole: there may be a million, and `_client` reads them without defaults.
    """
    plain = dump(site_object, defaults=isinstance(site_object, Client))
    row: Row = {"name": name}
    match site_object:
        case Tier():
            row["code"] = site_object.code
        case Client():
            row |= {"id": site_object.id, "tier": site_object.tier}
        case DnsToken():
            row |= {"digest": site_object.digest, "previous": site_object.previous}
        case TsigKey():
            row["secret"] = kek.wrap(plain.pop("secret").encode(), tsig_context(name))
    row["spec"] = _json(plain)
    return row


def from_row(kind: str, row: Any, kek: KeyEncryptionKey) -> SiteObject:
    """The object of a row (anything with the columns as attributes); raises StoreError if it is not valid, SecretError
    where its secret does not unwrap."""
    try:
        return _read(kind, row, kek)
    except _INVALID as error:
        raise StoreError(f"the row of {kind}.{shown(row.name)} cannot be read: {_said(error)}") from None


def read_row(kind: str, row: Any, kek: KeyEncryptionKey) -> SiteObject | Unreadable:
    """The object of a row, or why there is none; for a caller that knows `kek` to be the key of the database."""
    try:
        return from_row(kind, row, kek)
    except (StoreError, SecretError) as error:
        return _unreadable(kind, row, str(error))


def unreadable_client(row: Any) -> Unreadable:
    """A client whose row `stored_client` cannot read."""
    return _unreadable("client", row, f"the row of client.{shown(row.name)} cannot be read")


def _unreadable(kind: str, row: Any, why: str) -> Unreadable:
    secret = row.secret if kind == "tsig" else b""
    text = f"{row.spec}\0".encode(errors="surrogatepass")
    text += secret if isinstance(secret, bytes) else repr(secret).encode()
    return Unreadable(kind, shown(row.name), why[:500], hashlib.sha256(text).hexdigest())


_INVALID = (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError, CodecError)


def _read(kind: str, row: Any, kek: KeyEncryptionKey) -> SiteObject:
    thing: SiteObject
    spec = readable(row.spec)
    if kind == "client":
        thing = client_of(spec)
    elif kind == "tsig":
        secret = kek.unwrap(row.secret, tsig_context(row.name)).decode()
        thing = _adapter(kind).validate_python({**json.loads(spec), "secret": secret})
    else:
        thing = _adapter(kind).validate_json(spec)
        derive(thing)
    if getattr(thing, "name", "") != row.name:
        raise ValueError("it has another name inside")
    for column in _contradicted(kind, thing, row):
        raise ValueError(f"it has another {column} inside")
    return thing


def _contradicted(kind: str, thing: SiteObject, row: Any) -> Iterator[str]:
    """The columns of a row, of those that it has, that say something else than its `spec`."""
    return (
        column for column in REPEATED.get(kind, ()) if getattr(row, column, there := getattr(thing, column)) != there
    )


def _said(error: BaseException) -> str:
    """An error without the values that it is about, which may be secret."""
    if isinstance(error, ValidationError):
        some = error.errors(include_url=False, include_context=False, include_input=False)[:3]
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in some)
    if isinstance(error, UnicodeError):
        return "its secret is no text"
    if isinstance(error, KeyError):
        return f"{error} is missing or unknown"
    return f"{type(error).__name__}: {error}"


def stored_client(row: Any) -> Client | None:
    """The client of a row, None where it cannot be read."""
    try:
        client = client_of(readable(row.spec))
    except _INVALID:
        return None
    return client if client.name == row.name and not any(_contradicted("client", client, row)) else None


def client_of(text: str) -> Client:
    """A client from its stored JSON, which must be valid and canonical."""
    return _client(_scan(text, 0)[0])


def _client(plain: JsonObject) -> Client:
    """A client from its stored form, without validation: a million take a third of the time that parsing each network
    again would."""
    proof = plain["proof"]
    return Client(
        plain["name"],
        plain["id"],
        sys.intern(plain["tier"]),
        tuple([Match(_STEPS[step], value) for entry in plain["match"] for step, value in entry.items()]),
        _PROOFS[proof["bind"], proof["single_use"], proof["required"]],
        plain["attributes"] or _NO_ATTRIBUTES,
        _interned(plain.get("pool")),  # rows of earlier versions have neither of the two
        tuple(plain.get("servers") or ()),
        _STATES[plain["state"]],
        plain["key_generation"],
        end_flows=plain.get("end_flows") is True,  # a row of an earlier version lacks it
        networks=_NETWORKS[plain.get("networks", "any")],  # likewise
    )


def _interned(name: str | None) -> str | None:
    return name and sys.intern(name)


def match_rows(client: Client) -> list[Row]:
    """The rows of `client_match` for one client."""
    return [{"step": match.step.value, "value": match.value, "client": client.name} for match in client.match]


def audit_form(site_object: SiteObject | Unreadable | None) -> str | None:
    """The JSON of an object for its audit row: no secrets, and a hash in place of a zone's text."""
    if site_object is None:
        return None
    if isinstance(site_object, Unreadable):
        return _json(site_object.audited)
    plain = dump(site_object)
    match site_object:
        case TsigKey():
            plain["secret"] = "(secret)"  # noqa: S105 - a placeholder
        case Zone():
            plain["text"] = f"sha256:{hashlib.sha256(site_object.text.encode()).hexdigest()}"
    return _json(plain)


def _json(plain: JsonObject) -> str:
    return dumped(plain, separators=(",", ":"))
