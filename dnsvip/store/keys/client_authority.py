"""The site's own authority of client certificates: made when it is first needed, replaced while both are trusted.

Its key stays in the database, wrapped; snapshots have certificates alone. One that was replaced is trusted until the
last certificate that it issued has ended, or until it is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, Problem, SecretError
from dnsvip.store.access.audit import AuditEntry, enrolled, record_change
from dnsvip.store.database.damage import LATEST, readable, shown, whole
from dnsvip.store.database.session import Rollback, Session, Transaction
from dnsvip.store.database.tables import client_authority
from dnsvip.store.keys.certificates import LONGEST_DAYS, Issued, PublicKey, ends_at, fingerprint, issue, new_authority
from dnsvip.store.secrets.kek import KeyEncryptionKey, authority_context

AUTHORITY = "client_ca"
"""The kind of an authority in problems, scopes and audit rows; its name is its number."""

MOST = 8
"""Authorities that are trusted at once."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority without its key; when it was replaced (None: it signs) and until when it is trusted, in unix
    seconds."""

    number: int
    certificate: str
    replaced_at: int | None

    @property
    def trusted_until(self) -> int:
        """The end of its certificate, and of the last one that it can have issued."""
        end = ends_at(self.certificate)
        return end if self.replaced_at is None else min(end, self.replaced_at + LONGEST_DAYS * 86_400)


class ClientAuthorities:
    """The authorities of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> list[Authority]:
        """Those that can be read, the newest first."""
        async with self._session.read() as connection:
            return [authority for authority, _ in await _rows(connection, [])]

    async def create(self, actor: str, now: float) -> Authority:
        """Make the first; raises Conflict where there is one."""
        async with self._session.change() as change:
            if await _rows(change.connection, []):
                raise Conflict([Problem(AUTHORITY, "there is one already; rotate it for another")])
            return await self._made(change, actor, now)

    async def rotate(self, actor: str, now: float) -> Authority:
        """Make another, which signs from now on; those before stay trusted while their certificates last. Raises
        Conflict where there are too many."""
        async with self._session.change() as change:
            connection = change.connection
            held = [authority for authority, _ in await _rows(connection, [])]
            for old in held:
                if old.trusted_until < now:
                    await connection.execute(delete(client_authority).where(client_authority.c.number == old.number))
            if sum(old.trusted_until >= now for old in held) >= MOST:
                raise Conflict([Problem(AUTHORITY, f"{MOST} are trusted; remove one that is no longer needed")])
            in_use = client_authority.c.replaced_at.is_(None)
            await connection.execute(update(client_authority).where(in_use).values(replaced_at=int(now)))
            return await self._made(change, actor, now)

    async def remove(self, number: int, actor: str) -> bool:
        """Trust an authority no more, from now on: all that it issued is void. False where there is none."""
        here = client_authority.c.number == number
        try:
            async with self._session.change() as change:
                found = (await change.connection.execute(select(client_authority.c.number).where(here))).first()
                if found is None:
                    raise Rollback
                await change.connection.execute(delete(client_authority).where(here))
                await record_change(change, actor, [AuditEntry("-", AUTHORITY, str(number))])
        except Rollback:
            return False
        return True

    async def sign(
        self, client: str, key_generation: int, public_key: PublicKey, actor: str, now: float, days: int
    ) -> Issued:
        """A certificate for a client, told by an audit row. Makes the first authority where there is none; raises
        SecretError where the key of the newest cannot be read, RevokedError as every change does."""
        async with self._session.change() as change:
            if (newest := await self._newest(change.connection)) is None:
                await self._made(change, actor, now)
                newest = await self._newest(change.connection)
            assert newest is not None  # noqa: S101 - for mypy; it has just been made
            issued = issue(*newest, client, key_generation, public_key, now, days)
            certificate = {"not_after": issued.not_after, "sha256": fingerprint(issued.certificate)}
            await record_change(change, actor, [enrolled(client, key_generation, certificate=certificate)])
        return issued

    async def _newest(self, connection: AsyncConnection) -> tuple[str, bytes] | None:
        query = select(client_authority).order_by(client_authority.c.number.desc()).limit(1)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        return readable(row.certificate), self._session.kek.unwrap(row.secret, authority_context(whole(row.number)))

    async def _made(self, change: Transaction, actor: str, now: float) -> Authority:
        numbers = (await change.connection.execute(select(client_authority.c.number))).scalars()
        number = max((value for value in numbers if isinstance(value, int)), default=0) + 1
        certificate, secret = new_authority(number, now)
        row = {"number": number, "certificate": certificate, "replaced_at": None}
        row["secret"] = self._session.kek.wrap(secret, authority_context(number))
        await change.connection.execute(insert(client_authority).values(row))
        await record_change(change, actor, [AuditEntry("+", AUTHORITY, str(number))])
        return Authority(number, certificate, None)


async def load_client_ca(connection: AsyncConnection, kek: KeyEncryptionKey, broken: list[Problem]) -> tuple[str, ...]:
    """The certificates, the newest first. One that cannot be read is trusted no more, and added to `broken`; so is one
    whose key cannot be read, which is trusted all the same."""
    certificates = []
    for authority, secret in await _rows(connection, broken):
        certificates.append(authority.certificate)
        try:
            kek.unwrap(secret, authority_context(authority.number))
        except (SecretError, TypeError) as error:
            broken.append(_problem(authority.number, f"its key cannot be read ({error}), so it signs nothing"))
    return tuple(certificates)


async def _rows(connection: AsyncConnection, broken: list[Problem]) -> Sequence[tuple[Authority, Any]]:
    found = []
    for row in await connection.execute(select(client_authority).order_by(client_authority.c.number.desc())):
        try:
            replaced = None if row.replaced_at is None else whole(row.replaced_at, LATEST)
            authority = Authority(whole(row.number), readable(row.certificate), replaced)
            _ = authority.trusted_until
            found.append((authority, row.secret))
        except (ValueError, TypeError) as error:
            why = f"what is stored of it cannot be read ({type(error).__name__}), so it is not trusted"
            broken.append(_problem(row.number, why))
    return found


def _problem(number: Any, why: str) -> Problem:
    return Problem(f"{AUTHORITY}.{shown(number)}", f"{why}; rotate and remove it", about=(AUTHORITY, shown(number)))
