"""The data plane in user space: a TUN device that owns the cluster prefixes, and a raw socket per server.

    client -> kernel route -> TUN -> PacketLoop -> raw socket of the server (its mark, its routing table) -> server

It terminates no connection and needs no database: it decides by the last snapshot it was given. `stop` removes all of
its kernel settings (netlink.py), or the next `start` does after a crash. An Offload, such as the kernel's program, may
take packets first; the runner then handles what that hands up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from secrets import randbits
from typing import Any, TypeVar

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import NEXT_HEADER
from dnsvip.dispatcher.ending import concerns, walk
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.usage import Used, added, leaving
from dnsvip.dispatcher.io.peers import PeerWatch
from dnsvip.dispatcher.io.user.host import DEVICE, check_forwarding, is_up
from dnsvip.dispatcher.io.user.kernel_side import KernelSide, Offload
from dnsvip.dispatcher.io.user.packet_loop import PacketLoop
from dnsvip.dispatcher.io.user.paths import Paths, relayed_socket
from dnsvip.dispatcher.io.user.queues import Queues
from dnsvip.dispatcher.io.user.refused import Show
from dnsvip.dispatcher.io.user.status import NOTHING_SENT, flows_status, held, servers_status, uses_status
from dnsvip.dispatcher.io.user.uses_file import NAME, UsesFile
from dnsvip.dispatcher.io.user.view import UserEvents, UserFlows
from dnsvip.dispatcher.observe.plane import Events, FlowTable
from dnsvip.dispatcher.peers import ALONE
from dnsvip.dispatcher.reason import PairCounts, drop_counts, totals
from dnsvip.dispatcher.token_bucket import Buckets
from dnsvip.errors import DnsvipError, Problem
from dnsvip.site import Snapshot
from dnsvip.site.node_file import DispatchSettings

SWEEP_SECONDS = 0.25
SWEEP_SHARE = 40
"""Every SWEEP_SECONDS one part in SWEEP_SHARE of the flows is checked for expiry."""
WALK_SLICE = 5_000
"""Flows looked at in a row when clients' flows end, in some milliseconds."""
ALIGN_SECONDS = 3.0
"""How often routes and rules are compared with what they should be."""

Result = TypeVar("Result")
log = structlog.get_logger()


