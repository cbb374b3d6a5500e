"""Which packets are handled as they come, and which wait for the turn of their network.

To verify an address takes ten times as long as to forward a packet of a known flow. So packets of known flows pass, and
those whose address has to be verified wait in a bounded queue: each network (/48 or /24) has its turn, and in it each
of its parts (/64, or one address). Where the queue is full the oldest of the network that fills it are dropped, with
nothing of them decrypted. Packets of one flow stay in order. Pure but for the queue.
"""

from __future__ import annotations

from typing import NamedTuple

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.packet import ACK, FIN, RST, SYN, TCP, FlowKey, Packet, Shape, is_running
from dnsvip.dispatcher.reason import Action, PacketReason
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.fair_queue import FairQueue

MOST = 4096
"""Packets that wait at most: what is verified in a tenth of a second, and 6 MiB at an MTU of 1500."""

_CHEAP = frozenset({Shape.FRAGMENT, Shape.OTHER})
"""What is handled without verifying an address, whatever its flow."""

_FLAGS = FIN | SYN | RST | ACK
"""Of these a first segment has SYN alone."""


class Waiting(NamedTuple):
    """A packet that waits: its bytes, as parsed, and how another dispatcher has relayed it (peers.py). `names` are what
    others wait for with it."""

    data: bytes
    packet: Packet
    step: int
    names: tuple[bytes, ...]


class Turns:
    """The packets that wait, before these flows."""

    def __init__(self, flows: Flows, most: int = MOST) -> None:
        self._flows = flows
        self._queue: FairQueue[Waiting] = FairQueue(most)
        self._names: dict[bytes, int] = {}
        """Flow key, or identity of a fragmented packet -> how many packets of it wait."""

    def __len__(self) -> int:
        return len(self._queue)

    def waits(self, data: bytes, packet: Packet, tables: DispatchTables) -> bool:
        """Whether a packet has to wait: its address would have to be verified, or an earlier one of its flow waits."""
        key, names = packet.key, self._names
        if names and (key in names or packet.fragment in names):
            return True
        segment = self._flows.established
        slot = segment.slots.get(key)
        if slot is None:
            segment = self._flows.probation
            slot = segment.slots.get(key)
        if slot is not None and not packet.flags & SYN:  # a datagram of a resumed flow may be judged anew
            return not packet.flags and segment.resumed[slot] == 1 and not is_running(data, packet)
        if packet.shape in _CHEAP or key in self._flows.translations.back:
            return False
        return tables.ours(FlowKey(key).destination, packet.version)

    @property
    def crowded(self) -> bool:
        """Whether there is hardly room for a packet."""
        return self._queue.crowded

    def refuses(self, data: bytes) -> bool:
        """Whether a packet, told by a few of its bytes, is a first segment of TCP for which only one from the same part
        of its network would have to go."""
        if len(data) < 40:
            return False
        if data[0] == 0x45:  # IPv4 without options
            first = data[9] == TCP and data[33] & _FLAGS == SYN and not (data[6] & 0x3F or data[7])
            return first and self._queue.refuses(data[12:16])
        first = data[0] >> 4 == 6 and data[6] == TCP and len(data) > 53 and data[53] & _FLAGS == SYN
        return first and self._queue.refuses(data[8:16])

    def put(self, data: bytes, packet: Packet, step: int = 0) -> list[Waiting]:
        """Have a packet wait; the packets that had to go for it."""
        names = self._names_of(packet)
        for name in names:
            self._names[name] = self._names.get(name, 0) + 1
        network, part = (data[8:14], data[14:16]) if packet.version == 6 else (data[12:15], data[15:16])
        dropped = self._queue.put(network, Waiting(data, packet, step, names), part)
        for each in dropped:
            self._forget(each)
        return dropped

    def take(self) -> Waiting | None:
        """The packet whose turn it is; None where none waits."""
        one = self._queue.take()
        if one is not None:
            self._forget(one)
        return one

    def _names_of(self, packet: Packet) -> tuple[bytes, ...]:
        """The flow and the fragmented packet of a packet, where others of them are to wait behind it. Nothing waits
        behind a SYN of a known flow: anybody may have sent that."""
        key, flows = packet.key, self._flows
        if packet.flags & SYN and (key in flows.established.slots or key in flows.probation.slots):
            return (packet.fragment,) if packet.fragment else ()
        return (key, packet.fragment) if packet.fragment else (key,)

    def _forget(self, one: Waiting) -> None:
        for name in one.names:
            left = self._names[name] - 1
            if left:
                self._names[name] = left
            else:
                del self._names[name]


def overloaded(packet: Packet) -> Verdict:
    """The verdict on a packet that had to go."""
    return Verdict(Action.DROP, PacketReason.OVERLOAD.value, packet=packet)
