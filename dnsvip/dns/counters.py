"""What became of every message, counted: each ends in exactly one Outcome, and outcomes sum to the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.dns.synthesis.vip import Kind
from dnsvip.site import Step


class CounterCell:
    """How many messages ended in one way: with this outcome, rcode, step, kind and tier."""

    __slots__ = ("key", "number")

    def __init__(self, key: CounterKey) -> None:
        self.key, self.number = key, 0


class Counters:
    """Totals since the start. `outcomes` sum to the messages; the others say more about parts of them. `streams` are
    those of TCP by rcode: what is not among them came by UDP, whose path counts nothing for it."""

    __slots__ = ("_cells", "streams")

    def __init__(self) -> None:
        self._cells: dict[CounterKey, CounterCell] = {}
        self.streams: Counter[int | None] = Counter()

    def count(self, reply: Reply, transport: str = "udp") -> None:
        """Count one message."""
        self.cell(reply.outcome, reply.rcode, reply.step, reply.kind, reply.tier).number += 1
        if transport != "udp":
            self.streams[reply.rcode] += 1

    def cell(
        self, outcome: DnsOutcome, rcode: int | None, step: Step | None, kind: Kind | None, tier: str | None = None
    ) -> CounterCell:
        """The one number of all messages decided thus: a path in a hurry adds to it by itself."""
        key = outcome, rcode, step, kind, tier
        return self._cells.get(key) or self._cells.setdefault(key, CounterCell(key))

    @property
    def outcomes(self) -> Mapping[DnsOutcome, int]:
        """Messages by outcome, each outcome named."""
        return dict.fromkeys(DnsOutcome, 0) | self._total(lambda outcome, _rcode, _step, _kind, _tier: outcome)

    @property
    def rcodes(self) -> Mapping[int, int]:
        """Answers by rcode."""
        return self._total(lambda _outcome, rcode, _step, _kind, _tier: rcode)

    @property
    def kinds(self) -> Mapping[Kind, int]:
        """Answers with an address made for the requester, by what sort it is."""
        return self._total(lambda _outcome, _rcode, _step, kind, _tier: kind)

    @property
    def steps(self) -> Mapping[str, int]:
        """The same answers by the step that recognised the requester."""
        return self._total(lambda _outcome, _rcode, step, kind, _tier: None if kind is None else step or ANONYMOUS)

    @property
    def tiers(self) -> Mapping[str, int]:
        """The same answers by the tier of the client that the address was made for; a name for each of the site's."""
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
"""Under what those are counted whom no step recognised."""
