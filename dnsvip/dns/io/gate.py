"""Which TCP streams are let in, and whose turn it is: places by source, and answers by source.

Whoever has an address of a network has its others, so both count networks: a source with a thousand connections waits
for its own questions, and leaves places to others.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from time import perf_counter
from typing import Protocol, TypeAlias

from dnsvip.dns.io.deadlines import Deadlines
from dnsvip.dns.protection.crowds import Crowds, Network
from dnsvip.dns.protection.sources import source_of
from dnsvip.fair_queue import FairQueue

SLICE = 0.001
"""Seconds that all streams together may take before datagrams get their turn: what a datagram waits for them."""

PAUSE = 0.001
"""Seconds between two slices that were used up: an API request takes many turns of the loop, not much of each."""

PREFIXES = {4: ((32, 1), (24, 4)), 6: ((64, 1), (56, 2), (48, 4))}
"""Prefixes that connections are counted by, the last of them what one owner has all the addresses of (`NETWORKS`), and
how many times `per_source` each may have: a requester with an IPv6 /48 has 65,536 sources. An IPv4 /24 often has many
owners."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of all streams of one server: connections in all and of one source (an IPv4 address, an IPv6 /64; twice
    as many of a /56, four times of an IPv4 /24 or an IPv6 /48), seconds to the next complete query, seconds in which a
    peer must read what waits for it, seconds from the connection to the end of its TLS handshake."""

    connections: int = 1000
    per_source: int = 64
    idle: float = 10.0
    write: float = 10.0
    handshake: float = 5.0


class Admitted(Protocol):
    """A connection at the gate."""

    source: IPv4Address | IPv6Address

    def evict(self) -> None:
        """End, to make room."""

    def close(self) -> None:
        """Flush what is written, accept no more."""


class Working(Protocol):
    """A stream that has messages to answer."""

    source: IPv4Address | IPv6Address

    def work(self) -> bool:
        """Answer one, or take a step of a long answer; whether there may be more to do now."""

    def fail(self) -> None:
        """End, after a fault of ours."""


class Gate:
    """Counts the connections of one server and keeps them within its limits; those of `front_ends` have no source until
    they name it.

    A handshake costs as much as many answers, so they have turns of their own: who begin them wait for each other.
    `streams` stand with what each is counted by. Where there is no room, one of the network (/24, /48) with most
    streams goes, the one idle longest: who fills all places from some networks keeps no other out.
    """

    def __init__(self, limits: StreamLimits, front_ends: Container[IPv4Address | IPv6Address] = ()) -> None:
        self.limits, self.front_ends = limits, front_ends
        self.streams: dict[Admitted, Place] = {}
        self.turns, self.handshakes = StreamTurns(), StreamTurns()
        self.deadlines = Deadlines()
        self._sources: dict[Network, int] = {}
        self._crowds: Crowds[Admitted] = Crowds()

    def turn(self) -> None:
        """Note that the event loop has begun another turn: all others have had theirs, so slices begin anew."""
        self.turns.until = self.handshakes.until = 0.0

    def enter(self, stream: Admitted, place: Place | None = None) -> bool:
        """Admit a connection, by its place where that is known; False where its source has too many."""
        sources, per_source = self._sources, self.limits.per_source
        if place is None:
            place = () if stream.source in self.front_ends else place_of(stream.source)
        for counted, times in place:
            if sources.get(counted, 0) >= times * per_source:
                return False
        network = _network(place)
        while len(self.streams) >= self.limits.connections and (gone := self._crowds.in_the_way(network)) is not None:
            self.leave(gone)
            gone.evict()
        self.streams[stream] = place
        for counted, _ in place:
            sources[counted] = sources.get(counted, 0) + 1
        self._crowds.add(network, stream)
        return True

    def leave(self, stream: Admitted) -> None:
        """Release a connection; one that was never admitted changes nothing."""
        place = self.streams.pop(stream, None)
        if place is None:
            return
        sources = self._sources
        self._crowds.remove(_network(place), stream)
        for network, _ in place:
            if (number := sources[network]) > 1:
                sources[network] = number - 1
            else:
                del sources[network]

    def touch(self, stream: Admitted) -> None:
        """Note that a connection is in use."""
        place = self.streams.get(stream)
        if place is not None:
            self._crowds.use(_network(place), stream)


class StreamTurns:
    """Answers for the streams that have messages waiting: one message of each source (/24, /56) in turn, and of its
    streams in theirs, for a SLICE of time, then whatever else the event loop has to do."""

    def __init__(self) -> None:
        self._ready: FairQueue[Working] = FairQueue(sys.maxsize)  # a stream is in it once, and streams are bounded
        self._scheduled = False
        self.until = 0.0
        """When the last slice ends or has ended, by `perf_counter`."""

    def begin(self, stream: Working) -> None:
        """Give a stream that has none its turns: the first at once where nobody waits and a slice is not used up, be it
        by those that had it at once or in turns."""
        now = perf_counter()
        if self._scheduled or self.until <= now < self.until + PAUSE:
            self.add(stream)
            return
        if now >= self.until:
            self.until = now + SLICE
        try:
            more = stream.work()
        except Exception as error:  # noqa: BLE001 - see below
            more = self._failed(stream, error)
        if (now := perf_counter()) > self.until:  # one that took longer than the slice has used it up
            self.until = now
        if more:
            self.add(stream)

    def add(self, stream: Working) -> None:
        """Give a stream its turns; it must not have any."""
        self._put(stream)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _put(self, stream: Working) -> None:
        self._ready.put(source_of(stream.source.packed), stream)

    def _run(self) -> None:
        end, take = perf_counter() + SLICE, self._ready.take
        while (stream := take()) is not None:
            try:
                more = stream.work()
            except Exception as error:  # noqa: BLE001 - a fault of ours costs one stream, not the turns of all
                more = self._failed(stream, error)
            if more:
                self._put(stream)
            if perf_counter() >= end:
                break
        now = perf_counter()
        self._scheduled = bool(self._ready)
        if self._scheduled:
            self.until = now
            asyncio.get_running_loop().call_later(PAUSE, self._run)
        else:
            self.until = max(now, end)  # what is left of the slice is for those that come next

    @staticmethod
    def _failed(stream: Working, error: Exception) -> bool:
        context = {"message": "a stream failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
        stream.fail()
        return False


Place: TypeAlias = Sequence[tuple[Network, int]]
"""What a connection is counted by, and how many times `per_source` each may have; none while it has no source."""


@lru_cache(1024)
def place_of(source: IPv4Address | IPv6Address) -> Place:
    """Kept for those who connect again and again, as resolvers do: working it out takes as long as the rest."""
    bits, number = source.max_prefixlen, int(source)
    return tuple(((length, number >> bits - length), times) for length, times in PREFIXES[source.version])


def _network(place: Place) -> Network | None:
    """The network of a connection, the widest; None where its source is unknown."""
    return place[-1][0] if place else None
