"""What became of every message, counted: each ends in exactly one Outcome, and outcomes sum to the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from dnsvip.dns.synthesis.vip import Kind
from dnsvip.site import Step


class Outcome(StrEnum):
    """Why a message was answered as it was, or not at all."""

    SERVICE = "service"
    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFERRAL = "referral"
    NAME_TOO_LONG = "name-too-long"
    NO_ZONE = "no-zone"
    BROKEN_ZONE = "broken-zone"
    SHORT = "short"
    RESPONSE = "response"
    BAD_PROXY = "bad-proxy"
    BAD_HEADER = "bad-header"
    BAD_QUESTION = "bad-question"
    BAD_RECORD = "bad-record"
    BAD_OPT = "bad-opt"
    BAD_ECS = "bad-ecs"
    BAD_COOKIE = "bad-cookie"
    COOKIE_REQUIRED = "cookie-required"
    BAD_TSIG = "bad-tsig"
    TSIG_KEY = "tsig-badkey"
    TSIG_SIGNATURE = "tsig-badsig"
    TSIG_TIME = "tsig-badtime"
    TSIG_TRUNCATED = "tsig-badtrunc"
    EDNS_VERSION = "edns-version"
    OPCODE = "opcode"
    NOTIFY = "notify"
    UPDATE = "update"
    CLASS = "class"
    IDENTITY = "identity"
    TRANSFER = "transfer"
    TRANSFERRED = "transferred"
    META_TYPE = "meta-type"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one message (None: none is due) and how it came about.

    `step`, `kind` and `tier` tell who was recognised, what address was made and the tier of the client that it was
    made for, where a service was asked for.
    `more` are the further messages of a zone's transfer, made as they are taken.
    """

    wire: bytes | None
    outcome: Outcome
    rcode: int | None = None
    step: Step | None = None
    kind: Kind | None = None
    more: Iterator[bytes] | None = None
    tier: str | None = None


class CounterCell:
    """How many messages were decided in one way; two are the same only if they are one."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Counters:
    """Totals since the start. `outcomes` sum to the messages; the others say more about parts of them. `streams` are
    those of TCP by rcode: what is not among them came by UDP, whose path counts nothing for it."""

    __slots__ = ("_ticks", "streams")

    def __init__(self) -> None:
        self._ticks: dict[_Key, CounterCell] = {}
        self.streams: Counter[int | None] = Counter()

    def count(self, decision: Decision) -> None:
        """Count one message."""
        self.tick(decision.outcome, decision.rcode, decision.step, decision.kind, decision.tier).number += 1

    def tick(
        self, outcome: Outcome, rcode: int | None, step: Step | None, kind: Kind | None, tier: str | None = None
    ) -> CounterCell:
        """The one number of all messages decided thus: a path in a hurry adds to it by itself."""
        key = outcome, rcode, step, kind, tier
        return self._ticks.get(key) or self._ticks.setdefault(key, CounterCell())

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """Messages by outcome, each outcome named."""
        return dict.fromkeys(Outcome, 0) | self._total(lambda outcome, _rcode, _step, _kind, _tier: outcome)

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
        return sum(tick.number for tick in self._ticks.values())

    def _total(
        self, part: Callable[[Outcome, int | None, Step | None, Kind | None, str | None], _Part | None]
    ) -> Counter[_Part]:
        total: Counter[_Part] = Counter()
        for key, tick in list(self._ticks.items()):
            name = part(*key)
            if name is not None and tick.number:
                total[name] += tick.number
        return total


_Part = TypeVar("_Part")
_Key: TypeAlias = tuple[Outcome, int | None, Step | None, Kind | None, str | None]

ANONYMOUS = "none"
"""Under what those are counted whom no step recognised."""
