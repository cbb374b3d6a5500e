"""The dispatcher in the kernel, and the user-space runner beside it for what the kernel hands up.

    client -> XDP program -> server                          nearly every packet
                  |  to be held, hop limit over, no next hop known
                  +-> TUN -> decide -> raw socket -> server   the runner, by the same tables

Both halves decide by the same Tables, one after the other: the kernel's first. When the process ends the kernel's
half stays and goes on by what it was told last (`keep`), so a restart or an upgrade interrupts nothing; what it would
hand up it drops meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.user.runner import Runner
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.io.xdp.neighbours import Neighbours
from dnsvip.dispatcher.io.xdp.pinned_program import PROGRAM, PinnedProgram, detach
from dnsvip.dispatcher.io.xdp.table import states
from dnsvip.dispatcher.io.xdp.view import KernelEvents, KernelFlows
from dnsvip.dispatcher.token_bucket import MOST, Limit
from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot
from dnsvip.site.node_file import DispatchSettings
from dnsvip.xdp.link import Mode
from dnsvip.xdp.maps import Map

log = structlog.get_logger()

TICK_SECONDS = 5.0
"""How often the program's clock is set and expired flows are swept."""
COUNT_SECONDS = 5.0
"""How old the number of flows may be that `status` tells: counting reads the whole table."""


class XdpRunner(Runner):
    """A Runner most of whose packets the kernel takes. With `keep` false the kernel's half goes with it."""

    def __init__(self, settings: DispatchSettings, snapshot: Snapshot, *, keep: bool = True) -> None:
        super().__init__(settings, snapshot)
        self.table, self.events = KernelFlows(self), KernelEvents(self)
        self._keep_plane = keep
        self._mode = Mode.GENERIC if settings.generic else Mode.NATIVE
        self._plane: PinnedProgram | None = None
        self._feed: MapWriter | None = None
        self._neighbours: Neighbours | None = None
        self._attached = self._ran = False
        self._expired = 0
        self._counted = (0.0, 0, 0)

    async def run(self) -> None:
        """Keep both halves; see Runner.run."""
        ticking = asyncio.ensure_future(self._tick())
        try:
            await super().run()
        finally:
            ticking.cancel()

    def counters(self) -> dict[str, int]:
        """The kernel's: packets by the reason of their verdict, also of the time before this process."""
        return self._feed.counters() if self._feed else super().counters()

    def status(self) -> dict[str, Any]:
        """As the user-space runner's, with `xdp` for what only this one has and `user_space` for what was handed up."""
        status = super().status()
        if self._plane is None or self._feed is None:
            return status
        beside = super().counters()
        counters = self._feed.counters()
        auxiliary_counters = self._feed.auxiliary_counters()
        established, new = self._count()
        return status | {
            "mode": "xdp",
            "device": self._plane.interface,
            "packets": sum(counters.values()),
            "counters": counters,
            "new_flows": self._feed.opened(),
            "flows": {
                "established": established,
                "new": new,
                "bound": self._settings.flows,
                "expired": self._expired,
                "not_promoted": auxiliary_counters["kept-new"],
            },
            "servers": [
                {name: value for name, value in each.items() if name != "packets"} for each in status["servers"]
            ],
            "xdp": {
                "attached": self._mode.name.lower(),
                "program": self._plane.programs[PROGRAM].tag,
                "sides": auxiliary_counters,
            },
            "user_space": {reason: count for reason, count in beside.items() if count},
        }

    def kernel_maps(self) -> tuple[Mapping[str, Map], MapWriter] | None:
        """The maps of the program in force, by name, and who writes them; None before there are any."""
        return (self._plane.maps, self._feed) if self._plane and self._feed else None

    # All of this is done in the worker thread

    def _prepare(self) -> None:
        super()._prepare()
        self._neighbours = Neighbours()
        self._open(self._wanted)

    def _open(self, snapshot: Snapshot) -> None:
        """Load the program with maps for a snapshot. It is fed and attached next, in place of the one before."""
        plane = PinnedProgram.open(self._settings, snapshot.site)
        before = self._plane
        self._feed = MapWriter(
            plane.maps,
            plane.programs,
            encap_source=self._encap_source,
            fixed_time=self._settings.fixed_time_aes,
        )
        self._plane, self._attached = plane, False
        if before is not None:
            before.close()

    def _compile(self, snapshot: Snapshot) -> DispatchTables | None:
        tables = super()._compile(snapshot)
        if self._neighbours is not None:
            servers = [server.address for pool in snapshot.site.pools.values() for server in pool.servers]
            self._neighbours.keep(dict.fromkeys(servers))
        if tables is None:
            return None
        try:
            self._bring(tables)
        except PlatformError as error:
            if not self._ran:
                raise
            log.error("the kernel goes on by the snapshot before", error=str(error))
            return None
        return beside(tables)

    def _bring(self, tables: DispatchTables) -> None:
        """Have the kernel decide by these tables."""
        if self._plane is None or not self._plane.holds(tables.snapshot.site):
            self._open(tables.snapshot)
        assert self._plane is not None and self._feed is not None  # noqa: S101, PT018 - opened just now
        self._feed.apply(tables)
        if not self._attached:
            self._plane.attach(self._mode)
            self._attached = self._ran = True
            self._feed.settings(user_space=1)

    def _clear(self) -> None:
        if self._feed is not None and self._ran:
            self._feed.settings(user_space=0, sample=0, watched=0)  # nobody listens any more
        super()._clear()
        if self._neighbours is not None:
            if not (self._keep_plane and self._ran):
                self._neighbours.keep([])
            self._neighbours.close()
            self._neighbours = None
        if self._plane is not None:
            self._plane.discard()
            if self._ran and not self._keep_plane:
                detach(self._settings)
            self._plane = self._feed = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self._expired += await self._in_worker(self._tick_once)
            except PlatformError as error:
                log.error("cannot set the program's clock and sweep its flows, trying on", error=str(error))

    def _tick_once(self) -> int:
        return self._feed.tick(time.time()) if self._feed else 0

    def _count(self) -> tuple[int, int]:
        """Flows established and new, as of some seconds ago at most."""
        if self._plane is not None and time.monotonic() - self._counted[0] > COUNT_SECONDS:
            column, numbers = states(self._plane.maps["flows"]), TYPES.words("flow_state", "FLOW_")
            established, new = (column.count(numbers[state]) for state in ("established", "new"))
            self._counted = (time.monotonic(), established, new)
        return self._counted[1:]


def beside(tables: DispatchTables) -> DispatchTables:
    """Tables for the runner beside the kernel, which has taken a token for every flow that comes to it: those to be
    held have had their tier's burst, so here each waits for the one before it, and no other is limited again."""
    tables.limits = {
        name: replace(limit, burst=0, debt=limit.debt + limit.interval) if limit.debt else Limit(1, MOST)
        for name, limit in tables.limits.items()
    }
    return tables
