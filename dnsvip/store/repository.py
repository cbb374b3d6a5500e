"""The store: one site with its keys in one database, changed only in whole transactions.

Promise: every change raises `generation` by one and leaves audit rows; nothing is half applied;
nothing committed is lost; no secret leaves in clear but inside a Snapshot. Answers and packets never
wait for it: they use the last Snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from dnsvip.errors import Conflict, Problem, StoreError
from dnsvip.site import Site, Snapshot
from dnsvip.site.history import Course, Mark, course
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change, Origin
from dnsvip.store import loading
from dnsvip.store.access import tokens as people
from dnsvip.store.access.audit import AuditEntry, AuditRow, record, recorded
from dnsvip.store.access.tokens import Token
from dnsvip.store.applying import Author, ZoneCheck, apply_changes
from dnsvip.store.bulk import Allowed, Importer, Line, Settle, Tally
from dnsvip.store.database.database import Database, make_file
from dnsvip.store.database.tables import KINDS, state, token
from dnsvip.store.objects.collisions import collisions, collisions_within
from dnsvip.store.objects.listing import Listing, claimants, counted, listed
from dnsvip.store.objects.rows import from_row
from dnsvip.store.opened import Undone
from dnsvip.store.operation import Operated
from dnsvip.store.schema import prefer_key, prepare
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.watch import watch


@dataclass(frozen=True, slots=True)
class Stored:
    """A site as read in one transaction: its generation, and who made each object."""

    generation: int
    site: Site
    origins: Mapping[tuple[str, str], Origin]


@dataclass(frozen=True, slots=True)
class Followed:
    """A snapshot, where in the database's history it is, whether what was known before leads there, and the id of
    the key-encryption key that is about to be changed to."""

    snapshot: Snapshot
    mark: Mark
    course: Course
    next_key_id: str | None


class Store(Operated):
    """One open database. Safe for concurrent use by the tasks of one event loop; made by `open`."""

    @classmethod
    async def open(cls, url: str, kek: KeyEncryptionKey, *, migrate: bool = True) -> Store:
        """Open the database of a node file, making file and tables where they are missing.

        Raises StoreError where it cannot be reached or is newer than this program, SecretError where the key
        is not the one its secrets are wrapped with.
        """
        database = Database(url)
        if database.is_sqlite:
            make_file(database.path)
        try:
            return cls(database, kek, await prepare(database, kek, migrate=migrate))
        except BaseException:
            await database.close()
            raise

    async def snapshot(self) -> Snapshot:
        """The whole site and its keys."""
        async with self._database.read() as connection:
            return await loading.load(connection, self._kek)

    async def refresh(self, old: Snapshot) -> Snapshot:
        """`old` brought up to date by reading only what changed; `old` itself where nothing did."""
        async with self._database.read() as connection:
            identity = (await connection.execute(select(state.c.identity))).scalar_one()
            if identity != self.identity:  # the database was replaced by another one
                self.identity = identity
                return await loading.load(connection, self._kek)
            return await loading.load_difference(connection, self._kek, old)

    async def follow(self, old: Snapshot | None, mark: Mark | None) -> Followed:
        """`old`, which is of `mark`, brought up to date; whole where there is none, or the database is no longer the
        one that it was read from."""
        async with self._database.read() as connection:
            query = select(state.c.identity, state.c.generation, state.c.key_check, state.c.next_key_id)
            row = (await connection.execute(query)).one()
            self.identity = row.identity
            prefer_key(self._database, self._kek, row.key_check)
            known = None if mark is None else await loading.stamp(connection, mark.generation)
            how = course(mark, row.identity, row.generation, known)
            if old is None or how is not Course.ONWARD:
                snapshot = await loading.load(connection, self._kek)
            else:
                snapshot = await loading.load_difference(connection, self._kek, old)
            stamp = await loading.stamp(connection, snapshot.generation) or 0.0
            return Followed(snapshot, Mark(row.identity, snapshot.generation, stamp), how, row.next_key_id)

    async def generation(self) -> int:
        """The number of changes so far."""
        async with self._database.read() as connection:
            return await loading.current_generation(connection)

    async def stored(self) -> Stored:
        """The site with its generation and origins, for planning against."""
        async with self._database.read() as connection:
            generation = await loading.current_generation(connection)
            site = await loading.load_site(connection, self._kek, KINDS)
            return Stored(generation, site, await loading.load_origins(connection))

    async def site(self) -> Site:
        """The site without its keys."""
        return (await self.stored()).site

    async def origins(self) -> Mapping[tuple[str, str], Origin]:
        """Who made each object, by (kind, name)."""
        async with self._database.read() as connection:
            return await loading.load_origins(connection)

    async def get(self, kind: str, name: str) -> SiteObject | None:
        """One object, None where there is none."""
        table = KINDS[kind]
        async with self._database.read() as connection:
            row = (await connection.execute(select(table).where(table.c.name == name))).one_or_none()
        return None if row is None else from_row(kind, row, self._kek)

    async def page(self, wanted: Listing) -> list[SiteObject]:
        """The objects of a page."""
        return [thing for thing, _ in await self.places(wanted)]

    async def places(self, wanted: Listing) -> list[tuple[SiteObject, str | int]]:
        """The objects of a page, each with what it is sorted by, which the next page may start behind."""
        async with self._database.read() as connection:
            rows = await listed(connection, wanted)
        return [(from_row(wanted.kind, row, self._kek), row.place) for row in rows]

    async def count_some(self, wanted: Listing) -> int:
        """How many objects the filters of a page leave, at most COUNTED + 1."""
        async with self._database.read() as connection:
            return await counted(connection, wanted)

    async def claimants(self, step: str, value: str) -> list[str]:
        """The clients that claim a value, or an address by a network around it, the closest first."""
        async with self._database.read() as connection:
            return await claimants(connection, step, value)

    async def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(KINDS[kind]))).scalar_one()

    async def apply(
        self,
        changes: Sequence[Change],
        actor: str,
        origin: Origin,
        *,
        expected: int | None = None,
        check_zone: ZoneCheck | None = None,
        dry_run: bool = False,
    ) -> int:
        """Make all the changes in one transaction, or none; the new generation.

        Raises InvalidSite where the site would break a rule afterwards, Conflict where something exists
        already, was changed meanwhile (`expected` is the generation that the changes were made for) or
        claims what is taken. No changes make no generation. `dry_run` finds the same problems and writes nothing.
        """
        if not changes:
            return await self.generation()
        if problems := collisions_within(changes):
            raise Conflict(problems)
        try:
            async with self._change() as (connection, generation, now):
                if expected is not None and expected != generation - 1:
                    text = f"has changed meanwhile (generation {generation - 1}, not {expected}); look at it again"
                    raise Conflict([Problem("site", text)])
                author = Author(actor, origin, now, generation)
                await apply_changes(connection, self._kek, changes, author, check_zone)
                if dry_run:
                    raise Undone
        except Undone:
            return generation - 1
        except IntegrityError as error:
            async with self._database.read() as connection:
                problems = await collisions(connection, changes)
            raise Conflict(problems or [Problem("site", "has changed meanwhile; try again")]) from error
        return generation

    async def import_clients(
        self,
        batches: AsyncIterator[Sequence[Line]],
        actor: str,
        settle: Settle,
        allowed: Allowed,
        tally: Tally,
        told: Callable[[], Any],
        *,
        per_line: bool,
        dry_run: bool = False,
    ) -> int | None:
        """Store very many clients in one transaction; the new generation, None where nothing was written.

        What became of each line is in `tally`, and `told` is called whenever that has moved on. Where a line is
        refused nothing is stored, or with `per_line` all but those lines. `settle` gives the client to store for
        one that replaces another, `allowed` says whose names may be written.
        """
        try:
            async with self._change() as (connection, generation, now):
                site = await loading.load_rules(connection, self._kek)
                author = Author(actor, "api", now, generation)
                await Importer(connection, author, site, settle, allowed, tally).store(batches, told)
                if dry_run or (tally.failed and not per_line) or not tally.made + tally.changed:
                    raise Undone
        except Undone:
            return None
        return generation

    async def create_token(self, name: str, actor: str, like: Token | None = None) -> str:
        """A new bearer token in clear, which is stored nowhere; it may what `like` may, by default everything.

        Raises InvalidSite for a name that cannot be one, Conflict where it is taken.
        """
        return await self._make_token(name, actor, like, only_first=False) or ""

    async def create_first_token(self, name: str, actor: str) -> str | None:
        """As `create_token` where there is no token at all, else None; one of several nodes that start makes it."""
        return await self._make_token(name, actor, None, only_first=True)

    async def find_token(self, clear: str) -> Token | None:
        """The token, None where there is no such one."""
        async with self._database.read() as connection:
            return await people.find_token(connection, clear)

    async def get_token(self, name: str) -> Token | None:
        """The token with a name, None where there is none."""
        async with self._database.read() as connection:
            return await people.named_token(connection, name)

    async def change_token(self, before: Token, after: Token, actor: str, *, renew: bool = False) -> str | None:
        """Give a token other rights and limits, and with `renew` a new secret, which is returned, in place of its old.

        Raises Conflict where it has changed meanwhile or is gone.
        """
        clear = people.new_token() if renew else None
        async with self._change() as (connection, generation, now):
            stored = await people.named_token(connection, before.name)
            if stored is None or replace(stored, last_used_at=before.last_used_at) != before:
                raise Conflict([Problem(f"token.{before.name}", "has been changed meanwhile; look at it again")])
            await people.change_token(connection, after, clear)
            old, new = people.audit_token(before), people.audit_token(after)
            entry = AuditEntry("~", "token", before.name, old, new)
            await record(connection, actor, now, generation, [entry])
        return clear

    async def note_use(self, name: str, now: float) -> None:
        """Note when a token was last used; makes no generation."""
        async with self._database.write_unordered() as connection:
            await people.note_use(connection, name, now)

    async def tokens(self) -> list[Token]:
        """Every token by name, without its secret."""
        async with self._database.read() as connection:
            return await people.all_tokens(connection)

    async def delete_token(self, name: str, actor: str) -> bool:
        """Revoke a token; whether there was one."""
        try:
            async with self._change() as (connection, generation, now):
                found = await people.named_token(connection, name)
                if found is None:
                    raise Undone
                await connection.execute(delete(token).where(token.c.name == name))
                entry = AuditEntry("-", "token", name, people.audit_token(found))
                await record(connection, actor, now, generation, [entry])
        except Undone:
            return False
        return True

    async def audit(
        self, limit: int = 100, before: int | None = None, about: Mapping[str, str] | None = None, since: float = 0.0
    ) -> list[AuditRow]:
        """The newest audit rows first; `before` is the id of the last row of the page before.

        `about` holds what kind, name, actor or action must be; `since` is in unix seconds.
        """
        async with self._database.read() as connection:
            return await recorded(connection, limit, before, about or {}, since)

    def watch(self) -> AsyncGenerator[int]:
        """The generation now, then each that follows, within 0.2 s; goes on through outages."""
        return watch(self._database)

    async def _make_token(self, name: str, actor: str, like: Token | None, *, only_first: bool) -> str | None:
        people.check_token_name(name)
        clear = people.new_token()
        try:
            async with self._change() as (connection, generation, now):
                if only_first and await people.all_tokens(connection):
                    raise Undone
                made = replace(like or Token(name, now, actor), name=name, created_at=now, created_by=actor)
                await people.add_token(connection, made, clear)
                entry = AuditEntry("+", "token", name, None, people.audit_token(made))
                await record(connection, actor, now, generation, [entry])
        except Undone:
            return None
        except IntegrityError:
            raise Conflict([Problem(f"token.{name}", "exists already")]) from None
        return clear


__all__ = ["Store", "StoreError", "Stored"]
