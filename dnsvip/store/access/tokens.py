"""Bearer tokens: who may call the API, with which rights."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site import NAME_PATTERN
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import ALL, EVERYTHING, ROLES, Rights, Scope
from dnsvip.store.access.audit import AuditEntry, record_change
from dnsvip.store.access.paging import size
from dnsvip.store.database.damage import moment, place, readable, shown, whole
from dnsvip.store.database.seal import is_as_sealed, seal_of
from dnsvip.store.database.session import Rollback, Session
from dnsvip.store.database.tables import token
from dnsvip.store.database.warrant import Warrant, check_warrant, warrant_of

TOKEN_BYTES = 32
AT_ONCE = 16
"""Rows that are read at a time: one may have hundreds of kilobytes."""

KEPT = {"role", "scopes"}, {"role", "scopes", "per_minute"}
"""What a row keeps of the rights of a token: all of the first in any version, and no more than the second."""

TOKEN_KIND = "token"  # noqa: S105 - the kind of tokens in problems and audit rows
NEWER = ("tiers", "tsig", "networks", "attributes")
"""Narrowings that a scope of version 0.2 does not have."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token without its secret. Times are in unix seconds.

    It has the rights of its `role` or of its own `scopes`; with neither, as tokens of versions without scopes, all
    rights. `networks` limit where it may be used from (empty: anywhere), `per_minute` its requests (None: no limit).
    `last_used_at` is accurate to ten minutes. One whose row cannot be read has `unreadable`, what is wrong with it: it
    allows nothing and can be deleted.
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
    unreadable: str | None = None

    @property
    def rights(self) -> Rights:
        """What it allows. A role unknown to this version allows nothing."""
        if self.unreadable is not None:
            return Rights(())
        if self.role is not None:
            return Rights(ROLES.get(self.role, ()))
        return Rights(self.scopes) if self.scopes else EVERYTHING

    def has_expired(self, now: float) -> bool:
        """Whether it is past its end."""
        return self.unreadable is not None or (self.expires_at is not None and now >= self.expires_at)

    def is_from(self, source: str) -> bool:
        """Whether it may be used from an address; a Unix socket ("") is this machine."""
        if not self.networks:
            return True
        try:
            addresses = [ip_address(source)] if source else [ip_address("127.0.0.1"), ip_address("::1")]
        except ValueError:
            return False
        return any(address in ip_network(network) for network in self.networks for address in addresses)


