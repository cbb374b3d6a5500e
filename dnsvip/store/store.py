"""The store: one site with its keys in one database, changed only in whole transactions.

Promise: every change raises `generation` by one and writes audit rows; nothing is half applied; nothing committed is
lost; secrets are in clear only in a Snapshot. Answers and packets never wait for the store: they use the last Snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dnsvip.errors import SecretError
from dnsvip.site.zone_changes import ZoneDiffer
from dnsvip.store.access.audit import Audit
from dnsvip.store.access.audit_changes import AuditChanges
from dnsvip.store.access.console_sessions import ConsoleSessions
from dnsvip.store.access.tokens import Tokens
from dnsvip.store.backup import Backups
from dnsvip.store.database.clock import SharedClock
from dnsvip.store.database.database import Database, current_generation, make_file
from dnsvip.store.database.places import Places
from dnsvip.store.database.schema import prepare
from dnsvip.store.database.session import Identity, Session
from dnsvip.store.database.warrant import Warrant
from dnsvip.store.database.watch import cut_where_silent, watch
from dnsvip.store.dns_token_uses import DnsTokenUses
from dnsvip.store.drains import Drains
from dnsvip.store.keys.client_authority import ClientAuthorities
from dnsvip.store.keys.cookies import make_missing_cookie_secrets
from dnsvip.store.keys.keys import Keys
from dnsvip.store.keys.rotation import follow_cluster
from dnsvip.store.keys.zone_keys import follow_zone
from dnsvip.store.nodes import Nodes
from dnsvip.store.objects.objects import Objects
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.secrets.sources import missing
from dnsvip.store.seen_updates import SeenUpdates
from dnsvip.store.snapshots.snapshots import Snapshots
from dnsvip.store.usage import ClientUsage
from dnsvip.store.zones.refreshes import Refreshes
from dnsvip.store.zones.turns import Turns


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """What another process of this node needs to open the store that this one has open; secret."""

    url: str = field(repr=False)
    kek: KeyEncryptionKey = field(repr=False)
    identity: str
    warrant: Warrant | None = None
    listen: str | None = field(default=None, repr=False)


class Store:
    """One open database, by parts. Safe for concurrent use by the tasks of one event loop; created by `open`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.objects = Objects(session, {"cluster": follow_cluster, "zone": follow_zone})
        self.snapshots = Snapshots(session)
        self.keys = Keys(session)
        self.tokens = Tokens(session)
        self.console_sessions = ConsoleSessions(session)
        self.audit = Audit(session)
        self.audit_changes = AuditChanges(session)
        self.nodes = Nodes(session)
        self.drains = Drains(session)
        self.usage = ClientUsage(session)
        self.dns_token_uses = DnsTokenUses(session)
        self.client_authorities = ClientAuthorities(session)
        self.seen_updates = SeenUpdates(session)
        self.backups = Backups(session)
        self.refreshes = Refreshes(session)
        self.turns = Turns()

    @classmethod
    async def open(
        cls,
        url: str,
        kek: KeyEncryptionKey,
        *,
        listen: str | None = None,
        migrate: bool = True,
        differ: ZoneDiffer | None = None,
    ) -> Store:
        """Open the database of a node file, making file and tables where they are missing; `listen` as in `Database`.
        With `differ` changes of zones are kept for incremental transfers.

        Raises StoreError where it cannot be reached or is newer than this program (or, without `migrate`, older),
        SecretError where `kek` is not the key that its secrets are wrapped with.
        """
        database = Database(url, listen=listen)
        if database.is_sqlite:
            make_file(database.path)
        try:
            identity, key_check = await prepare(database, kek, migrate=migrate)
            session = Session(database, kek, Identity(identity), differ=differ)
            try:
                session.prefer_key(key_check)
            except SecretError:
                if (file := kek.take_back()) is None:
                    raise
                raise SecretError(missing(file, database.label)) from None
            kek.made = None
            await make_missing_cookie_secrets(session)
        except BaseException:
            await database.close()
            raise
        return cls(session)

    @property
    def access(self) -> StoreAccess:
        """For another process to `join`, with the warrant of the running task."""
        session = self._session
        listen = session.database.listen_url
        return StoreAccess(session.database.url, session.kek, session.identity, session.warrant, listen)

    @classmethod
    @asynccontextmanager
    async def joined(cls, access: StoreAccess, differ: ZoneDiffer | None = None) -> AsyncIterator[Store]:
        """The store that another process has opened, by connections of its own, which are made when they are needed and
        closed at the end, or where the server has been silent for some seconds."""
        database, watching = (Database(access.url, listen=access.listen) for _ in range(2))
        identity = Identity(access.identity)
        store = cls(Session(database, access.kek, identity, access.warrant, differ=differ))
        silent = None if database.is_sqlite else asyncio.create_task(cut_where_silent(database, watching))
        try:
            yield store
        finally:
            if silent is not None:
                silent.cancel()
                await asyncio.wait([silent])
                await watching.close()
            await store.close()

    def for_callers(self, total: int, per_caller: int, patience: float) -> Store:
        """This store for callers of the API, by connections of its own, closed with this one: `total` transactions at
        once and `per_caller` of one. Others wait for `patience` seconds, then OwnRequests or DatabaseBusy is raised."""
        return Store(self._session.beside(Places(total, per_caller, patience)))

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file on this machine."""
        return self._session.database.is_sqlite

    @property
    def identity(self) -> str:
        """The random id of the database, as last read; a replacement has another one."""
        return self._session.identity

    async def generation(self) -> int:
        """The number of changes so far."""
        async with self._session.read() as connection:
            return await current_generation(connection)

    @property
    def clock(self) -> SharedClock:
        """The time that all nodes share."""
        return self._session.database.clock

    def watch(self) -> AsyncGenerator[int]:
        """The current generation, then each later one within 0.2 s; continues through outages."""
        return watch(self._session.database)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.database.close()
