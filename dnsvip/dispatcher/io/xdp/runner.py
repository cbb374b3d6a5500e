"""The data plane in the kernel, with a user-space runner for the packets that the kernel hands up.

    client -> XDP program -> server                          nearly every packet
                  |  to be held, hop limit over, no next hop known
                  +-> TUN -> decide -> raw socket -> server   the user-space runner, by the same tables

A snapshot reaches the kernel's program first and the runner second. With `keep` the program stays when the process ends
and continues with its last snapshot, so a restart or an upgrade interrupts nothing; packets that it would hand up are
dropped meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import structlog

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.usage import Used
from dnsvip.dispatcher.io.user.refused import Show
from dnsvip.dispatcher.io.user.runner import Runner
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.map_counters import Sent
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.io.xdp.neighbours import Neighbours
from dnsvip.dispatcher.io.xdp.pinned_program import PROGRAM, PinnedProgram, detach
from dnsvip.dispatcher.io.xdp.table import bucket_status, states
from dnsvip.dispatcher.io.xdp.view import KernelEvents, KernelFlows
from dnsvip.dispatcher.policing import policed_counts
from dnsvip.dispatcher.reason import drop_counts, totals
from dnsvip.dispatcher.routes import rule_counts
from dnsvip.dispatcher.token_bucket import MOST, Limit
from dnsvip.errors import PlatformError, Problem
from dnsvip.site import Site, Snapshot
from dnsvip.site.node_file import DispatchSettings
from dnsvip.xdp.link import Mode
from dnsvip.xdp.maps import Map

log = structlog.get_logger()

TICK_SECONDS = 5.0
"""How often the program's clock is set; expired flows are swept every second time (map_writer.py)."""
COUNT_SECONDS = 5.0
"""The greatest age of the flow counts in `status`: counting reads the whole table."""


class XdpRunner:
    """A data plane whose packets nearly all stay in the kernel. Without `keep`, `stop` detaches the program."""

    def __init__(self, settings: DispatchSettings, snapshot: Snapshot, *, keep: bool = True) -> None:
        self.table, self.events = KernelFlows(self), KernelEvents(self)
        self._settings = settings
        self._offload = KernelOffload(settings, keep=keep)
        self._runner = Runner(settings, snapshot, self._offload)
        self._expired = 0
        self._counted = (0.0, 0, 0)

    @property
    def tables(self) -> DispatchTables:
        """The tables in force."""
        return self._runner.tables

    async def start(self) -> None:
        """See Runner.start."""
        await self._runner.start()

    def poll(self) -> None:
        """See DataPlane.poll."""
        self._runner.poll()

    async def update(self, snapshot: Snapshot) -> None:
        """See Runner.update."""
        await self._runner.update(snapshot)

    async def run(self) -> None:
        """Maintain both halves; see Runner.run."""
        ticking = asyncio.ensure_future(self._tick())
        try:
            await self._runner.run()
        finally:
            ticking.cancel()

    async def stop(self) -> None:
        """See Runner.stop."""
        await self._runner.stop()

    def counters(self) -> dict[str, int]:
        """The kernel's packets by the reason of their verdict, those of earlier processes included."""
        maps = self.kernel_maps()
        return maps[1].counters.by_reason() if maps else self._runner.counters()

    async def take_usage(self) -> Mapping[int, Used]:
        """The kernel's, which has counted what it handed up; see DataPlane.take_usage."""
        writer = self._offload.writer
        return await self._runner.in_worker(writer.take_usage) if writer else {}

    def totals(self) -> dict[str, Any]:
        """See DataPlane.totals; what was sent is what the kernel forwarded, or handed up to be."""
        program, writer = self._offload.program, self._offload.writer
        if program is None or writer is None:
            return self._runner.totals()
        sent = writer.counters.forwarded()._asdict()
        return {
            "actions": writer.counters.by_action(),
            "new_flows": writer.counters.opened(),
            "sent": sent,
            "flows": self._held(program),
        }

    def _held(self, program: PinnedProgram) -> dict[str, int]:
        established, new = self._count(program)
        return {"established": established, "new": new, "bound": self._settings.flows}

    def watch_refused(self, show: Show | None) -> None:
        """See DataPlane.watch_refused. What the kernel hands up it has decided to forward."""
        self.events.watch_refused(show)

    @property
    def unreachable(self) -> Collection[bytes]:
        """See DataPlane.unreachable."""
        return self._runner.unreachable

    def fault(self) -> str | None:
        """See DataPlane.fault: nearly every packet is the kernel program's."""
        return self._offload.fault()

    @property
    def problems(self) -> list[Problem]:
        """See DataPlane.problems."""
        writer = self._offload.writer
        return [*self._runner.problems, *(writer.problems if writer else ())]

    def status(self) -> dict[str, Any]:
        """The user-space runner's status with the kernel's figures: `xdp` is particular to the kernel, `user_space`
        counts the packets handed up."""
        status, program, writer = self._runner.status(), self._offload.program, self._offload.writer
        if program is None or writer is None:
            return status
        counts, auxiliary_counters = writer.counters.by_action(), writer.counters.auxiliary()
        counters = totals(counts)
        return status | {
            "mode": "xdp",
            "device": program.interface,
            "packets": sum(counters.values()),
            "counters": counters,
            "actions": counts,
            "new_flows": writer.counters.opened(),
            "rules": rule_counts(writer.counters.routed()),
            "policed": policed_counts(writer.counters.policed()),
            "buckets": bucket_status(program.maps, auxiliary_counters, time.time_ns()),
            "guesses_refused": auxiliary_counters["guess-refused"],
            "labels_ignored": auxiliary_counters["label-ignored"],
            "flows": {
                **self._held(program),
                "expired": self._expired,
                "not_promoted": auxiliary_counters["kept-new"],
                "not_recorded": auxiliary_counters["not-remembered"],
            },
            "drops": drop_counts(writer.counters.drops()),
            "servers": list(with_sent(status["servers"], writer.counters.sent())),
            "xdp": {
                "attached": self._offload.mode.name.lower(),
                "program": program.programs[PROGRAM].tag,
                "sides": auxiliary_counters,
            },
            "problems": [{"where": problem.where, "message": problem.message} for problem in self.problems],
            "user_space": {reason: count for reason, count in self._runner.counters().items() if count},
        }

    def kernel_maps(self) -> tuple[Mapping[str, Map], MapWriter] | None:
        """The maps of the program in force, by name, and their writer; None before there are any."""
        program, writer = self._offload.program, self._offload.writer
        return (program.maps, writer) if program and writer else None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                self._expired += await self._runner.in_worker(self._offload.tick)
            except PlatformError as error:
                log.error("cannot set the program's clock and sweep its flows, retrying", error=str(error))

    def _count(self, program: PinnedProgram) -> tuple[int, int]:
        """Flows established and new, at most COUNT_SECONDS old."""
        if time.monotonic() - self._counted[0] > COUNT_SECONDS:
            column, numbers = states(program.maps["flows"]), TYPES.words("flow_state", "FLOW_")
            established, new = (column.count(numbers[state]) for state in ("established", "new"))
            self._counted = (time.monotonic(), established, new)
        return self._counted[1:]


