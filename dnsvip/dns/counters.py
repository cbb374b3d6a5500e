"""Every message counted: each ends in exactly one outcome, and the outcomes sum to the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import TypeAlias, TypeVar

from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.site import Step


class CounterCell:
    """How many messages ended in one way: with this outcome, rcode, step, kind and tier."""

    __slots__ = ("key", "number")

    def __init__(self, key: CounterKey) -> None:
        self.key, self.number = key, 0


class ZoneCell:
    """How many answers came from a zone."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Counters:
    """Totals since the start. `outcomes` sum to the messages; the others break down parts of them. `streams` are the
    replies by transport and rcode but those over UDP, which are the rest: its hot path does not count them."""

    __slots__ = ("_cells", "_zones", "streams")

    def __init__(self) -> None:
        self._cells: dict[CounterKey, CounterCell] = {}
        self._zones: dict[Labels | None, ZoneCell] = {}
        self.streams: Counter[tuple[Transport, int | None]] = Counter()

    def count(self, reply: Reply, transport: Transport = Transport.UDP) -> None:
        """Count one message."""
        self.cell(reply.outcome, reply.rcode, reply.step, reply.kind, reply.tier).number += 1
        if transport is not Transport.UDP:
            self.streams[transport, reply.rcode] += 1

    def cell(
        self, outcome: DnsOutcome, rcode: int | None, step: Step | None, kind: Kind | None, tier: str | None = None
    ) -> CounterCell:
        """The cell of all messages that end this way; the hot path adds to it by itself."""
        key = outcome, rcode, step, kind, tier
        return self._cells.get(key) or self._cells.setdefault(key, CounterCell(key))

    def zone(self, apex: Labels | None) -> ZoneCell:
        """The cell of the answers from a zone; None for those from no zone, which nobody reads."""
        return self._zones.get(apex) or self._zones.setdefault(apex, ZoneCell())

    def zones(self, apexes: Container[Labels], most: int) -> list[tuple[Labels, int]]:
        """The answers by zone, of the zones that there are now and of at most so many, those with the most. Others are
        forgotten."""
        for apex in [apex for apex in list(self._zones) if apex is not None and apex not in apexes]:
            self._zones.pop(apex, None)
        numbers = [(apex, cell.number) for apex, cell in list(self._zones.items()) if apex is not None and cell.number]
        return nlargest(most, numbers, key=itemgetter(1))

    @property
    def outcomes(self) -> Mapping[DnsOutcome, int]:
        """Messages by outcome; every outcome is listed."""
        return dict.fromkeys(DnsOutcome, 0) | self._total(lambda outcome, _rcode, _step, _kind, _tier: outcome)

    @property
    def rcodes(self) -> Mapping[int, int]:
        """Answers by rcode."""
        return self._total(lambda _outcome, rcode, _step, _kind, _tier: rcode)

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """Replies with an address made for the requester, by kind of address."""
        return self._total(lambda _outcome, _rcode, _step, kind, _tier: kind)

    @property
    def steps(self) -> Mapping[str, int]:
        """The same replies by the step that identified the requester."""
        return self._total(lambda _outcome, _rcode, step, kind, _tier: None if kind is None else step or ANONYMOUS)

    @property
    def tiers(self) -> Mapping[str, int]:
        """The same replies by the tier of the client that the address was made for."""
        return self._total(lambda _outcome, _rcode, _step, kind, tier: None if kind is None else tier or ANONYMOUS)

    @property
    def messages(self) -> int:
        """All messages decided on."""
        return sum(cell.number for cell in self._cells.values())

    def _total(
        self, part: Callable[[DnsOutcome, int | None, Step | None, Kind | None, str | None], _Part | None]
    ) -> Counter[_Part]:
        total: Counter[_Part] = Counter()
        for key, cell in list(self._cells.items()):
            name = part(*key)
            if name is not None and cell.number:
                total[name] += cell.number
        return total


_Part = TypeVar("_Part")
CounterKey: TypeAlias = tuple[DnsOutcome, int | None, Step | None, Kind | None, str | None]

ANONYMOUS = "none"
"""The label of requesters that no step identified."""
