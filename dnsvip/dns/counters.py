"""What became of every message, counted: each ends in exactly one Outcome, and outcomes sum to the input."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from dnsvip.dns.vip import Kind
from dnsvip.model import Step


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
    BAD_HEADER = "bad-header"
    BAD_QUESTION = "bad-question"
    BAD_RECORD = "bad-record"
    BAD_OPT = "bad-opt"
    BAD_ECS = "bad-ecs"
    BAD_TSIG = "bad-tsig"
    TSIG_KEY = "tsig-badkey"
    TSIG_SIGNATURE = "tsig-badsig"
    TSIG_TIME = "tsig-badtime"
    TSIG_TRUNCATED = "tsig-badtrunc"
    EDNS_VERSION = "edns-version"
    OPCODE = "opcode"
    CLASS = "class"
    TRANSFER = "transfer"
    META_TYPE = "meta-type"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one message (None: none is due) and how it came about.

    `step` and `kind` tell who was recognised and what address was made, where a service was asked for.
    """

    wire: bytes | None
    outcome: Outcome
    rcode: int | None = None
    step: Step | None = None
    kind: Kind | None = None


class Counters:
    """Totals since the start. `outcomes` sum to the messages; the others say more about parts of them."""

    __slots__ = ("kinds", "outcomes", "rcodes", "steps")

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.rcodes: Counter[int] = Counter()
        self.steps: Counter[str] = Counter()
        self.kinds: Counter[Kind] = Counter()

    def count(self, decision: Decision) -> None:
        """Count one message."""
        self.outcomes[decision.outcome] += 1
        if decision.rcode is not None:
            self.rcodes[decision.rcode] += 1
        if decision.kind is not None:
            self.kinds[decision.kind] += 1
            self.steps[decision.step or ANONYMOUS] += 1

    @property
    def messages(self) -> int:
        """All messages decided on."""
        return sum(self.outcomes.values())


ANONYMOUS = "none"
"""Under what those are counted whom no step recognised."""
