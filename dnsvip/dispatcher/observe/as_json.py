"""Flows and packet events as JSON, for the control socket, and as lines of the flow log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

from dnsvip.dispatcher.observe.filter import CompiledFilter, client_name
from dnsvip.dispatcher.observe.plane import Event, Flow
from dnsvip.dispatcher.packet import FlowKey
from dnsvip.dispatcher.reason import PacketReason, in_words

Anonymise: TypeAlias = Callable[[IPv4Address | IPv6Address], str]

NOT_LOGGED = frozenset(
    reason.value
    for reason in (
        PacketReason.KNOWN,
        PacketReason.REPLY,
        PacketReason.ICMP_ERROR,
        PacketReason.FRAGMENT,
        PacketReason.FRAGMENT_ORPHAN,
    )
)
"""Reasons of packets that neither open a flow nor are refused one, so the flow log leaves them out."""

_LOGGED = (
    *("protocol", "port", "size", "action", "reason", "words"),
    *("pool", "server", "dscp", "delay", "cluster", "tier", "rule"),
)
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp6"}


def flow_json(flow: Flow, view: CompiledFilter, now: float) -> dict[str, Any]:
    """A flow; `idle` in seconds."""
    server = flow.server
    return {
        **_endpoints(flow.key),
        "state": flow.state.value,
        "idle": max(0, int(now) - flow.seen),
        "pool": flow.pool,
        "server": server.name if server else None,
        "server_address": str(ip_address(server.address)) if server else None,
        "dscp": flow.dscp,
        **_payload(flow.key, view, now),
    }


def event_json(event: Event, view: CompiledFilter) -> dict[str, Any]:
    """A packet and its verdict, with the reason in `words`. `at` in unix seconds, `delay` in seconds."""
    now, server = event.at / 1e9, event.server
    return {
        "at": round(now, 6),
        **_endpoints(event.key),
        "size": event.size,
        "action": event.action.value,
        "reason": event.reason,
        "words": in_words(event.reason, event.action),
        "pool": server.pool if server else None,
        "server": server.name if server else None,
        "server_address": str(ip_address(server.address)) if server else None,
        "dscp": event.dscp,
        "delay": event.delay / 1e9,
        **_payload(event.key, view, now),
    }


def flow_log_line(event: Event, view: CompiledFilter, anonymise: Anonymise) -> Mapping[str, Any]:
    """The line of a packet that opened a flow or was refused one.

    The client's address appears as `anonymise` gives it. The VIP carries the client, so VIP, source port and client
    name appear only where `anonymise` keeps whole addresses.
    """
    fields = event_json(event, view)
    addresses = [ip_address(packed) for packed in FlowKey(event.key).addresses] if event.key else []
    line: dict[str, Any] = {
        "type": "FLOW",
        "time": datetime.fromtimestamp(event.at / 1e9, UTC).isoformat(timespec="microseconds"),
        "source": anonymise(addresses[0]) if addresses else None,
        **{name: fields[name] for name in _LOGGED},
    }
    if addresses and "/" not in anonymise(addresses[1]):
        line |= {name: fields[name] for name in ("source_port", "vip", "client")}
    return line


def _endpoints(key: bytes) -> dict[str, Any]:
    if not key:
        return {"protocol": None, "source": None, "source_port": None, "vip": None, "port": None}
    flow = FlowKey(key)
    source, vip = flow.addresses
    return {
        "protocol": _PROTOCOLS.get(flow.protocol, str(flow.protocol)),
        "source": str(ip_address(source)),
        "source_port": flow.source_port,
        "vip": str(ip_address(vip)),
        "port": flow.destination_port,
    }


def _payload(key: bytes, view: CompiledFilter, now: float) -> dict[str, Any]:
    """What the VIP carries, and the rule by which a new flow to it gets its pool."""
    if not key:
        return {"cluster": None, "tier": None, "client": None, "rule": None}
    verdict = view.address_verdict(key, now)
    return {
        "cluster": verdict.cluster.name if verdict.cluster else None,
        "tier": verdict.tier.name if verdict.tier else None,
        "client": client_name(verdict),
        "rule": view.rule(verdict),
    }
