"""What becomes of a packet, as a value. Every packet ends in one verdict and its reason in one counter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from dnsvip.dispatcher.packet import Malformed
from dnsvip.dispatcher.reason import Reason
from dnsvip.site import Forward


class Action(Enum):
    """What the runner does with a packet: to a server (or, translated, back to its client), away, on untouched, or
    away with an ICMP error for its sender."""

    FORWARD = "forward"
    DROP = "drop"
    ANSWER = "answer"
    PASS = "pass"  # noqa: S105 - the opposite of drop


class Outcome(StrEnum):
    """Reasons that are not a judgement on an address (those are `dnsvip.dispatcher.reason.Reason`)."""

    KNOWN = "known"  # of a known flow, to its server
    RESELECTED = "reselected"  # of a known flow whose server is gone, to another one of its pool
    REPLY = "reply"  # a server's answer under nat, back to its client
    ICMP_ERROR = "icmp-error"  # about a known flow, to its server
    ICMP_ORPHAN = "icmp-error-unknown-flow"
    FRAGMENT = "fragment"  # a later one, after its first
    FRAGMENT_ORPHAN = "fragment-without-first"
    PROTOCOL = "unsupported-protocol"
    TIER_DROP = "tier-drop"
    OVER_RATE = "over-rate"
    OVER_RATE_PASSED = "over-rate-passed"
    HELD = "held"
    NO_SERVER = "no-server"  # nobody takes it, in its pool and those it falls back to
    TOO_BIG = "too-big"  # for the way to its server
    NAT_PORTS = "no-nat-port"
    USES_FULL = "replay-table-full"


MALFORMED = {kind: f"malformed-{kind.value}" for kind in Malformed}
"""The counter of each kind of malformed packet."""

REASONS = tuple(dict.fromkeys([*(o.value for o in Outcome), *(r.value for r in Reason), *MALFORMED.values()]))
"""Every reason a verdict can have, which is every counter there is."""


NO_LIMIT = 65_535
"""`Target.room` where nothing is known of the way."""


@dataclass(frozen=True, slots=True)
class Target:
    """One server of one pool. `number` stays its own over all snapshots; `address` is 4 or 16 bytes.

    `room` is the largest IP packet, in bytes as it came, that fits on the way to it: the MTU of the way,
    under encap less the outer header.
    """

    number: int
    pool: str
    name: str
    address: bytes
    mode: Forward
    room: int = NO_LIMIT

    @property
    def version(self) -> int:
        """IP version of the address."""
        return 4 if len(self.address) == 4 else 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a packet and why; `output.output_bytes` makes of both the bytes that leave.

    `dscp` (0 to 63) marks it. In `mode` nat the destination becomes the server's address, or where `vip`
    is set (a reply, without a server) the source becomes that VIP; `port` replaces the client's port
    where it is not empty. In mode encap `flow` is the flow's 64-bit hash (the one that picked its place on
    the ring). `delay` is how long to hold the packet first, in nanoseconds. With ANSWER, `mtu` is what an
    answer for `too-big` tells.
    """

    action: Action
    reason: str
    server: Target | None = None
    dscp: int | None = None
    mode: Forward = Forward.DIRECT
    vip: bytes = b""
    port: bytes = b""
    delay: int = 0
    flow: int = 0
    mtu: int = 0
