"""The objects of a site in the database: read, listed, and changed in whole transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, Problem, UnreadableError
from dnsvip.site import Client, Site
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change, Origin
from dnsvip.site.rights import Rights
from dnsvip.site.size import is_large
from dnsvip.site.unreadable import Unreadable
from dnsvip.store.access.paging import beginning_within, size
from dnsvip.store.access.visible import Visible, name_fits
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import place
from dnsvip.store.database.database import current_generation
from dnsvip.store.database.session import Rollback, Session
from dnsvip.store.database.tables import KINDS, state, stored_columns
from dnsvip.store.objects.applying import Author, FollowKeys, ZoneCheck, apply_changes
from dnsvip.store.objects.bulk import Settle, Tally
from dnsvip.store.objects.collisions import collisions, collisions_within
from dnsvip.store.objects.import_run import Batches, ImportRun
from dnsvip.store.objects.listing import Listing, claimants, counted, listed
from dnsvip.store.objects.permit import forbidden
from dnsvip.store.objects.reading import LARGE_ROW, load_origins, load_site, read_large, with_stand_in
from dnsvip.store.objects.rows import read_row
from dnsvip.store.zones.journal import differences


@dataclass(frozen=True, slots=True)
class Stored:
    """A site as read in one transaction: its generation, who made each object, and those that cannot be read, which
    the site is without; the last two by (kind, name)."""

    generation: int
    site: Site
    origins: Mapping[tuple[str, str], Origin]
    unreadable: Mapping[tuple[str, str], Unreadable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """The generation that has changes, and the changes as they are stored."""

    generation: int
    changes: Sequence[Change]


class Objects:
    """The objects of a store. `follow_keys` makes or destroys the keys of changed ones."""

    def __init__(self, session: Session, follow_keys: FollowKeys) -> None:
        self._session = session
        self._follow_keys = follow_keys

    async def stored(self) -> Stored:
        """The site with its generation and origins, to plan changes against."""
        async with self._session.read() as connection:
            generation = await current_generation(connection)
            broken: list[Unreadable] = []
            site = await load_site(connection, self._session.kek, KINDS, broken)
            await self._check_key(connection, broken)
            known = {(one.kind, one.name): await with_stand_in(connection, one) for one in broken}
            return Stored(generation, site, await load_origins(connection), known)

    async def generation(self) -> int:
        """The generation of the site."""
        async with self._session.read() as connection:
            return await current_generation(connection)

    async def site(self) -> Site:
        """The site without its keys."""
        return (await self.stored()).site

    async def get(self, kind: str, name: str) -> SiteObject | None:
        """One object, None where there is none; raises UnreadableError for one that cannot be read."""
        thing = await self.find(kind, name)
        if isinstance(thing, Unreadable):
            raise UnreadableError(thing.why)
        return thing

    async def find(self, kind: str, name: str) -> SiteObject | Unreadable | None:
        """One object, also one that cannot be read; None where there is none."""
        table = KINDS[kind]
        async with self._session.read() as connection:
            row = (
                await connection.execute(select(*stored_columns(table)).where(table.c.name == place(name)))
            ).one_or_none()
            thing = None if row is None else await read_large(kind, row, self._session.kek)
            if isinstance(thing, Unreadable):
                await self._check_key(connection, [thing])
                thing = await with_stand_in(connection, thing)
        return thing

    async def page(self, wanted: Listing) -> list[SiteObject | Unreadable]:
        """The objects of a page."""
        return [item for item, _ in await self.places(wanted)]

    async def places(self, wanted: Listing) -> list[tuple[SiteObject | Unreadable, str | int]]:
        """The objects of a page, each with its sort value, after which the next page may start."""
        async with self._session.read() as connection:
            rows = await listed(connection, wanted)
            page = await self._read(wanted.kind, rows)
            await self._check_key(connection, [item for item, _ in page if isinstance(item, Unreadable)])
        return page

    async def page_within(
        self, wanted: Listing, most_bytes: int
    ) -> tuple[list[tuple[SiteObject | Unreadable, str | int]], bool]:
        """`places` of what begins within `most_bytes` of stored text, and whether there is more."""
        async with self._session.read() as connection:
            rows = await listed(connection, replace(wanted, limit=wanted.limit + 1))
        kept = rows[: min(wanted.limit, beginning_within([size(row.spec) for row in rows], most_bytes))]
        page = await self._read(wanted.kind, kept)
        broken = [item for item, _ in page if isinstance(item, Unreadable)]
        if broken:
            async with self._session.read() as connection:
                await self._check_key(connection, broken)
        return page, len(rows) > len(kept)

    async def _read(self, kind: str, rows: Sequence[Any]) -> list[tuple[SiteObject | Unreadable, str | int]]:
        """The objects of the rows of a page, with their sort values."""
        large = size(*(row.spec for row in rows)) > LARGE_ROW
        return await aside(large, lambda: [(read_row(kind, row, self._session.kek), row.place) for row in rows])

    async def _check_key(self, connection: AsyncConnection, broken: Sequence[Unreadable]) -> None:
        """Raise SecretError where TSIG keys cannot be read because the key-encryption key is another one."""
        if any(one.kind == "tsig" for one in broken):
            self._session.prefer_key((await connection.execute(select(state.c.key_check))).scalar_one())

    async def count_some(self, wanted: Listing) -> int:
        """The number of objects that match the filters of a page, at most COUNTED + 1."""
        async with self._session.read() as connection:
            return await counted(connection, wanted)

    async def count(self, kind: str, visible: Visible = None) -> int:
        """The number of objects of a kind, or of those whose names fit one of the patterns `visible`."""
        query = select(func.count()).select_from(KINDS[kind])
        if visible is not None:
            query = query.where(name_fits(KINDS[kind].c.name, kind, visible))
        async with self._session.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def claimants(self, step: str, value: str) -> list[str]:
        """The clients that claim a value, or a network around an address, the most specific first."""
        async with self._session.read() as connection:
            return await claimants(connection, step, value)

    async def forbidden(self, rights: Rights, before: Client | None, after: Client) -> str | None:
        """Why rights do not reach a client that is to be stored in place of `before`; None where they do."""
        async with self._session.read() as connection:
            return await forbidden(connection, rights, before, after)

    async def apply(
        self,
        changes: Sequence[Change],
        actor: str,
        origin: Origin,
        *,
        expected: int | None = None,
        check_zone: ZoneCheck | None = None,
        dry_run: bool = False,
        source: str | None = None,
    ) -> int:
        """As `make`; the generation alone."""
        made = await self.make(
            changes, actor, origin, expected=expected, check_zone=check_zone, dry_run=dry_run, source=source
        )
        return made.generation

    async def make(
        self,
        changes: Sequence[Change],
        actor: str,
        origin: Origin,
        *,
        expected: int | None = None,
        check_zone: ZoneCheck | None = None,
        dry_run: bool = False,
        source: str | None = None,
    ) -> Made:
        """Make all the changes in one transaction, or none. No changes make no generation.

        Raises InvalidSite where the site would break a rule afterwards, Conflict where an object exists already, has
        changed meanwhile (`expected` is the generation that the changes were planned against) or claims what another
        has. `dry_run` raises the same and writes nothing. `source` is the address of who asks for it, for the audit,
        where no token says so.
        """
        if not changes:
            async with self._session.read() as connection:
                return Made(await current_generation(connection), changes)
        large = is_large([(change.before, change.after) for change in changes])
        if problems := await aside(large, collisions_within, changes):
            raise Conflict(problems)
        found = {} if dry_run else await differences(self._session.differ, changes)
        try:
            async with self._session.change() as change:
                _check_unchanged(change.generation - 1, expected)
                author = Author(actor, origin, change.at, change.generation, source or change.source)
                changes = await apply_changes(
                    change.connection, self._session.kek, changes, author, self._follow_keys, check_zone, found
                )
                if dry_run:
                    raise Rollback
        except Rollback:
            return Made(change.generation - 1, changes)
        except IntegrityError as error:
            async with self._session.read() as connection:
                problems = await collisions(connection, changes)
            raise Conflict(problems or [Problem("site", "has changed meanwhile; try again")]) from error
        return Made(change.generation, changes)

    async def import_clients(
        self,
        batches: Batches,
        actor: str,
        settle: Settle,
        rights: Rights,
        tally: Tally,
        *,
        per_line: bool,
        dry_run: bool = False,
    ) -> int | None:
        """Store very many clients, all or none in one generation, or with `per_line` batch by batch; the last
        generation, None where nothing was written. See `ImportRun`.

        `batches` gives the lines, anew each time. `tally` counts the outcome of each line as the import moves on.
        `settle` gives the client to store in place of a stored one, `rights` are what the caller may write and see.
        """
        run = ImportRun(self._session, actor, settle, rights, tally)
        if per_line and not dry_run:
            return await run.each(batches)
        return await run.whole(batches, dry_run=dry_run)


def _check_unchanged(generation: int, expected: int | None) -> None:
    """Raise Conflict unless the site still has the generation that changes were planned against."""
    if expected is not None and expected != generation:
        text = f"has changed meanwhile (generation {generation}, not {expected}); look at it again"
        raise Conflict([Problem("site", text)])
