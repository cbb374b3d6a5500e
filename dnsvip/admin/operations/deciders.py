"""The decision functions for examinations: the DNS engine and the dispatcher's tables of the newest snapshot.

The engine is the one that serves, where it runs in this process. What has to be made is made in a thread,
when it is first asked for, and from what there was before: answers do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from dnsvip.admin.node import Node
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dns.engine import Engine
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.catalog import ZoneEntry, by_apex, compile_zones
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.site import Snapshot


class Deciders:
    """The engine and the tables of a node's newest snapshot."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._turn = asyncio.Lock()
        self._tables: DispatchTables | None = None
        self._engine: Engine | None = None
        self._zones: Mapping[str, ZoneEntry] = {}
        self._zones_of: Snapshot | None = None

    async def tables(self) -> DispatchTables:
        """The tables that dispatchers decide by."""
        async with self._turn:
            snapshot = self._node.snapshot()
            if self._tables is None or self._tables.snapshot is not snapshot:
                self._tables = await asyncio.to_thread(DispatchTables, snapshot, self._tables)
            return self._tables

    async def zones(self) -> Mapping[Labels, CompiledZone | None]:
        """The zones as they are answered from, by apex; None: its text is broken."""
        serving = self._node.engine()
        if serving is not None:
            return serving.zones.by_apex
        async with self._turn:
            snapshot = self._node.snapshot()
            if self._zones_of is not snapshot:
                self._zones = await asyncio.to_thread(compile_zones, snapshot.site, self._zones)
                self._zones_of = snapshot
            return by_apex(self._zones)

    async def engine(self) -> Engine:
        """The engine that answers DNS."""
        serving = self._node.engine()
        if serving is not None:
            return serving
        async with self._turn:
            snapshot = self._node.snapshot()
            if self._engine is None or self._engine.generation != snapshot.generation:
                self._engine = await asyncio.to_thread(Engine, snapshot, self._engine, self._node.geo)
            return self._engine


DECIDERS = web.AppKey("deciders", Deciders)
