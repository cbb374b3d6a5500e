"""One packet that opened a flow, or was refused, as a line of the flow log. Pure.

The client's address is written as the prefix that is kept of it. The VIP carries the client: it and the client's name
are written only where whole addresses are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

from dnsvip.dispatcher.observing.observe import Event, Selection, addresses_of, tell_event
from dnsvip.dispatcher.verdict import Outcome

Anonymise: TypeAlias = Callable[[IPv4Address | IPv6Address], str]

COMMON = frozenset(
    outcome.value
    for outcome in (Outcome.KNOWN, Outcome.REPLY, Outcome.ICMP_ERROR, Outcome.FRAGMENT, Outcome.FRAGMENT_ORPHAN)
)
"""Reasons of packets that open no flow and are refused none: not for a log of flows."""

_TOLD = ("protocol", "port", "size", "action", "reason", "words", "pool", "server", "dscp", "delay", "cluster", "tier")


def record(event: Event, selection: Selection, anonymise: Anonymise) -> Mapping[str, Any]:
    """The fields of one line."""
    told = tell_event(event, selection)
    addresses = [ip_address(packed) for packed in addresses_of(event.key)]
    line: dict[str, Any] = {
        "type": "FLOW",
        "time": datetime.fromtimestamp(event.at / 1e9, UTC).isoformat(timespec="microseconds"),
        "source": anonymise(addresses[0]) if addresses else None,
        **{key: told[key] for key in _TOLD},
    }
    if addresses and "/" not in anonymise(addresses[1]):
        line |= {"source_port": told["source_port"], "vip": told["vip"], "client": told["client"]}
    return line
