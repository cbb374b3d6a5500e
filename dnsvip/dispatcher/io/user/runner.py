"""Moves packets: from the TUN device that owns the cluster prefixes, through `decide`, to the servers.

    client -> kernel route -> TUN -> decide -> raw socket of the server (its mark, its table) -> server

No connection is ever opened or accepted here. It needs no database: it decides by the last snapshot it was
given. All of its kernel settings (netlink.py) are removed by `stop`, or by the next `start` after a crash.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import OVERHEAD
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.netlink import Kernel
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.io.user.tun import open_tun
from dnsvip.dispatcher.io.user.view import UserEvents, UserFlows
from dnsvip.dispatcher.observe.plane import Events, FlowTable
from dnsvip.dispatcher.reason import REASONS, Action
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Target, Verdict
from dnsvip.errors import DnsvipError, PlatformError
from dnsvip.site import Forward, Snapshot
from dnsvip.site.node_file import DispatchSettings

DEVICE = "dnsvip0"
QUEUE_PACKETS = 4096
"""Packets that wait in the device while we are busy."""
BATCH = 256
"""Packets in a row before the event loop has its turn; they share one reading of the clock."""
SWEEP_SECONDS = 0.25
SWEEP_SHARE = 40
"""Every SWEEP_SECONDS one part in SWEEP_SHARE of the flows is looked at for expiry."""
MTU_ENCAP = 1280 + OVERHEAD
"""What an IPv6 packet of the smallest MTU needs in a tunnel."""
ALIGN_SECONDS = 3.0
"""How often the kernel is asked whether our routes are still there."""

Result = TypeVar("Result")
log = structlog.get_logger()


class Runner:
    """One dispatcher in this network namespace. `start` and `stop` once each; `run` in between."""

    def __init__(self, settings: DispatchSettings, snapshot: Snapshot) -> None:
        self.flows = Flows(settings.flows)
        self.tables = DispatchTables(Snapshot())
        self.table: FlowTable = UserFlows(self.flows, lambda: self.tables)
        self.taps = UserEvents()
        self.events: Events = self.taps
        self.mtu = 0
        self.send_failed = 0
        self._settings = settings
        self._encap_source = settings.encap_source.network_address.packed[:8]
        self._wanted = snapshot
        self._counts = dict.fromkeys(REASONS, 0)
        self._sent: dict[int, int] = {}
        self._fd = -1
        self._since = 0.0
        self._renewing = asyncio.Lock()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._worker = ThreadPoolExecutor(1, "dispatch-kernel")
        self._kernel: Kernel | None = None
        self._paths = Paths()

    async def start(self) -> None:
        """Make device, routes and rules, and take packets from now on; raises PlatformError."""
        check_forwarding(self._wanted)
        self._fd = open_tun(DEVICE)
        try:
            await self._in_worker(self._prepare)
            await self._renew()
        except BaseException:
            await self.stop()
            raise
        self._since = time.time()
        asyncio.get_running_loop().add_reader(self._fd, self._drain)

    async def update(self, snapshot: Snapshot) -> None:
        """Decide by another snapshot; flows stay. Returns when every packet from now on is judged by it."""
        self._wanted = snapshot
        await self._renew()

    async def run(self) -> None:
        """Expire flows and keep the routes, until cancelled; raises PlatformError when the device is gone."""
        tasks = [asyncio.ensure_future(work) for work in (self._keep(), self._sweep())]
        try:
            await asyncio.gather(*tasks, self._lost)
        finally:
            for task in tasks:
                task.cancel()

    async def stop(self) -> None:
        """Take no more packets; remove everything made in the kernel."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        await self._in_worker(self._clear)
        self._worker.shutdown()

    def counters(self) -> dict[str, int]:
        """Packets by the reason of their verdict; they sum to the packets read."""
        return dict(self._counts)

    def status(self) -> dict[str, Any]:
        """What `dnsvip status` shows, JSON-ready. Times in unix seconds, MTU in bytes."""
        site = self.tables.snapshot.site
        return {
            "mode": "user",
            "since": self._since,
            "generation": self.tables.snapshot.generation,
            "device": DEVICE,
            "mtu": self.mtu,
            "prefixes": [str(cluster.prefix) for cluster in site.clusters.values()],
            "packets": sum(self._counts.values()),
            "counters": self.counters(),
            "send_failed": self.send_failed,
            "new_flows": dict(self.flows.opened),
            "flows": {
                "established": len(self.flows.established),
                "new": len(self.flows.probation),
                "bound": self._settings.flows,
                "evicted": self.flows.evicted,
                "expired": self.flows.expired,
                "not_promoted": self.flows.kept_new,
            },
            "servers": list(self._servers()),
            "held": self.flows.held,
            "unseen": self.events.missed,
            "unreachable": sorted(str(ip_address(address)) for address in self._paths.unreachable),
        }

    def _servers(self) -> Iterator[dict[str, Any]]:
        """Every server as this runner uses it, those that keep no flows included."""
        tables = self.tables
        for pool in tables.pools.values():
            for server in pool.servers:
                number = tables.number_of(pool, server)
                yield {
                    "pool": pool.name,
                    "name": server.name,
                    "address": str(server.address),
                    "forward": pool.forward.value,
                    "state": server.state.value,
                    "weight": server.weight,
                    "used": number in tables.targets,
                    "mtu": self._paths.mtus.get(server.address.packed),
                    "packets": self._sent.get(number, 0),
                }

    # Packets

    def _drain(self) -> None:
        """Read and handle what has arrived, up to a batch."""
        read, fd, size, counts = os.read, self._fd, self.mtu + 64, self._counts
        tables, flows, taps, now = self.tables, self.flows, self.taps, time.time_ns()
        try:
            for _ in range(BATCH):
                data = read(fd, size)
                verdict = decide(data, tables, flows, now)
                counts[verdict.reason] += 1
                if taps.sinks:
                    taps.see(data, verdict, now)
                if verdict.action is not Action.DROP:
                    self._handle(data, verdict)
        except BlockingIOError:
            pass
        except OSError as error:
            asyncio.get_running_loop().remove_reader(fd)
            self._lost.set_exception(PlatformError(f"device {DEVICE} is gone: {error.strerror}"))

    def _handle(self, data: bytes, verdict: Verdict) -> None:
        if verdict.delay:
            self.flows.held += 1
            asyncio.get_running_loop().call_later(verdict.delay / SECOND, self._release, data, verdict)
        elif verdict.server is None:
            self._send_on(output_bytes(data, verdict))
        else:
            self._send(data, verdict, verdict.server)

    def _release(self, data: bytes, verdict: Verdict) -> None:
        """Forward a packet that was held; its flow may have another server by now."""
        self.flows.held -= 1
        if verdict.server is not None:
            self._send(data, verdict, verdict.server)

    def _send(self, data: bytes, verdict: Verdict, server: Target) -> None:
        """Forward one packet; what the kernel does not take is counted, as a router would lose it."""
        self._sent[server.number] = self._sent.get(server.number, 0) + 1
        out = data
        if verdict.mode is not Forward.DIRECT or verdict.dscp is not None:
            out = output_bytes(data, verdict, self._encap_source)
        try:
            match verdict.mode:
                case Forward.DIRECT:
                    self._paths.senders[server.address, data[0] >> 4](out)
                case Forward.ENCAP:
                    self._paths.tunnels[server.address](out)
                case Forward.NAT:
                    self._paths.send_on(out)
        except (OSError, KeyError):
            self.send_failed += 1

    def _send_on(self, data: bytes) -> None:
        """Send a packet by its own destination, through the main table."""
        try:
            self._paths.send_on(data)
        except OSError:
            self.send_failed += 1

    # Kernel settings and snapshots; blocking work is done in one worker thread

    async def _keep(self) -> None:
        """Put back what others took from the kernel, and find servers again."""
        while True:
            await asyncio.sleep(ALIGN_SECONDS)
            try:
                await self._renew()
            except (OSError, NetlinkError, DnsvipError) as error:
                log.error("cannot keep routes and rules, going on as before", error=str(error))

    async def _renew(self) -> None:
        """Make paths to the servers, then decide by the wanted snapshot, then remove old paths."""
        async with self._renewing:
            snapshot = self._wanted
            tables = await self._in_worker(lambda: self._compile(snapshot))
            if tables is not None:
                self.tables = tables
                for unused in await self._in_worker(self._tidy):
                    unused.close()

    def _compile(self, snapshot: Snapshot) -> DispatchTables | None:
        """The tables for a snapshot; None where nothing has changed."""
        if self._kernel is None:
            return None
        before = self._paths.unreachable, self._paths.mtus
        self._paths.extend(self._kernel, snapshot)
        if snapshot is self.tables.snapshot and (self._paths.unreachable, self._paths.mtus) == before:
            return None
        self._warn(snapshot)
        return DispatchTables(snapshot, self.tables, self._paths.unreachable, self._paths.mtus)

    def _warn(self, snapshot: Snapshot) -> None:
        try:
            check_forwarding(snapshot)
        except PlatformError as error:
            log.warning(str(error))
        for pool in snapshot.site.pools.values():
            mtus = [self._paths.mtus.get(server.address.packed, MTU_ENCAP) for server in pool.servers]
            if pool.forward is Forward.ENCAP and min(mtus, default=MTU_ENCAP) < MTU_ENCAP:
                log.warning(f"forward = encap needs an MTU of {MTU_ENCAP} to every server", pool=pool.name)

    def _tidy(self) -> list[socket.socket]:
        return self._paths.tidy(self._kernel) if self._kernel else []

    def _prepare(self) -> None:
        self._kernel = kernel = Kernel()
        kernel.remove_others()
        self.mtu = max(kernel.smallest_mtu(self._settings.interface, DEVICE), 1280)
        self._paths.open(kernel.start_device(DEVICE, self.mtu, QUEUE_PACKETS))

    def _clear(self) -> None:
        self._paths.close()
        if self._kernel is not None:
            self._kernel.remove_others()
            self._kernel.close()
            self._kernel = None

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.flows.sweep(int(time.time()), max(len(self.flows) // SWEEP_SHARE, 256))

    async def _in_worker(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def check_forwarding(snapshot: Snapshot) -> None:
    """Raise PlatformError where the kernel would not forward clients' packets to us."""
    files = {6: "net/ipv6/conf/all/forwarding", 4: "net/ipv4/ip_forward"}
    for version in sorted({cluster.prefix.version for cluster in snapshot.site.clusters.values()}):
        with suppress(OSError):
            if Path("/proc/sys", files[version]).read_text().strip() == "0":
                name = files[version].replace("/", ".")
                raise PlatformError(f"this host forwards no IPv{version}: a dispatcher is a router; sysctl -w {name}=1")
