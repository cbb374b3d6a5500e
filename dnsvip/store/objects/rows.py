"""Converts objects to rows and back: which fields are columns, which are wrapped, what an audit row may show."""

from __future__ import annotations

import hashlib
import json
import json.scanner
import sys
from functools import reduce
from operator import or_
from typing import Any, cast

from pydantic import TypeAdapter

from dnsvip.address.proof import Bind
from dnsvip.errors import StoreError
from dnsvip.site import (
    Client,
    ClientState,
    Match,
    Proof,
    Step,
    Tier,
    TsigKey,
    Zone,
)
from dnsvip.site.plain import JsonObject, SiteObject, dump
from dnsvip.site.registry import KINDS
from dnsvip.store.secrets.kek import KeyEncryptionKey, tsig_context

Row = dict[str, Any]

_ADAPTERS: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(reduce(or_, kind.classes)) for name, kind in KINDS.items()}


_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed declares another class
"""`json.loads` without its two white space searches, which cost more than parsing a client."""

_NO_ATTRIBUTES: dict[str, str | int] = {}
_STEPS = {step.value: step for step in Step}
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
        case TsigKey():
            row["secret"] = kek.wrap(plain.pop("secret").encode(), tsig_context(name))
    row["spec"] = _json(plain)
    return row


def from_row(kind: str, row: Any, kek: KeyEncryptionKey) -> SiteObject:
    """The object of a row (anything with the columns as attributes); raises StoreError if it is not valid."""
    try:
        if kind == "client":
            return client_of(row.spec)
        if kind != "tsig":
            return cast("SiteObject", _ADAPTERS[kind].validate_json(row.spec))
        secret = kek.unwrap(row.secret, tsig_context(row.name)).decode()
        return cast("SiteObject", _ADAPTERS[kind].validate_python({**json.loads(row.spec), "secret": secret}))
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise StoreError(f"the row of {kind}.{row.name} cannot be read: {error}") from error


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
        _STATES[plain["state"]],
        plain["key_generation"],
    )


def match_rows(client: Client) -> list[Row]:
    """The rows of `client_match` for one client."""
    return [{"step": match.step.value, "value": match.value, "client": client.name} for match in client.match]


def audit_form(site_object: SiteObject | None) -> str | None:
    """The JSON of an object for its audit row: no secrets, and a hash in place of a zone's text."""
    if site_object is None:
        return None
    plain = dump(site_object)
    match site_object:
        case TsigKey():
            plain["secret"] = "(secret)"  # noqa: S105 - a placeholder
        case Zone():
            plain["text"] = f"sha256:{hashlib.sha256(site_object.text.encode()).hexdigest()}"
    return _json(plain)


def _json(plain: JsonObject) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
