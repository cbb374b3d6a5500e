"""Bearer tokens: who may call the API."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.model import NAME_PATTERN
from dnsvip.store.tables import token

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token without its secret. `created_at` is in unix seconds."""

    name: str
    created_at: float
    created_by: str


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
    """Store a token's hash."""
    row = {"name": made.name, "created_at": made.created_at, "created_by": made.created_by, "hash": token_hash(clear)}
    await connection.execute(insert(token).values(row))


async def find_token(connection: AsyncConnection, clear: str) -> Token | None:
    """The token, None where there is no such one."""
    query = select(token).where(token.c.hash == token_hash(clear))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Token(row.name, row.created_at, row.created_by)


async def all_tokens(connection: AsyncConnection) -> list[Token]:
    """Every token by name."""
    rows = await connection.execute(select(token).order_by(token.c.name))
    return [Token(row.name, row.created_at, row.created_by) for row in rows]
