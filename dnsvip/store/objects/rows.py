"""Objects to and from rows: which fields are columns, which are wrapped, and what an audit row may show."""

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


_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed takes it for another class
"""`json.loads` without its two searches for white space, which cost more than reading a client."""

_NO_ATTRIBUTES: dict[str, str | int] = {}
_STEPS = {step.value: step for step in Step}
_STATES = {state.value: state for state in ClientState}
_PROOFS = {(b.value, s, r): Proof(b, s, r) for b in Bind for s in (False, True) for r in (False, True)}


def to_row(kind: str, name: str, thing: SiteObject, kek: KeyEncryptionKey) -> Row:
    """The columns of an object except `origin` and `generation`.

    Only non-default fields are stored, so that a program of the previous version can read objects that use nothing new.
    Clients are stored in full: there may be a million, and `_client` reads them without a parser.
    """
    plain = dump(thing, defaults=isinstance(thing, Client))
    row: Row = {"name": name}
    match thing:
        case Tier():
            row["code"] = thing.code
        case Client():
            row |= {"id": thing.id, "tier": thing.tier}
        case TsigKey():
            row["secret"] = kek.wrap(plain.pop("secret").encode(), tsig_context(name))
    row["spec"] = _json(plain)
    return row


def from_row(kind: str, row: Any, kek: KeyEncryptionKey) -> SiteObject:
    """The object in a row (anything with the columns as attributes)."""
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
    """A client from its stored JSON, which is validated and canonical."""
    return _client(_scan(text, 0)[0])


def _client(plain: JsonObject) -> Client:
    """A client from its stored form, which is validated and canonical.

    There may be a million: without parsing every network again, loading takes a third of the time.
    """
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


def audit_form(thing: SiteObject | None) -> str | None:
    """An object as an audit row shows it: without secrets, a zone by the hash of its text."""
    if thing is None:
        return None
    plain = dump(thing)
    match thing:
        case TsigKey():
            plain["secret"] = "(secret)"  # noqa: S105 - stands for one
        case Zone():
            plain["text"] = f"sha256:{hashlib.sha256(thing.text.encode()).hexdigest()}"
    return _json(plain)


def _json(plain: JsonObject) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