class KernelOffload:
    """The kernel program as the user-space runner's Offload. Everything runs in the runner's worker thread.

    `program` and its `writer` are None before `open` and after `close`. Without `keep` the program is detached when
    it is closed.
    """

    def __init__(self, settings: DispatchSettings, *, keep: bool) -> None:
        self.mode = Mode.GENERIC if settings.generic else Mode.NATIVE
        self.program: PinnedProgram | None = None
        self.writer: MapWriter | None = None
        self._settings, self._keep = settings, keep
        self._neighbours: Neighbours | None = None
        self._attached = self._ran = False
        self._site = Site()

    def open(self, snapshot: Snapshot) -> None:
        """See Offload.open."""
        self._neighbours = Neighbours()
        self._load(snapshot)

    def apply(self, snapshot: Snapshot, tables: DispatchTables | None) -> DispatchTables | None:
        """See Offload.apply."""
        if self._neighbours is not None:
            site = tables.sound.site if tables else self._site
            servers = [server.address for pool in site.pools.values() for server in pool.servers]
            servers += [peer for peer in self._settings.peers if peer != self._settings.address]
            self._neighbours.keep(dict.fromkeys(servers))
        if tables is None:
            return None
        self._site = tables.sound.site
        self._decide_by(tables)
        return handed_up_tables(tables)

    def tick(self) -> int:
        """Set the program's clock and sweep expired flows; how many."""
        return self.writer.tick(time.time()) if self.writer else 0

    def fault(self) -> str | None:
        """Why packets do not reach the program; None where they do, and while another program is put in its place. Any
        thread may call it."""
        program, attached = self.program, self._attached
        if program is None or (attached and not program.is_attached and self.program is program):
            return f"no XDP program is attached to {self._settings.interface}"
        return None

    def close(self) -> None:
        """See Offload.close."""
        if self.writer is not None and self._ran:
            self.writer.settings(user_space=0, sample=0, drops=0, watched=0)  # no process takes packets or events
        if self._neighbours is not None:
            if not (self._keep and self._ran):
                self._neighbours.keep([])
            self._neighbours.close()
            self._neighbours = None
        if self.program is not None:
            self.program.discard()
            if self._ran and not self._keep:
                detach(self._settings)
            self.program = self.writer = None

    def _load(self, snapshot: Snapshot) -> None:
        """Load the program with maps large enough for a snapshot, to be written and then attached in place of the one
        before."""
        program = PinnedProgram.open(self._settings, snapshot)
        before, taken = self.program, self.writer.usage_taken if self.writer else {}
        self.writer = MapWriter(
            program.maps,
            program.programs,
            encap_source=self._settings.encap_source.network_address.packed[:8],
            fixed_time=self._settings.fixed_time_aes,
        )
        self.writer.usage_taken = taken
        self.program, self._attached = program, False
        if before is not None:
            before.close()

    def _decide_by(self, tables: DispatchTables) -> None:
        """Write these tables into the maps, and attach the program where it is not yet."""
        if self.program is None or not self.program.holds(tables):
            self._load(tables.sound)
        assert self.program is not None and self.writer is not None  # noqa: S101, PT018 - loaded just now
        self.writer.apply(tables)
        if not self._attached:
            self.program.attach(self.mode)
            self._attached = self._ran = True
            self.writer.settings(user_space=1)


def with_sent(servers: Iterable[Mapping[str, Any]], kernel: Mapping[tuple[str, str], Sent]) -> Iterator[dict[str, Any]]:
    """The user-space runner's servers, with what the kernel sent them as well; it has recorded all flows."""
    for server in servers:
        sent = kernel.get((server["pool"], server["name"]), Sent())
        yield {
            **server,
            "packets": server["packets"] + sent.packets,
            "bytes": server["bytes"] + sent.bytes,
            "new_flows": sent.flows,
        }


def handed_up_tables(tables: DispatchTables) -> DispatchTables:
    """Tables for the runner beside the kernel, which has already taken a token for every flow that it hands up: a held
    flow is beyond its tier's burst, so it waits for the one before it; nothing else is limited again."""
    tables.limits = {
        name: replace(limit, burst=0, debt=limit.debt + limit.interval) if limit.debt else Limit(1, MOST)
        for name, limit in tables.limits.items()
    }
    tables.policers = {}
    return tables