class Tokens:
    """The tokens of a store. Secrets are returned once and stored only as hashes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> list[Token]:
        """Every token by name."""
        async with self._session.read() as connection:
            rows = await connection.execute(select(token).order_by(token.c.name))
            return [token_of(row) for row in rows]

    async def page(
        self, after: str | None, limit: int, fits: Callable[[Token], bool], most_bytes: int
    ) -> tuple[list[Token], bool]:
        """The first tokens by name behind `after` that fit, `limit` at most, but none that begins behind so many bytes;
        and whether there are more. Some are read at a time, beside the event loop."""
        tokens: list[Token] = []
        read, more = 0, True
        while more:
            query = select(token).order_by(token.c.name).limit(AT_ONCE)
            async with self._session.read() as connection:
                rows = (await connection.execute(query if after is None else query.where(token.c.name > after))).all()
            for row in rows:
                one = await asyncio.to_thread(token_of, row)
                if not fits(one):
                    continue
                if len(tokens) >= limit or read >= most_bytes:
                    return tokens, True
                tokens.append(one)
                read += size(row.scopes, row.networks)
            more = len(rows) == AT_ONCE
            after = rows[-1].name if rows else None
        return tokens, False

    async def exist(self) -> bool:
        """Whether there is any token, also one that cannot be read."""
        async with self._session.read() as connection:
            return (await connection.execute(select(token.c.created_at).limit(1))).first() is not None

    async def find(self, clear: str) -> Token | None:
        """The token with this secret, None where there is none."""
        async with self._session.read() as connection:
            return await _select(connection, token.c.hash == hash_of(clear))

    async def check_warrant(self) -> None:
        """Raise RevokedError where the token by which the running task works is not good any more."""
        if (warrant := self._session.warrant) is not None:
            async with self._session.read() as connection:
                await check_warrant(connection, warrant, self._session.now())

    async def hashes(self) -> frozenset[str]:
        """What is stored of every secret, as `hash_of`."""
        async with self._session.read() as connection:
            return frozenset((await connection.execute(select(token.c.hash))).scalars())

    async def warranted(self, clear: str) -> tuple[Token, Warrant] | None:
        """The token with this secret, and the warrant of what is done by it; None where there is none."""
        async with self._session.read() as connection:
            row = (await connection.execute(select(token).where(token.c.hash == hash_of(clear)))).one_or_none()
        return None if row is None else (token_of(row), warrant_of(row))

    async def confirm(self) -> None:
        """See `Session.confirm`."""
        await self._session.confirm()

    async def get(self, name: str) -> Token | None:
        """The token with this name, None where there is none."""
        async with self._session.read() as connection:
            return await _select(connection, token.c.name == place(name))

    async def create(self, name: str, actor: str, like: Token | None = None) -> str:
        """Create a token with the rights and limits of `like`, by default all rights; its secret.

        Raises InvalidSite for an invalid name, Conflict if it is taken.
        """
        return await self._create(name, actor, like, only_first=False) or ""

    async def create_first(self, name: str, actor: str) -> str | None:
        """As `create` if there is no token at all, else None; of several nodes that start, one creates it."""
        return await self._create(name, actor, None, only_first=True)

    async def change(self, before: Token, after: Token, actor: str, *, renew: bool = False) -> str | None:
        """Give a token other rights and limits, and with `renew` a new secret, which is returned.

        Raises Conflict where it has changed meanwhile or is gone.
        """
        clear = _new_secret() if renew else None
        async with self._session.change() as change:
            found = (await change.connection.execute(select(token).where(token.c.name == before.name))).one_or_none()
            if found is None or replace(token_of(found), last_used_at=before.last_used_at) != before:
                raise Conflict([Problem(f"token.{before.name}", "has been changed meanwhile; look at it again")])
            row = _row(after, hash_of(clear) if clear else found.hash)
            await change.connection.execute(update(token).where(token.c.name == after.name).values(**row))
            entry = AuditEntry("~", "token", before.name, _audit_form(before), _audit_form(after))
            await record_change(change, actor, [entry])
        return clear

    async def delete(self, name: str, actor: str) -> bool:
        """Revoke a token; False where there is none."""
        try:
            async with self._session.change() as change:
                stored = await _select(change.connection, token.c.name == place(name))
                if stored is None:
                    raise Rollback
                await change.connection.execute(delete(token).where(token.c.name == place(name)))
                entry = AuditEntry("-", "token", name, _audit_form(stored))
                await record_change(change, actor, [entry])
        except Rollback:
            return False
        return True

    async def note_use(self, name: str, now: float) -> None:
        """Store when a token was last used (unix seconds); makes no generation."""
        async with self._session.write_unordered() as connection:
            await connection.execute(update(token).where(token.c.name == name).values(last_used_at=now))

    async def _create(self, name: str, actor: str, like: Token | None, *, only_first: bool) -> str | None:
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidSite([Problem("token.name", f"must fit {NAME_PATTERN} (it is {name!r})")])
        clear = _new_secret()
        try:
            async with self._session.change() as change:
                if only_first and (await change.connection.execute(select(token.c.name).limit(1))).first():
                    raise Rollback
                new = replace(like or Token(name, 0, actor), name=name, created_at=change.at, created_by=actor)
                await change.connection.execute(insert(token).values(**_row(new, hash_of(clear))))
                entry = AuditEntry("+", "token", name, None, _audit_form(new))
                await record_change(change, actor, [entry])
        except Rollback:
            return None
        except IntegrityError:
            raise Conflict([Problem(f"token.{name}", "exists already")]) from None
        return clear


async def broken_tokens(connection: AsyncConnection) -> list[Problem]:
    """What is wrong with tokens whose rows cannot be read."""
    found = [token_of(row) for row in await connection.execute(select(token).order_by(token.c.name))]
    return [
        Problem(f"{TOKEN_KIND}.{one.name}", one.unreadable, about=(TOKEN_KIND, one.name))
        for one in found
        if one.unreadable is not None
    ]


def token_form(token: Token) -> JsonObject:
    """A token as answers and audit rows show it."""
    plain = asdict(token)
    if token.unreadable is None:
        del plain["unreadable"]
    return plain | {"scopes": [asdict(scope) for scope in token.scopes], "networks": list(token.networks)}


def _audit_form(token: Token) -> str:
    return json.dumps({key: value for key, value in token_form(token).items() if key != "last_used_at"})


def _new_secret() -> str:
    """A clear token of 32 random bytes, with a prefix that scanners for leaked secrets recognize."""
    return f"dnsvip_{secrets.token_urlsafe(TOKEN_BYTES)}"


def hash_of(clear: str) -> str:
    """What is stored of a token. It has 256 random bits, so one round of SHA-256 cannot be searched."""
    return hashlib.sha256(clear.encode()).hexdigest()


async def _select(connection: AsyncConnection, condition: ColumnElement[bool]) -> Token | None:
    row = (await connection.execute(select(token).where(condition))).one_or_none()
    return None if row is None else token_of(row)


def _scope_row(scope: Scope) -> JsonObject:
    """A scope as it is stored: narrowings of later versions only where it has them, as older ones know no others."""
    return {key: value for key, value in asdict(scope).items() if key not in NEWER or value != (ALL,)}


def _row(stored: Token, digest: str) -> JsonObject:
    allowed = {
        "role": stored.role,
        "scopes": [_scope_row(scope) for scope in stored.scopes],
        "per_minute": stored.per_minute,
    }
    row = {
        "name": stored.name,
        "hash": digest,
        "created_at": stored.created_at,
        "created_by": stored.created_by,
        "scopes": json.dumps(allowed),
        "networks": json.dumps(list(stored.networks)),
        "expires_at": stored.expires_at,
        "last_used_at": stored.last_used_at,
    }
    return row | {"seal": seal_of(row)}


def token_of(row: Any) -> Token:
    """The token of a row. One that cannot be read has no rights: whatever is lost must not make it mean more."""
    try:
        return _read(row)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = f"what is stored of it cannot be read ({type(error).__name__}), so it allows nothing; delete it"
        return Token(shown(row.name), 0.0, shown(row.created_by), unreadable=why)


def _read(row: Any) -> Token:
    if not is_as_sealed(row):
        raise ValueError("it is not as it was written")
    if row.scopes is None and row.networks is not None:  # older versions store no networks, and the first no scopes
        raise ValueError("it has lost its scopes")
    allowed = {} if row.scopes is None else json.loads(readable(row.scopes))
    networks = [] if row.networks is None else json.loads(readable(row.networks))
    if not isinstance(allowed, dict) or (row.scopes is not None and not KEPT[0] <= allowed.keys() <= KEPT[1]):
        raise ValueError("other rights than this version knows")
    role, per_minute = allowed.get("role"), allowed.get("per_minute")
    scopes = tuple(Scope(**{key: _texts(value) for key, value in scope.items()}) for scope in allowed.get("scopes", ()))
    for network in (network for scope in scopes for network in scope.networks if network != ALL):
        ip_network(network)
    return Token(
        readable(row.name),
        moment(row.created_at),
        readable(row.created_by),
        None if role is None else readable(role),
        scopes,
        tuple(network for network in _texts(networks) if ip_network(network)),
        None if row.expires_at is None else moment(row.expires_at),
        None if per_minute is None else whole(per_minute),
        None if row.last_used_at is None else moment(row.last_used_at),
    )


def _texts(stored: Any) -> tuple[Any, ...]:
    """A list of texts; raises ValueError where it is none."""
    if not isinstance(stored, list):
        raise ValueError("a list is none")
    return tuple(readable(text) for text in stored)
