"""The packet path beside a flood, over a socket in place of the TUN device."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.packet_loop import BATCH, PIECE, WAITING, PacketLoop
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.io.user.view import UserEvents
from dnsvip.dispatcher.observe.plane import Event, Filter
from dnsvip.dispatcher.reason import totals
from dnsvip.dispatcher.turns import MOST
from tests.dispatcher.build import ACK, POOLS, address, segment, snapshot

GREEDY, OTHER = 0x2001_0DB8_0066_0001 << 64 | 1, 0x2001_0DB8_0099_0001 << 64 | 1
VIP = address("gold")


class Plane:
    """A packet loop with a device that is ours, of one queue or more, and what it has forwarded."""

    def __init__(self, queues: int) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(queues)]
        self.queues, self._ours = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self.device, self._epoll = self.queues[0], select.epoll()
        self.lost = 0
        for end in self._ours:
            self._epoll.register(end, select.EPOLLIN)
        for end in (*self.queues, *self._ours):
            end.setblocking(False)
        self.forwarded: list[bytes] = []
        self.fails = False
        self.events = UserEvents()
        paths = Paths()
        for server in POOLS["fast"].servers:
            paths.senders[server.address.packed, 6] = self._send
        self.loop = PacketLoop(Flows(100_000), paths, self.events, bytes(8))
        self.loop.tables = DispatchTables(snapshot())
        self.loop.start(self, 1500)
        self.sent = 0

    def __len__(self) -> int:
        return len(self._ours)

    def fileno(self) -> int:
        """See Device."""
        return self._epoll.fileno()

    def ready(self, most: int) -> list[int]:
        """See Device."""
        return [queue for queue, _ in self._epoll.poll(0, most)]

    def dropped(self) -> int:
        """See Device."""
        return self.lost

    def _send(self, data: bytes) -> int:
        if self.fails:
            raise RuntimeError("cannot send")
        self.forwarded.append(data[8:])  # without the DSCP that its tier gives it
        return len(data)

    def fill(self) -> None:
        """Send the first segments of flows of one network, until the device takes no more."""
        try:
            while True:
                self.device.send(segment(VIP, port=self.sent % 60_000, source=GREEDY + self.sent // 60_000))
                self.sent += 1
        except BlockingIOError:
            pass

    def read(self) -> int:
        """How many packets the loop has read."""
        return sum(totals(self.loop.counts()).values()) + self.loop.waiting

    def close(self) -> None:
        """End it."""
        self.loop.stop()
        self._epoll.close()
        for end in (*self.queues, *self._ours):
            end.close()


@contextmanager
def plane(queues: int = 1) -> Iterator[Plane]:
    """A packet loop while the context lasts."""
    made = Plane(queues)
    try:
        yield made
    finally:
        made.close()


async def test_a_newcomer_beside_a_flood() -> None:
    """Beside a network that sends more new flows than can be verified, another's first packet is forwarded as soon as
    it is read, and so are the packets of its flow; every packet is counted once or waits."""
    with plane() as made:
        seen: list[Event] = []
        made.events.watch(seen.append, Filter())
        while not made.loop.counts()["overload"]["drop"]:
            made.fill()
            await asyncio.sleep(0)
        for flags in (2, ACK):
            packet = segment(VIP, flags, source=OTHER)
            before, turns = len(made.forwarded), 0
            while True:
                try:
                    made.device.send(packet)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0)
            while packet[8:] not in made.forwarded[before:]:
                made.fill()
                await asyncio.sleep(0)
                turns += 1
            assert turns <= 4
            assert made.loop.waiting > MOST // 2
        made.sent += 2
        assert any(event.reason == "overload" for event in seen)
        while made.loop.waiting:
            await asyncio.sleep(0)
        assert sum(totals(made.loop.counts()).values()) == made.sent
        assert len(made.forwarded) == made.sent - made.loop.counts()["overload"]["drop"]


async def test_known_flows_beside_a_flood() -> None:
    """A slice of new flows holds up the packets of known ones, not all that wait."""
    with plane() as made:
        made.device.send(segment(VIP, source=OTHER))
        while not made.forwarded:
            await asyncio.sleep(0)
        while made.loop.waiting < MOST // 2:
            made.fill()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting, known = made.loop.waiting, segment(VIP, ACK, source=OTHER)
        made.device.send(known)
        while known[8:] not in made.forwarded:
            await asyncio.sleep(0)
        assert made.loop.waiting > waiting - BATCH


async def test_a_flood_in_its_own_queue() -> None:
    """Of a queue whose packets wait some are read at a time, of one of known flows all."""
    with plane(3) as made:
        _, known, new = made.queues
        known.send(segment(VIP, source=OTHER))
        while not made.forwarded:
            await asyncio.sleep(0)
        while not made.loop.counts()["overload"]["drop"]:
            made.fill()
            await asyncio.sleep(0)
        made.fill()
        for number in range(40):
            known.send(segment(VIP, ACK, source=OTHER, data=bytes([number])))
        new.send(segment(VIP, source=OTHER + (1 << 96)))
        before, read = len(made.forwarded), made.read()
        made.loop.poll()
        assert 40 < made.read() - read <= BATCH // 2
        assert [packet[-1] for packet in made.forwarded[before:][:40]] == list(range(40)), "in order"
        made.loop.poll()
        assert segment(VIP, source=OTHER + (1 << 96))[8:] in made.forwarded


async def test_others_before_a_flood() -> None:
    """A first packet of another queue is forwarded before more of a flood is read, every second time: the flood's queue
    may have packets of known flows, too. What of it waits is left as soon as another queue has something."""
    with plane(2) as made:
        while not made.loop.counts()["overload"]["drop"]:
            made.fill()
            await asyncio.sleep(0)
        read = []
        for number in range(6):
            made.fill()
            newcomer = segment(VIP, source=OTHER + (number << 96))
            before = made.read()
            made.queues[1].send(newcomer)
            made.loop.poll()
            if newcomer[8:] not in made.forwarded:
                made.loop.poll()
            assert newcomer[8:] in made.forwarded
            read.append(made.read() - before)
        assert 1 in read
        assert any(PIECE < number <= PIECE + WAITING for number in read), read
        made.queues[1].send(segment(VIP, ACK, source=OTHER))
        before = len(made.forwarded)
        made.loop._work()
        assert len(made.forwarded) == before + 1


async def test_what_the_kernel_dropped_counts() -> None:
    """Packets that nobody read in time are counted as those that are dropped here, once, also after the end."""
    with plane() as made:
        made.lost = 7
        assert made.loop.counts()["overload"]["drop"] == 7
        made.lost = 9
        assert sum(totals(made.loop.counts()).values()) == 9
        made.loop.stop()
        made.lost = 0
        assert made.loop.counts()["overload"]["drop"] == 9


async def test_what_waits_is_handled_where_the_loop_is_kept() -> None:
    """Whoever keeps the event loop and polls has new flows handled too, not only packets of known ones."""
    with plane() as made:
        while made.loop.waiting < 100:
            made.fill()
            await asyncio.sleep(0)
        while made.loop.waiting:
            made.loop.poll()
        made.device.send(segment(VIP, source=OTHER))
        made.loop.poll()
        assert len(made.forwarded) == made.sent + 1


async def test_a_packet_that_fails_costs_itself() -> None:
    """Where sending a packet raises what nobody has foreseen, those behind it are handled all the same."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    with plane() as made:
        made.fails = True
        made.fill()
        while len(faults) < 3:
            await asyncio.sleep(0)
        made.fails = False
        while made.loop.waiting:
            await asyncio.sleep(0)
        made.device.send(segment(VIP, source=OTHER))
        await asyncio.sleep(0.01)
        assert segment(VIP, source=OTHER)[8:] in made.forwarded
