"""Snapshots of a store: the whole site with its keys, kept up to date by difference."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from dnsvip.site import Snapshot
from dnsvip.site.history import Course, Mark, course
from dnsvip.store.access.audit import read_stamp, stamp_of
from dnsvip.store.database.database import current_generation, generation_of
from dnsvip.store.database.session import Session
from dnsvip.store.database.tables import state
from dnsvip.store.snapshots.loading import load, load_difference


@dataclass(frozen=True, slots=True)
class Followed:
    """A snapshot with its mark in the database's history, how that history relates to the mark before, and the id of
    the announced key-encryption key (None: none is announced)."""

    snapshot: Snapshot
    mark: Mark
    course: Course
    next_key_id: str | None


class Snapshots:
    """Snapshots of one database."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def load(self) -> Snapshot:
        """The whole site and its keys."""
        async with self._session.read() as connection:
            return await load(connection, self._session.kek)

    async def refresh(self, old: Snapshot) -> Snapshot:
        """`old` brought up to date by reading only what changed; `old` itself if nothing did."""
        async with self._session.read() as connection:
            identity = (await connection.execute(select(state.c.identity))).scalar_one()
            if identity != self._session.identity:  # another database is in its place
                self._session.identity = identity
                return await load(connection, self._session.kek)
            return await load_difference(connection, self._session.kek, old, await current_generation(connection))

    async def follow(self, old: Snapshot | None, mark: Mark | None) -> Followed:
        """`old`, which was read at `mark`, brought up to date.

        Loaded whole if `old` is None, or if the database's history does not continue from the mark.
        """
        async with self._session.read() as connection:
            own = state.c.identity, state.c.generation, state.c.key_check, state.c.next_key_id
            marked = stamp_of(-1 if mark is None else mark.generation).label("marked_at")
            # One question, as a thousand nodes ask it after each change.
            row = (await connection.execute(select(*own, marked, stamp_of(state.c.generation).label("at")))).one()
            self._session.identity = row.identity
            self._session.prefer_key(row.key_check)
            generation = generation_of(row.generation)
            how = course(mark, row.identity, generation, read_stamp(row.marked_at))
            if old is None or how is not Course.ONWARD:
                snapshot = await load(connection, self._session.kek)
            else:
                snapshot = await load_difference(connection, self._session.kek, old, generation)
            at = read_stamp(row.at) or 0.0
            return Followed(snapshot, Mark(row.identity, snapshot.generation, at), how, row.next_key_id)