class Runner:
    """One dispatcher in this network namespace. Call `start` and `stop` once each, `run` in between.

    Used single-use addresses outlast it in `state_dir`, without one only in an Offload.
    """

    def __init__(
        self,
        settings: DispatchSettings,
        snapshot: Snapshot,
        offload: Offload | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self.flows = Flows(settings.flows, Buckets(settings.buckets, (randbits(64), randbits(64))))
        self.table: FlowTable = UserFlows(self.flows, lambda: self.tables)
        self.mtu = 0
        self._settings = settings
        self._offload = offload
        self._uses_path = state_dir / NAME if state_dir is not None else None
        self._uses_file: UsesFile | None = None
        self._wanted = snapshot
        self._queues: Queues | None = None
        self._since = 0.0
        self._renewal: asyncio.Future[None] | None = None
        self._renewing = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, "dispatch-kernel")
        self._paths = Paths()
        self._kernel = KernelSide(self._paths, offload)
        self._walk: asyncio.Future[None] | None = None
        self._events = UserEvents()
        encap_source = settings.encap_source.network_address.packed[:8]
        self._packets = PacketLoop(self.flows, self._paths, self._events, encap_source)
        self._watch = self._watched(settings)

    @property
    def tables(self) -> DispatchTables:
        """The tables in force."""
        return self._packets.tables

    @property
    def events(self) -> Events:
        """The packets that come to this runner."""
        return self._events

    async def start(self) -> None:
        """Create device, routes and rules, and handle packets from now on; raises PlatformError."""
        check_forwarding(self._wanted)
        self._queues = Queues(DEVICE)
        try:
            if self._watch is not None:
                await self._watch.open()
            await self.in_worker(self._open)
            await self._renew()
        except BaseException:
            await self.stop()
            raise
        self._since = time.time()
        self._packets.start(self._queues, self.mtu)
        if self._watch is not None and self._offload is None:
            for header in NEXT_HEADER.values():
                self._packets.listen(relayed_socket(self._settings.address, header))

    def poll(self) -> None:
        """See DataPlane.poll."""
        self._packets.poll()

    async def update(self, snapshot: Snapshot) -> None:
        """Decide by another snapshot; flows stay. Returns when it decides every packet from now on."""
        self._wanted = snapshot
        await self._renew()

    async def run(self) -> None:
        """Expire flows and maintain the routes, until cancelled; raises PlatformError when the device is gone."""
        watching = [self._watch.run()] if self._watch else []
        tasks = [asyncio.ensure_future(work) for work in (self._keep_paths(), self._sweep(), *watching)]
        try:
            await asyncio.gather(*tasks, self._packets.lost)
        finally:
            for task in tasks:
                task.cancel()

    async def stop(self) -> None:
        """Handle no more packets; remove everything created in the kernel."""
        self._packets.stop()
        if self._watch is not None:
            self._watch.close()
        if self._walk is not None:
            self._walk.cancel()
        if self._queues is not None:
            self._queues.close()
            self._queues = None
        await self.in_worker(self._close)
        self._worker.shutdown()

    async def in_worker(self, work: Callable[[], Result]) -> Result:
        """Run blocking work in the one thread that makes kernel settings."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def counters(self) -> dict[str, int]:
        """Packets by the reason of their verdict; they sum to the packets that came."""
        return totals(self._packets.counts())

    def counts(self) -> PairCounts:
        """The same packets by reason and action."""
        return self._packets.counts()

    async def take_usage(self) -> Mapping[int, Used]:
        """See DataPlane.take_usage. To choose among all takes long, so the worker does it."""
        usage = self.flows.usage
        used = usage.take()
        return added(used, usage.leave(await self.in_worker(lambda: leaving(used))), len(used))

    @property
    def unreachable(self) -> Collection[bytes]:
        """See DataPlane.unreachable."""
        return self._paths.unreachable

    def fault(self) -> str | None:
        """See DataPlane.fault."""
        return None if is_up(DEVICE) else f"the TUN device {DEVICE} is gone or down"

    @property
    def problems(self) -> list[Problem]:
        """See DataPlane.problems."""
        return self.tables.problems

    def status(self) -> dict[str, Any]:
        """What `dnsvip status` shows, JSON-ready. Times in unix seconds, MTU in bytes."""
        tables, packets = self.tables, self._packets
        counts = self.counts()
        counters = totals(counts)
        return {
            "mode": "user",
            "since": self._since,
            "generation": tables.snapshot.generation,
            "device": DEVICE,
            "mtu": self.mtu,
            "queues": len(self._queues or ()),
            "prefixes": [str(cluster.prefix) for cluster in tables.sound.site.clusters.values()],
            "packets": sum(counters.values()),
            "counters": counters,
            "actions": counts,
            "send_failed": packets.sending.failed,
            "drops": drop_counts(packets.refused.drops),
            **flows_status(self.flows, self._settings.flows, time.time_ns()),
            "servers": list(servers_status(tables, self.flows, self._paths.mtus, packets.sending.sent)),
            "waiting": packets.waiting,
            "uses": uses_status(self.flows.uses, self._uses_file.damaged if self._uses_file else 0),
            "peers": self._watch.status() if self._watch else None,
            "unseen": self.events.missed,
            "unreachable": sorted(str(ip_address(address)) for address in self._paths.unreachable),
            "problems": [{"where": problem.where, "message": problem.message} for problem in self.problems],
        }

    def totals(self) -> dict[str, Any]:
        """See DataPlane.totals."""
        packets, size = map(sum, zip(NOTHING_SENT, *self._packets.sending.sent.values(), strict=True))
        return {
            "actions": self.counts(),
            "new_flows": dict(self.flows.opened),
            "sent": {"packets": packets, "bytes": size},
            "flows": held(self.flows, self._settings.flows),
        }

    def watch_refused(self, show: Show | None) -> None:
        """See DataPlane.watch_refused."""
        self._packets.refused.show = show
        self._packets.refused.thinning.relax()

    def _watched(self, settings: DispatchSettings) -> PeerWatch | None:
        """The watch on the other dispatchers, where there are any."""
        if settings.address is None or not settings.peers:
            return None
        self._paths.peers = frozenset(peer.packed for peer in settings.peers if peer != settings.address)
        return PeerWatch(settings.address, settings.peers, lambda: self.tables.relay_key, self._peers_changed)

    def _peers_changed(self) -> None:
        self._renewal = asyncio.ensure_future(self._renew_again())

    async def _keep_paths(self) -> None:
        """Restore routes and rules that others removed, and notice servers that have become reachable."""
        while True:
            await asyncio.sleep(ALIGN_SECONDS)
            await self._renew_again()

    async def _renew_again(self) -> None:
        try:
            await self._renew()
        except (OSError, NetlinkError, DnsvipError) as error:
            log.error("cannot keep routes and rules, going on as before", error=str(error))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.flows.sweep(int(time.time()), max((len(self.flows) + len(self.flows.uses)) // SWEEP_SHARE, 256))

    async def _renew(self) -> None:
        """Create paths to the servers, then decide by the wanted snapshot, then remove old paths."""
        async with self._renewing:
            snapshot, in_force, peers = self._wanted, self.tables, self._watch.peers if self._watch else ALONE
            tables = await self.in_worker(lambda: self._kernel.apply(snapshot, in_force, peers))
            if tables is not None:
                before, self._packets.tables = self._packets.tables, tables
                self._end_flows(before, tables)
                for unused in await self.in_worker(self._kernel.tidy):
                    unused.close()

    def _end_flows(self, before: DispatchTables, tables: DispatchTables) -> None:
        """Walk the flows, in slices between which packets have their turn, where the change may have ended some."""
        if not concerns(before.sound, tables.sound):
            return
        if self._walk is not None:
            self._walk.cancel()
        self._walk = asyncio.ensure_future(self._settle_flows(tables))

    async def _settle_flows(self, tables: DispatchTables) -> None:
        changed = 0
        for changed in walk(self.flows, tables, WALK_SLICE):  # noqa: B007 - the last one is logged
            await asyncio.sleep(0)
        if changed:
            log.info("flows ended, or let go on", flows=changed)

    # In the worker thread

    def _open(self) -> None:
        length = self._queues.length if self._queues else 0
        self.mtu = self._kernel.open(self._settings.interface, length, self._wanted)
        if self._uses_path is not None:
            self._uses_file = UsesFile.take_over(self._uses_path, self.flows.uses.bound, self._wanted)
        if self._uses_file is not None:
            self.flows.uses = self._uses_file.uses

    def _close(self) -> None:
        if self._uses_file is not None:
            self._uses_file.close()
            self._uses_file = None
        self._kernel.close()
