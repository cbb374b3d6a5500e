"""The packet path of the user-space runner: read from the TUN device, decide, send.

    TUN device (queues.py) or another dispatcher's tunnel -> its turn -> decide -> output_bytes -> raw socket
                                                                                                   (sending.py)

Everything here runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Protocol

import structlog

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import outcome
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.host import DEVICE
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.io.user.refused import Refused
from dnsvip.dispatcher.io.user.sending import Sending
from dnsvip.dispatcher.io.user.view import UserEvents
from dnsvip.dispatcher.packet import Malformed, Packet, parse
from dnsvip.dispatcher.peers import step_of
from dnsvip.dispatcher.reason import ACTIONS, REASONS, Action, PacketReason, PairCounts
from dnsvip.dispatcher.turns import Turns, overloaded
from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot

BATCH = 256
"""Packets read in a row before the event loop gets its turn."""

PIECE, WAITING = 16, 32
"""Packets of one of several queues that are read in a row, and those of them in a batch that may have to wait: more
than can be verified before the next."""

SLICE = 0.00025
"""Seconds of processor time for packets that wait (turns.py) between one batch and the next."""

DROP, OVERLOAD = Action.DROP.value, PacketReason.OVERLOAD.value

log = structlog.get_logger()


class Device(Protocol):
    """What packets are read from, such as `queues.Queues`."""

    def __len__(self) -> int:
        """How many queues it has."""

    def fileno(self) -> int:
        """A descriptor that is readable while any queue is."""

    def ready(self, most: int) -> Sequence[int]:
        """Non-blocking descriptors of queues that have packets, at most so many, in turn; each read returns one raw IP
        packet."""

    def dropped(self) -> int:
        """Packets that the kernel dropped because nobody read them in time."""


class PacketLoop:
    """Reads, decides and sends, between `start` and `stop`. `tables` may be replaced between any two packets.

    `sending` counts what is sent, `refused` what went to no server. `lost` gets a PlatformError when the device
    disappears.
    """

    def __init__(self, flows: Flows, paths: Paths, events: UserEvents, encap_source: bytes) -> None:
        self.tables = DispatchTables(Snapshot())
        self._counts = {action: dict.fromkeys(REASONS, 0) for action in Action}
        self.sending = Sending(paths, flows.hold, encap_source)
        self.refused = Refused()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flows, self._events = flows, events
        self._turns = Turns(flows)
        self._scheduled: asyncio.Handle | None = None
        self._encap_source = encap_source
        self._device: Device | None = None
        self._piece, self._read_size, self._unread = BATCH, 0, 0
        self._flooded: frozenset[int] = frozenset()
        self._put_off = False
        self._relayed: list[socket.socket] = []

    def start(self, device: Device, mtu: int) -> None:
        """Handle the packets of a device whose MTU is `mtu` bytes."""
        self._device, self._piece, self._read_size = device, PIECE if len(device) > 1 else BATCH, mtu + 64
        asyncio.get_running_loop().add_reader(device.fileno(), self._drain)

    def listen(self, relayed: socket.socket) -> None:
        """Handle what other dispatchers relay to a raw socket for tunnels of one next header, too."""
        self._relayed.append(relayed)
        asyncio.get_running_loop().add_reader(relayed, self._drain_relayed, relayed)

    def counts(self) -> PairCounts:
        """Packets by the reason of their verdict and what was done with them; they sum to the packets that came."""
        if self._device is not None:
            self._unread = self._device.dropped()
        counts = {
            reason: {action.value: self._counts[action][reason] for action in actions}
            for reason, actions in ACTIONS.items()
        }
        counts[OVERLOAD][DROP] += self._unread
        return counts

    @property
    def waiting(self) -> int:
        """How many packets wait for their turn; they are not counted yet."""
        return len(self._turns)

    def poll(self) -> None:
        """Handle what has arrived, for whoever keeps the event loop from it."""
        if self._device is not None:
            scheduled = self._scheduled
            self._drain()
            if scheduled is not None and self._device is not None:  # its turn of the loop may be far away
                self._work_now()

    def stop(self) -> None:
        """Read no more packets."""
        if self._device is not None:
            asyncio.get_running_loop().remove_reader(self._device.fileno())
            self._device = None
        while self._relayed:
            relayed = self._relayed.pop()
            asyncio.get_running_loop().remove_reader(relayed)
            relayed.close()
        if self._scheduled is not None:
            self._scheduled.cancel()

    def _drain(self) -> None:
        """Read what has arrived, of each queue in turn a piece; handle what is known, then some of what waits.

        Queues that were full of what waits are read after the others, and where these have something that waits, every
        second time. What a flood sends beyond is left to the kernel, which drops it for less than we do.
        """
        device, left, most, begin = self._device, BATCH, BATCH // self._piece, self._begin
        later = frozenset[int]() if self._put_off else self._flooded
        waiting: dict[int, int] = {}
        try:
            while device is not None and left > 0:
                ready = [fd for fd in device.ready(most) if waiting.get(fd, 0) < WAITING]
                first = [fd for fd in ready if fd not in later]
                if not ready:
                    break
                if not first and any(waits for fd, waits in waiting.items() if fd not in later):
                    begin = self._work_now
                    break
                for fd in first or ready:
                    number, waits = self._read(fd)
                    left -= number
                    waiting[fd] = waiting.get(fd, 0) + waits
        except OSError as error:
            self.stop()
            self.lost.set_exception(PlatformError(f"device {DEVICE} is gone: {error.strerror}"))
            return
        self._put_off = bool(later) and later.isdisjoint(waiting)
        self._flooded = frozenset(fd for fd, waits in waiting.items() if waits >= PIECE) | (later - waiting.keys())
        begin()

    def _read(self, fd: int) -> tuple[int, int]:
        """Read a piece of a queue; how many packets that was, and how many of them wait. Raises OSError where the
        device is gone."""
        read, size, number, waiting = os.read, self._read_size, 0, 0
        forward, drop, carry_out = Action.FORWARD, Action.DROP, self.sending.carry_out
        # Finding the table of most by identity is quicker than by the hash of an enum's member.
        forwarded, dropped = self._counts[forward], self._counts[drop]
        tables, flows, events, now = self.tables, self._flows, self._events, time.time_ns()
        waits, refuses = self._turns.waits, self._turns.refuses if self._turns.crowded else None
        try:
            for number in range(self._piece):  # noqa: B007 - where it ends counts
                data = read(fd, size)
                if refuses is not None and refuses(data) and tables.cluster_of(data):
                    self._overloaded(data, now)
                    waiting += 1
                    continue
                packet = parse(data)
                if isinstance(packet, Packet) and waits(data, packet, tables):
                    self._wait(data, packet, now)
                    waiting += 1
                    continue
                verdict, problem = outcome(data, tables, flows, now, 0, packet)
                action = verdict.action
                count = forwarded if action is forward else dropped if action is drop else self._counts[action]
                count[verdict.reason] += 1
                if problem is not None:
                    log.error("packets make the program fail", where=problem.where, problem=problem.message)
                if events.sinks:
                    events.show(data, verdict, now)
                if action is not forward:
                    self.refused.note(data, verdict, tables)
                if action is not drop:
                    carry_out(data, verdict, tables)
        except BlockingIOError:
            return number, waiting
        return self._piece, waiting

    def _drain_relayed(self, relayed: socket.socket) -> None:
        """As `_drain`, of what other dispatchers have relayed; anything else in a tunnel is not for us."""
        tables, now, size = self.tables, time.time_ns(), self._read_size
        for _ in range(BATCH):
            try:
                data, sender = relayed.recvfrom(size)
            except OSError:
                break
            source = IPv6Address(sender[0].partition("%")[0]).packed
            step = step_of(tables.relay_key, source, self._encap_source, relayed.proto, data)
            if not step:
                continue
            packet = parse(data)
            if isinstance(packet, Packet) and self._turns.waits(data, packet, tables):
                self._wait(data, packet, now, step)
            else:
                self._decide(data, packet, now, step)
        self._begin()

    def _wait(self, data: bytes, packet: Packet, now: int, step: int = 0) -> None:
        """Have a packet wait for its turn; where there is no room, others go."""
        for gone in self._turns.put(data, packet, step):
            self._overloaded(gone.data, now)

    def _overloaded(self, data: bytes, now: int) -> None:
        """Drop a packet that would have to wait."""
        self._counts[Action.DROP][OVERLOAD] += 1
        self.refused.add(self.tables.cluster_of(data), DROP, data, OVERLOAD)
        if self._events.sinks and isinstance(packet := parse(data), Packet):
            self._events.show(data, overloaded(packet), now)

    def _begin(self) -> None:
        """Handle some of what waits, unless that is under way in turns of the loop already."""
        if self._scheduled is None and self._turns:
            self._work()

    def _work_now(self) -> None:
        """As `_work`, in place of the turn of the loop that is to come."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._work()

    def _work(self) -> None:
        """Handle packets in their turns for a slice of time, and see to what is left."""
        take, now, end = self._turns.take, time.time_ns(), time.thread_time() + SLICE
        try:
            while (one := take()) is not None:
                self._decide(one.data, one.packet, now, one.step)
                if time.thread_time() >= end or self._asked_for():
                    break
        finally:  # a packet that cannot be sent costs itself, not those behind it
            self._scheduled = asyncio.get_running_loop().call_soon(self._work) if self._turns else None

    def _asked_for(self) -> bool:
        """Whether a queue has packets that is not full of what waits: it is read before more of that is handled."""
        device = self._device
        return self._piece == PIECE and device is not None and not self._flooded.issuperset(device.ready(PIECE))

    def _decide(self, data: bytes, packet: Packet | Malformed, now: int, step: int) -> None:
        verdict, problem = outcome(data, self.tables, self._flows, now, step, packet)
        action = verdict.action
        self._counts[action][verdict.reason] += 1
        if problem is not None:
            log.error("packets make the program fail", where=problem.where, problem=problem.message)
        if self._events.sinks:
            self._events.show(data, verdict, now)
        if action is not Action.FORWARD:
            self.refused.note(data, verdict, self.tables)
        if action is not Action.DROP:
            self.sending.carry_out(data, verdict, self.tables)
