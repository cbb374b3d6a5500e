"""What stands in the kernel for a runner: device, routes and rules, a socket per server, and what an Offload has there.

Every method blocks: it is for the one thread of the runner that makes kernel settings. Tables are compiled here too, as
they need to know which servers have a way.
"""

from __future__ import annotations

import socket
from typing import Protocol

import structlog
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import OVERHEAD
from dnsvip.dispatcher.io.user.host import DEVICE, check_forwarding
from dnsvip.dispatcher.io.user.netlink import Kernel
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.peers import ALONE, Peers
from dnsvip.dispatcher.stand_ins import STAND_INS
from dnsvip.errors import DnsvipError, PlatformError
from dnsvip.site import Forward, Snapshot
from dnsvip.site.isolation import Isolated, isolate

MTU_ENCAP = 1280 + OVERHEAD
"""MTU that a tunnel needs for the smallest MTU of IPv6 inside."""

log = structlog.get_logger()


class Offload(Protocol):
    """A data plane in front of the runner: it takes packets first and hands up those it cannot handle.

    The runner calls it in its worker thread only, so every call may block.
    """

    def open(self, snapshot: Snapshot) -> None:
        """Prepare for a first snapshot; the TUN device exists. Raises PlatformError."""

    def apply(self, snapshot: Snapshot, tables: DispatchTables | None) -> DispatchTables | None:
        """Decide by `tables`, which are None where neither the snapshot nor a path to a server has changed.

        Returns the tables for packets that are handed up, or None where those in force stay. Raises PlatformError.
        """

    def close(self) -> None:
        """Hand up nothing more; called before the runner's kernel settings are removed, once for each `stop`."""


class KernelSide:
    """Call `open` and `close` once each, `apply` and `tidy` in between."""

    def __init__(self, paths: Paths, offload: Offload | None) -> None:
        self._paths, self._offload = paths, offload
        self._kernel: Kernel | None = None
        self._extended: Isolated[None] | None = None
        self._compiled_for = ALONE

    def open(self, interface: str | None, queue: int, snapshot: Snapshot) -> int:
        """Bring the TUN device up, with a queue of so many packets; its MTU in bytes. Raises PlatformError."""
        self._kernel = kernel = Kernel()
        kernel.remove_others()
        mtu = max(kernel.smallest_mtu(interface, DEVICE), 1280)
        self._paths.open(kernel.start_device(DEVICE, mtu, queue))
        if self._offload is not None:
            self._offload.open(snapshot)
        return mtu

    def apply(self, snapshot: Snapshot, before: DispatchTables, peers: Peers) -> DispatchTables | None:
        """Make the ways that a snapshot needs; the tables to decide by from now on, None where those `before` stay."""
        if self._kernel is None:
            return None
        tables = self._compile(self._kernel, snapshot, before, peers)
        return tables if self._offload is None else self._offload.apply(snapshot, tables)

    def tidy(self) -> list[socket.socket]:
        """Remove what the last snapshot does not need; the sockets are for the sending thread to close."""
        return self._paths.tidy(self._kernel) if self._kernel else []

    def close(self) -> None:
        """Remove everything."""
        try:
            if self._offload is not None:
                self._offload.close()
        finally:
            self._paths.close()
            if self._kernel is not None:
                self._kernel.remove_others()
                self._kernel.close()
                self._kernel = None

    def _compile(
        self, kernel: Kernel, snapshot: Snapshot, before: DispatchTables, peers: Peers
    ) -> DispatchTables | None:
        """The tables for a snapshot; None where nothing has changed."""
        ways = self._paths.unreachable, self._paths.mtus
        self._extended = isolate(
            snapshot,
            lambda sound: self._paths.extend(kernel, sound),
            STAND_INS,
            self._extended,
            (OSError, NetlinkError, DnsvipError),
        )
        now = self._paths.unreachable, self._paths.mtus
        if snapshot is before.snapshot and now == ways and peers == self._compiled_for:
            return None
        tables = DispatchTables(snapshot, before, self._paths.unreachable, self._paths.mtus, peers)
        self._compiled_for = peers
        for problem in tables.problems:
            log.error("packets of an object are dropped", where=problem.where, problem=problem.message)
        self._warn(tables.sound)
        return tables

    def _warn(self, snapshot: Snapshot) -> None:
        try:
            check_forwarding(snapshot)
        except PlatformError as error:
            log.warning(str(error))
        for pool in snapshot.site.pools.values():
            mtus = [self._paths.mtus.get(server.address.packed, MTU_ENCAP) for server in pool.servers]
            if pool.forward is Forward.ENCAP and min(mtus, default=MTU_ENCAP) < MTU_ENCAP:
                log.warning(f"forward = encap needs an MTU of {MTU_ENCAP} to every server", pool=pool.name)
