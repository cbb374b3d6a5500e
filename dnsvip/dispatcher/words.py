"""Reasons told to people: what each means, in one line."""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.dispatcher.verdict import Action

WORDS: Mapping[str, str] = {
    "known": "of a known flow, to its server",
    "reselected": "of a known flow whose server is gone, to another one of its pool",
    "reply": "a server's answer, given its VIP back",
    "icmp-error": "an ICMP error about a known flow, to its server",
    "icmp-error-unknown-flow": "an ICMP error about a flow that is not known here",
    "fragment": "a later fragment, after its first",
    "fragment-without-first": "a later fragment whose first one has not come",
    "unsupported-protocol": "neither TCP nor UDP nor an echo",
    "tier-drop": "its tier is set to drop",
    "over-rate": "its tier opens more flows than its rate allows",
    "over-rate-passed": "over its tier's rate, which only counts",
    "held": "over its tier's rate, held until its turn",
    "no-server": "no server takes it, in its pool and those it falls back to",
    "too-big": "larger than the way to its server takes",
    "no-nat-port": "no port is free for it at its server",
    "replay-table-full": "no room is left to remember the use of its address",
    "not-ours": "for no cluster's prefix",
    "plain": "a new flow to the plain VIP",
    "class": "a new flow to an address of its class",
    "unknown-epoch": "its address names a key that is empty or retired",
    "bad-tag": "its address is forged, damaged, or of another key",
    "bad-payload": "its address carries what makes no sense here",
    "expired": "its address's time is over",
    "revoked": "its client is disabled or revoked",
    "unproven": "its client or tier demands a proof, and it carries none",
    "bad-proof": "its proof fits neither key, source nor time",
    "replayed": "its address is for one flow, and another one has used it",
    "issued": "a new flow to an address issued to it",
    "proven": "a new flow to an address that its client has proven",
    "malformed-short": "it ends before its headers do",
    "malformed-version": "it is neither IPv4 nor IPv6",
    "malformed-length": "a length in it does not fit",
    "malformed-extensions": "its extension headers are too many or in no allowed order",
    "malformed-routing": "its routing header has segments left",
    "malformed-flags": "its TCP flags are what no TCP sends",
    "malformed-inner": "an ICMP error about no readable packet of its receiver",
}
"""Every reason that a verdict can have, and what it means."""

_DONE: Mapping[Action, str] = {
    Action.FORWARD: "forwarded",
    Action.DROP: "dropped",
    Action.PASS: "passed on untouched",
    Action.ANSWER: "answered with an ICMP error",
}


def in_words(reason: str, action: Action) -> str:
    """What was done with a packet, and why."""
    return f"{_DONE[action]}: {WORDS.get(reason, reason)}"
