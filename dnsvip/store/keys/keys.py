"""The keys of a site in the database: epochs, the key-encryption key, cookie secrets, and those of zones, which change
with their zones; each change a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch
from dnsvip.errors import Problem, SecretError, StoreError
from dnsvip.site import ZoneKey
from dnsvip.site.bind_keys import BindKey
from dnsvip.site.epochs import Reserved
from dnsvip.store.access.audit import AuditEntry, record_change
from dnsvip.store.database.scrub import scrub
from dnsvip.store.database.session import Rollback, Session
from dnsvip.store.database.tables import state
from dnsvip.store.keys import rotation, slots, zone_rollover
from dnsvip.store.keys.cookies import COOKIE_KIND, roll_cookie_secrets
from dnsvip.store.keys.epochs import load_epochs
from dnsvip.store.keys.rewrap import KEK_KIND, Rewrapped, rewrap
from dnsvip.store.keys.zone_keys import load_zone_keys
from dnsvip.store.nodes import load_reports
from dnsvip.store.secrets.kek import KeyEncryptionKey

log = structlog.get_logger(__name__)


class Keys:
    """The keys of a store. Times are in unix seconds."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def epochs(self, cluster: str | None = None) -> Mapping[str, tuple[Epoch, ...]]:
        """The key epochs by IPv6 cluster, or those of one cluster; empty for an unknown one, and
        without those that cannot be read."""
        async with self._session.read() as connection:
            return await load_epochs(connection, self._session.kek, cluster, [])

    async def rotate(self, cluster: str, actor: str, now: float) -> Epoch:
        """Publish a new key epoch of a cluster; `advance` makes it active once dispatchers hold it.

        Raises InvalidSite for an unknown cluster, Conflict where no key slot is free.
        """
        kek = self._session.kek
        async with self._session.change() as change:
            connection, generation = change.connection, change.generation
            nodes = await load_reports(connection)
            entries: list[AuditEntry] = []
            if self._session.database.clock.tells_age:  # a step that is due may free a slot
                _, entries = await rotation.advance(connection, kek, nodes, now, now, generation, scheduled=False)
            epoch, published = await rotation.rotate(connection, kek, cluster, now, generation)
            await record_change(change, actor, [*entries, *published], now)
        return epoch

    async def rotate_at_once(self, cluster: str, actor: str, now: float) -> Epoch:
        """Destroy all keys of a cluster and activate a new one at once: every address issued so far is rejected.

        Raises InvalidSite for an unknown cluster.
        """
        async with self._session.change() as change:
            epoch, entries = await rotation.replace_at_once(
                change.connection, self._session.kek, cluster, now, change.generation
            )
            await record_change(change, actor, entries, now)
        await self._scrub(rewrite=False)
        return epoch

    async def advance(self, now: float, watched_since: float = 0.0) -> list[str]:
        """Take every step of key epochs that is due; a message for each. Safe from several nodes at once.

        `watched_since`: see `dnsvip.site.epochs.advance`.
        """
        kek = self._session.kek
        async with self._session.read() as connection:
            nodes = await load_reports(connection)
            due = await rotation.is_due(connection, kek, nodes, now, watched_since)
            if not due and not await zone_rollover.is_due(connection, kek, now):
                return []
        try:
            async with self._session.change() as change:
                nodes = await load_reports(change.connection)
                events, entries = await rotation.advance(
                    change.connection, kek, nodes, now, watched_since, change.generation
                )
                zone_events, zone_entries = await zone_rollover.advance(change.connection, kek, now)
                if not entries and not zone_entries:
                    raise Rollback  # another node did it first
                both = [*entries, *zone_entries]
                await record_change(change, "epochs", both, now)
        except Rollback:
            return []
        return [*events, *zone_events]

    async def reserve(self, lost: Sequence[Reserved], actor: str, now: float) -> list[Reserved]:
        """Reserve the slots of keys that the database has lost; return the newly reserved ones."""
        try:
            async with self._session.change() as change:
                if not (new := await slots.reserve(change.connection, lost, now)):
                    raise Rollback
                names = [f"{slot.cluster}/{slot.slot}" for slot in new]
                entries = [AuditEntry("+", slots.SLOT_KIND, name) for name in dict.fromkeys(names)]
                await record_change(change, actor, entries, now)
        except Rollback:
            return []
        return new

    async def of_zone(self, zone: str) -> tuple[ZoneKey, ...]:
        """The keys that sign a zone; empty for one that has never been signed. Raises SecretError where one of them
        cannot be read."""
        broken: list[Problem] = []
        async with self._session.read() as connection:
            keys = await load_zone_keys(connection, self._session.kek, broken, [zone])
        if broken:
            raise SecretError(str(broken[0]))
        return keys.get(zone, ())

    async def roll_zone(self, zone: str, actor: str, now: float, *, sep: bool) -> int:
        """Publish a new key of a signed zone, with `sep` one for the DS record; `advance` goes on. The generation.
        Raises InvalidSite where it cannot be."""
        kek = self._session.kek
        return await self._of_zone(
            actor, now, lambda connection: zone_rollover.roll(connection, kek, zone, now, sep=sep)
        )

    async def confirm_zone(self, zone: str, actor: str, now: float) -> int:
        """Go on with a rollover, as the parent has the new DS. The generation. Raises InvalidSite where none waits."""
        kek = self._session.kek
        return await self._of_zone(actor, now, lambda connection: zone_rollover.confirm(connection, kek, zone, now))

    async def import_zone_key(self, zone: str, key: BindKey, actor: str, now: float) -> int:
        """Add a key to a zone that is not signed yet. The generation. Raises InvalidSite where it cannot be."""
        kek = self._session.kek
        return await self._of_zone(actor, now, lambda connection: zone_rollover.take(connection, kek, zone, key, now))

    async def remove_zone_key(self, zone: str, number: int, actor: str, now: float) -> int:
        """Destroy a key that a zone can do without. The generation. Raises InvalidSite for any other."""
        kek = self._session.kek
        done = await self._of_zone(actor, now, lambda connection: zone_rollover.remove(connection, kek, zone, number))
        await self._scrub(rewrite=False)
        return done

    async def _of_zone(
        self, actor: str, now: float, step: Callable[[AsyncConnection], Awaitable[list[AuditEntry]]]
    ) -> int:
        async with self._session.change() as change:
            entries = await step(change.connection)
            await record_change(change, actor, entries, now)
        return change.generation

    async def reserved(self) -> list[Reserved]:
        """The reserved key slots."""
        async with self._session.read() as connection:
            return await slots.load_reserved(connection)

    async def announce(self, key_id: str, actor: str) -> None:
        """Announce the key-encryption key that secrets are about to be wrapped with: nodes reread their key source."""
        async with self._session.change() as change:
            await change.connection.execute(update(state).values(next_key_id=key_id))
            entry = AuditEntry("+", KEK_KIND, key_id)
            await record_change(change, actor, [entry])

    async def rewrap(self, new: KeyEncryptionKey, actor: str) -> Rewrapped:
        """Wrap every secret that can be read with another key-encryption key, in one transaction. A node without that
        key continues with its last snapshot."""
        async with self._session.change() as change:
            done = await rewrap(change.connection, self._session.kek, new)
            entry = AuditEntry("~", KEK_KIND, new.active_id)
            await record_change(change, actor, [entry])
        await self._scrub(rewrite=True)
        return done

    async def _scrub(self, *, rewrite: bool) -> None:
        """Remove replaced secrets from the files of the database; a warning where that fails, as the change stands."""
        try:
            await scrub(self._session.database, rewrite=rewrite)
        except StoreError as error:
            log.warning("replaced secrets may still be in the files of the database", error=str(error))

    async def roll_cookies(self, actor: str) -> int:
        """Make DNS cookies with the next secret from now on; cookies of the previous one stay valid. The generation."""
        async with self._session.change() as change:
            await roll_cookie_secrets(change.connection, self._session.kek)
            entry = AuditEntry("~", COOKIE_KIND, "secrets")
            await record_change(change, actor, [entry])
        return change.generation
