"""Samples of what was answered in the kernel (programs/dns_samples.h), as the server's own samples are.

The program picks them: one in so many for each taker, by number. Those that there was no room for are counted there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.io.xdp import image
from dnsvip.dns.io.xdp.cells import Cells
from dnsvip.dns.protocol.message import Flag
from dnsvip.dns.querylog import Sample
from dnsvip.dns.reply import Reply
from dnsvip.xdp.maps import Map, RingBuffer
from dnsvip.xdp.structs import number_of, u32

TAKERS = ("query_log", "dnstap", "watch")
"""The numbers of takers are their places here; names as in `DnsServer.sample`."""

MOST_AT_ONCE = 256
"""Samples that are taken before the server answers again, in about 3 ms."""

_BILLION = 1_000_000_000


class Samples:
    """The samples of one loaded program; `take` gets each with the bits of its takers."""

    def __init__(
        self, ring: Map, sampling: Map, cells: Cells, listeners: Sequence[str], take: Callable[[int, Sample], object]
    ) -> None:
        self._sampling, self._cells, self._listeners, self._take = sampling, cells, listeners, take
        self._ring = RingBuffer(ring, self._receive)
        self._fields = image.TYPES.struct("dns_sample").members
        self._lost = image.TYPES.struct("dns_sampling").members["lost"]
        self._told = [0] * len(TAKERS)

    def consume(self) -> int:
        """Take those that there are, at most MOST_AT_ONCE; how many."""
        return self._ring.consume(MOST_AT_ONCE)

    def lost(self) -> Sequence[int]:
        """How many have been lost since the last call, by taker."""
        each = [value[self._lost.offset :] for value in self._sampling.get_each(u32(0))]
        totals = [sum(number_of(value[8 * n : 8 * n + 8]) for value in each) for n in range(len(TAKERS))]
        new = [total - told for total, told in zip(totals, self._told, strict=True)]
        self._told = totals
        return new

    def close(self) -> None:
        """Stop reading."""
        self._ring.close()

    def _receive(self, event: bytes) -> None:
        self._take(self._number(event, "takers"), self._sample(event))

    def _sample(self, event: bytes) -> Sample:
        version, size = self._number(event, "version"), self._number(event, "question")
        wires = event[self._fields["wire"].offset :]
        wire, answer = wires[:size], wires[size : size + self._number(event, "answer")]
        source = self._field(event, "source")[-4 if version == 4 else -16 :]
        outcome, rcode, step, kind, tier = self._cells.key(self._number(event, "cell"))
        flags = int.from_bytes(answer[2:4], "big")
        reply = Reply(
            answer or None,
            outcome,
            rcode,
            aa=bool(flags & Flag.AA),
            truncated=bool(flags & Flag.TC),
            cookie_valid=bool(self._number(event, "is_proven")),
            step=step,
            kind=kind,
            tier=tier,
        )
        now, listener = self._number(event, "time") / _BILLION, self._listeners[self._number(event, "listener")]
        return Sample(now, Transport.UDP, listener, ip_address(source), wire, reply, in_kernel=True)

    def _number(self, event: bytes, name: str) -> int:
        return number_of(self._field(event, name))

    def _field(self, event: bytes, name: str) -> bytes:
        member = self._fields[name]
        return event[member.offset : member.offset + member.size]
