"""Bearer tokens: who may call the API."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import NAME_PATTERN
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import EVERYTHING, ROLES, Rights, Scope
from dnsvip.store.database.tables import token

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token without its secret. Times are in unix seconds.

    It has the rights of its `role` or of its own `scopes`; with neither, as tokens had before there were scopes,
    all. `networks` are where it may be used from, none: anywhere. `per_minute` requests are served, None: any number.
    `last_used_at` is true to some ten minutes.
    """

    name: str
    created_at: float
    created_by: str
    role: str | None = None
    scopes: tuple[Scope, ...] = ()
    networks: tuple[str, ...] = ()
    expires_at: float | None = None
    per_minute: int | None = None
    last_used_at: float | None = None

    @property
    def rights(self) -> Rights:
        """What it allows. A role that this version does not know allows nothing."""
        if self.role is not None:
            return Rights(ROLES.get(self.role, ()))
        return Rights(self.scopes) if self.scopes else EVERYTHING

    def has_expired(self, now: float) -> bool:
        """Whether it is good no more."""
        return self.expires_at is not None and now >= self.expires_at

    def is_from(self, source: str) -> bool:
        """Whether it may be used from an address; a Unix socket ("") counts as this machine."""
        if not self.networks:
            return True
        try:
            addresses = [ip_address(source)] if source else [ip_address("127.0.0.1"), ip_address("::1")]
        except ValueError:
            return False
        return any(address in ip_network(network) for network in self.networks for address in addresses)


def check_token_name(name: str) -> None:
    """Raise InvalidSite for a name that no token may have."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidSite([Problem("token.name", f"must fit {NAME_PATTERN} (it is {name!r})")])


def new_token() -> str:
    """A clear token of 32 random bytes; recognisable, so that scanners for leaked secrets find it."""
    return f"dnsvip_{secrets.token_urlsafe(TOKEN_BYTES)}"


def token_hash(clear: str) -> str:
    """What is stored of a token. It has 256 random bits, so one round of SHA-256 cannot be searched."""
    return hashlib.sha256(clear.encode()).hexdigest()


async def add_token(connection: AsyncConnection, made: Token, clear: str) -> None:
    """Store a token with the hash of its secret."""
    await connection.execute(insert(token).values(**_token_row(made), hash=token_hash(clear)))


async def change_token(connection: AsyncConnection, changed: Token, clear: str | None = None) -> None:
    """Store another form of a token, and another secret where one is given."""
    row = _token_row(changed) | ({"hash": token_hash(clear)} if clear else {})
    await connection.execute(update(token).where(token.c.name == changed.name).values(**row))


async def note_use(connection: AsyncConnection, name: str, now: float) -> None:
    """Note when a token was used."""
    await connection.execute(update(token).where(token.c.name == name).values(last_used_at=now))


async def find_token(connection: AsyncConnection, clear: str) -> Token | None:
    """The token, None where there is no such one."""
    query = select(token).where(token.c.hash == token_hash(clear))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _token(row)


async def named_token(connection: AsyncConnection, name: str) -> Token | None:
    """The token with a name, None where there is none."""
    row = (await connection.execute(select(token).where(token.c.name == name))).one_or_none()
    return None if row is None else _token(row)


async def all_tokens(connection: AsyncConnection) -> list[Token]:
    """Every token by name."""
    rows = await connection.execute(select(token).order_by(token.c.name))
    return [_token(row) for row in rows]


def token_form(made: Token) -> JsonObject:
    """A token as answers and audit rows show it."""
    plain = asdict(made)
    return plain | {"scopes": [asdict(scope) for scope in made.scopes], "networks": list(made.networks)}


def audit_token(made: Token) -> str:
    """A token as its audit row shows it."""
    return json.dumps({key: value for key, value in token_form(made).items() if key != "last_used_at"})


def _token_row(made: Token) -> JsonObject:
    allowed = {"role": made.role, "scopes": [asdict(s) for s in made.scopes], "per_minute": made.per_minute}
    return {
        "name": made.name,
        "created_at": made.created_at,
        "created_by": made.created_by,
        "scopes": json.dumps(allowed),
        "networks": json.dumps(list(made.networks)),
        "expires_at": made.expires_at,
        "last_used_at": made.last_used_at,
    }


def _token(row: Any) -> Token:
    allowed = json.loads(row.scopes) if row.scopes else {}
    scopes = tuple(Scope(**{key: tuple(value) for key, value in scope.items()}) for scope in allowed.get("scopes", ()))
    return Token(
        row.name,
        row.created_at,
        row.created_by,
        allowed.get("role"),
        scopes,
        tuple(json.loads(row.networks) if row.networks else ()),
        row.expires_at,
        allowed.get("per_minute"),
        row.last_used_at,
    )
