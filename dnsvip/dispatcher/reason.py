"""Every reason a packet can be handled for: the interface of counters, logs and `dnsvip watch`.

A packet ends in exactly one reason, and each reason is one counter for each action that it can lead to (`ACTIONS`).
`WORDS` says in English what each one means.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import TypeAlias

from dnsvip.dispatcher.packet import Malformed


class Action(Enum):
    """What the data plane does with a packet."""

    FORWARD = "forward"  # to a server, or a translated reply back to its client
    DROP = "drop"
    ANSWER = "answer"  # drop it and send its source an ICMP error or a TCP reset
    PASS = "pass"  # noqa: S105 - the opposite of drop: route it untouched


class AddressReason(StrEnum):
    """The result of verifying a destination address, in the order of decoding (address/README.md)."""

    NOT_OURS = "not-ours"
    PLAIN = "plain"
    CLASS = "class"
    UNKNOWN_EPOCH = "unknown-epoch"
    BAD_TAG = "bad-tag"
    BAD_PAYLOAD = "bad-payload"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNPROVEN = "unproven"
    BAD_PROOF = "bad-proof"
    REPLAYED = "replayed"
    ISSUED = "issued"
    PROVEN = "proven"
    RESUMED = "resumed"
    SOURCE = "source"
    SOURCE_NETWORK = "source-network"


ACCEPTED = frozenset(
    {
        AddressReason.PLAIN,
        AddressReason.CLASS,
        AddressReason.ISSUED,
        AddressReason.PROVEN,
        AddressReason.RESUMED,
        AddressReason.SOURCE,
        AddressReason.SOURCE_NETWORK,
    }
)
"""The reasons of valid addresses."""


class PacketReason(StrEnum):
    """Every other reason: those that do not come from verifying an address (AddressReason)."""

    KNOWN = "known"
    RESELECTED = "reselected"
    REPLY = "reply"
    ICMP_ERROR = "icmp-error"
    ICMP_ORPHAN = "icmp-error-unknown-flow"
    FRAGMENT = "fragment"
    FRAGMENT_ORPHAN = "fragment-without-first"
    PROTOCOL = "unsupported-protocol"
    TIER_DROP = "tier-drop"
    OVER_RATE = "over-rate"
    OVER_RATE_PASSED = "over-rate-passed"
    HELD = "held"
    NO_SERVER = "no-server"
    TOO_BIG = "too-big"
    NAT_PORTS = "no-nat-port"
    USES_FULL = "replay-table-full"
    FAILED = "failed"
    MARTIAN = "martian-source"
    POLICED = "policed"
    POLICED_MARKED = "policed-marked"
    RESUMED_OVER_RATE = "resumed-over-rate"
    RELAYED = "relayed"
    OVERLOAD = "overload"


MALFORMED = {kind: f"malformed-{kind.value}" for kind in Malformed}
"""The reason of each kind of malformed packet."""

REASONS = tuple(
    dict.fromkeys([*(r.value for r in PacketReason), *(r.value for r in AddressReason), *MALFORMED.values()])
)
"""Every reason; the kernel program numbers its counters in this order."""

_REJECTED = [reason for reason in AddressReason if reason not in ACCEPTED and reason is not AddressReason.NOT_OURS]
ACTIONS: Mapping[str, tuple[Action, ...]] = {
    **dict.fromkeys(REASONS, (Action.DROP,)),
    **dict.fromkeys((reason.value for reason in ACCEPTED), (Action.FORWARD,)),
    **dict.fromkeys((reason.value for reason in _REJECTED), (Action.DROP, Action.FORWARD)),
    **dict.fromkeys(("known", "reselected", "reply", "icmp-error", "fragment", "relayed"), (Action.FORWARD,)),
    **dict.fromkeys(("over-rate-passed", "held", "policed-marked"), (Action.FORWARD,)),
    **dict.fromkeys(("no-server", "too-big"), (Action.DROP, Action.ANSWER)),
    PacketReason.ICMP_ORPHAN.value: (Action.DROP, Action.FORWARD),
    AddressReason.EXPIRED.value: (Action.DROP, Action.FORWARD, Action.ANSWER),
    AddressReason.PLAIN.value: (Action.FORWARD, Action.DROP),
    AddressReason.NOT_OURS.value: (Action.PASS,),
}
"""What may be done with a packet for each reason. A rejected address is forwarded where its cluster's `on_invalid` or
`on_expired` (or its tier's `unproven`) says so; the plain VIP is dropped where its cluster has no default tier; an ICMP
error about an unknown flow is forwarded where the flow's address leads to a server."""

PairCounts: TypeAlias = dict[str, dict[str, int]]
"""Packets by reason and action (their values): a packet is in exactly one."""


def zero_counts() -> PairCounts:
    """Nothing counted yet, for every reason with its actions."""
    return {reason: {action.value: 0 for action in actions} for reason, actions in ACTIONS.items()}


def totals(counts: PairCounts) -> dict[str, int]:
    """Packets by reason, whatever was done with them."""
    return {reason: sum(by_action.values()) for reason, by_action in counts.items()}


def drop_counts(numbers: Mapping[tuple[str, str], int]) -> list[dict[str, str | int]]:
    """Packets dropped or answered by cluster and action, as JSON values."""
    return [{"cluster": cluster, "action": action, "packets": n} for (cluster, action), n in sorted(numbers.items())]


WORDS: Mapping[str, str] = {
    "known": "known flow",
    "reselected": "known flow whose server is gone, moved to another server of the pool",
    "reply": "server reply, source translated back to the VIP",
    "icmp-error": "ICMP error about a known flow",
    "icmp-error-unknown-flow": "ICMP error about a flow that is not known here",
    "fragment": "later fragment, follows its first fragment",
    "fragment-without-first": "later fragment whose first fragment has not arrived",
    "unsupported-protocol": "not TCP, UDP or ICMP echo",
    "tier-drop": "the tier's action is drop",
    "over-rate": "the tier opens more flows than its rate allows",
    "over-rate-passed": "over the tier's rate, which is only counted",
    "held": "over the tier's rate, delayed until a token is available",
    "no-server": "no healthy server in the pool or its fallbacks",
    "too-big": "larger than the path MTU to the server",
    "no-nat-port": "no free client port at the server for NAT",
    "replay-table-full": "the table of used single-use addresses, or the client's share, is full, or uses may be lost",
    "failed": "the program fails at it, a fault of the program; `dnsvip status` names the object that it is about",
    "martian-source": "the source is no client's address: no host's, the VIP itself, or another one of the cluster",
    "policed": "over the bytes or packets that the tier's policing allows",
    "policed-marked": "over the tier's policing, forwarded with a lower drop precedence or as lower effort",
    "resumed-over-rate": "more flows of other dispatchers than the cluster's resume_rate allows",
    "relayed": "another dispatcher owns the single use or translation of its flow, and decides",
    "overload": "more packets to verify than the process can; of those that waited, one of the network with most",
    "not-ours": "destination in no cluster prefix",
    "plain": "new flow to the plain VIP",
    "class": "new flow to a class address",
    "unknown-epoch": "the address names a key epoch that is empty or retired",
    "bad-tag": "the address is forged, damaged or encoded under another key",
    "bad-payload": "the address authenticates but its payload is invalid",
    "expired": "the address has expired",
    "revoked": "the client is disabled, revoked or deleted",
    "unproven": "the client or tier requires a proof or a network of its own, and the packet has neither",
    "bad-proof": "the proof does not match client key, source and time, or too many from its network did not",
    "replayed": "single-use address, already used by another flow",
    "issued": "new flow to an issued address",
    "proven": "new flow to a proven address",
    "source": "new flow to the plain VIP from a client's own address that says who it is",
    "resumed": "running flow, not known here, to an address that is or was valid",
    "source-network": "new flow from the network of a client, which is that client's",
    "malformed-short": "truncated within its headers",
    "malformed-version": "neither IPv4 nor IPv6",
    "malformed-length": "inconsistent length field",
    "malformed-extensions": "too many extension headers, or in an order RFC 8200 forbids",
    "malformed-routing": "routing header with segments left",
    "malformed-flags": "invalid TCP flags",
    "malformed-inner": "ICMP error that quotes no readable packet of its receiver",
}
"""The meaning of every reason."""

_DONE: Mapping[Action, str] = {
    Action.FORWARD: "forwarded",
    Action.DROP: "dropped",
    Action.PASS: "passed on untouched",
    Action.ANSWER: "answered with an ICMP error",
}
_RESET = "answered with a TCP reset or an ICMP error"


def in_words(reason: str, action: Action) -> str:
    """What was done with a packet, and why."""
    done = _RESET if action is Action.ANSWER and reason == AddressReason.EXPIRED.value else _DONE[action]
    return f"{done}: {WORDS.get(reason, reason)}"
