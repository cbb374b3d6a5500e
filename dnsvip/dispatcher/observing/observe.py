"""What a data plane shows of itself: its flows, and what happens to packets; and which of both somebody asks for.

`FlowTable` and `Events` are what every data plane gives (the user-space runner here, the XDP program through
its maps and ring buffer). All that is told to people is made from them and a snapshot's Tables, so it is the same
for both. Pure: no clock, no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

from dnsvip.dispatcher.packet import Packet
from dnsvip.dispatcher.reason import AddressVerdict
from dnsvip.dispatcher.tables import Tables
from dnsvip.dispatcher.verdict import REASONS, Action, Target
from dnsvip.dispatcher.words import in_words
from dnsvip.errors import ConfigError

MOST_JUDGED = 1 << 14
"""So many addresses one question keeps decoded; a flood of others is decoded each time."""
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp6"}


class FlowState(StrEnum):
    """How far a flow is."""

    NEW = "new"
    ESTABLISHED = "established"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as the connection key table has it: `key` as in `Packet`, `seen` in unix seconds, `server` None where its
    server keeps no flows any more."""

    key: bytes
    seen: int
    state: FlowState
    pool: str
    server: Target | None = None
    dscp: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one packet: at unix nanoseconds `at`, of the flow `key` (empty where it could not be read),
    `size` bytes long."""

    at: int
    key: bytes
    size: int
    reason: str
    action: Action
    server: Target | None = None
    dscp: int | None = None
    delay: int = 0


class FlowTable(Protocol):
    """The flows of a data plane."""

    def flows(self) -> Iterator[Flow]:
        """Every known flow. What comes or goes while this goes on may be told or not; nothing is told twice."""

    def forget(self, key: bytes) -> bool:
        """Make a flow unknown, so that its next packet is judged anew; whether it was known."""


class Events(Protocol):
    """The packets of a data plane, or a sample of them where they are too many."""

    def watch(self, sink: Callable[[Event], None], query: Query) -> Callable[[], None]:
        """Give events to `sink`, which is quick and never raises, until the result is called. `query` is what the
        sink will take of them: others may be left out, and need not."""

    @property
    def missed(self) -> int:
        """Packets since the start that no watcher was told of, as they were too many, while somebody watched."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which flows or packets are asked for: all that fit every part that is given.

    `address` fits a source, a VIP or a server, `client` and `tier` by name what the VIP carries, `server` is SERVER or
    POOL/SERVER.
    """

    address: IPv4Network | IPv6Network | None = None
    client: str | None = None
    tier: str | None = None
    server: str | None = None
    reason: str | None = None
    state: FlowState | None = None
    opening: bool = False
    """Of packets: not those of flows that are known. A hint for a data plane, which may show them all the same."""


def read_query(data: dict[str, Any], tables: Tables) -> Query:
    """A Query from JSON data; raises ConfigError that says what is wrong. Unknown keys, clients and so on are wrong."""
    if unknown := data.keys() - {"address", "client", "tier", "server", "reason", "state"}:
        raise ConfigError(f"{', '.join(sorted(unknown))}: not something flows and packets can be chosen by")
    if not all(value is None or isinstance(value, str) for value in data.values()):
        raise ConfigError("what flows and packets are chosen by must be text")
    site = tables.snapshot.site
    servers = {
        name for pool in tables.pools.values() for s in pool.servers for name in (s.name, f"{pool.name}/{s.name}")
    }
    for key, known in (("client", site.clients), ("tier", site.tiers), ("server", servers), ("reason", REASONS)):
        if data.get(key) is not None and data[key] not in known:
            some = "" if key == "client" else f" (there is: {', '.join(sorted(known)[:60]) or 'none'})"
            raise ConfigError(f"{data[key]!r} is not a {key}{some}")
    address, state = data.get("address"), data.get("state")
    if state is not None and state not in tuple(FlowState):
        raise ConfigError(f"{state!r} is not a state of a flow: must be {', '.join(FlowState)}")
    try:
        network = ip_network(address) if address else None
    except ValueError as error:
        raise ConfigError(f"{address!r} is not an address or a prefix: {error}") from error
    found = FlowState(state) if state else None
    return Query(network, data.get("client"), data.get("tier"), data.get("server"), data.get("reason"), found)


class Selection:
    """A Query at work under one snapshot; it keeps what it has decoded. `now` is in unix seconds."""

    def __init__(self, query: Query, tables: Tables) -> None:
        self.query, self.tables = query, tables
        self._judged: dict[bytes, AddressVerdict] = {}
        network = query.address
        self._packed = (network.network_address.packed, network.prefixlen) if network else None
        self._decodes = query.client is not None or query.tier is not None

    def takes_flow(self, flow: Flow, now: float) -> bool:
        """Whether a flow is asked for."""
        query = self.query
        if query.state is not None and query.state is not flow.state:
            return False
        return self._fits(flow.key, flow.server, now)

    def takes_event(self, event: Event, now: float) -> bool:
        """Whether a packet is asked for."""
        if self.query.reason is not None and self.query.reason != event.reason:
            return False
        return self._fits(event.key, event.server, now)

    def judgement(self, key: bytes, now: float) -> AddressVerdict:
        """What the VIP of a flow carries, as it would be judged now for the first time."""
        known = self._judged.get(key)
        if known is None:
            packet = packet_of(key)
            known = self.tables.judge.judge(packet.destination, packet.source, packet.source_port, now)
            if len(self._judged) < MOST_JUDGED:
                self._judged[key] = known
        return known

    def client_name(self, judgement: AddressVerdict) -> str | None:
        """The client that an address carries; None for an anonymous one, its number where it is not known here."""
        if not judgement.client:
            return None
        client = self.tables.judge.client(judgement.client)
        return client.name if client else str(judgement.client)

    def _fits(self, key: bytes, server: Target | None, now: float) -> bool:
        query = self.query
        if query.server is not None and (
            server is None or query.server not in (server.name, f"{server.pool}/{server.name}")
        ):
            return False
        if self._packed is not None and not self._in_network(key, server):
            return False
        if not self._decodes:
            return True
        if not key:
            return False
        judgement = self.judgement(key, now)
        tier = judgement.tier.name if judgement.tier else None
        return (query.tier is None or query.tier == tier) and (
            query.client is None or query.client == self.client_name(judgement)
        )

    def _in_network(self, key: bytes, server: Target | None) -> bool:
        assert self._packed is not None  # noqa: S101 - the caller has looked
        packed, length = self._packed
        found = addresses_of(key) + ((server.address,) if server else ())
        size = len(packed)
        shift = 8 * size - length
        wanted = int.from_bytes(packed, "big") >> shift
        return any(len(each) == size and int.from_bytes(each, "big") >> shift == wanted for each in found)


def tell_flow(flow: Flow, selection: Selection, now: float) -> dict[str, Any]:
    """A flow ready for JSON; `idle` in seconds."""
    server = flow.server
    return {
        **_ends(flow.key),
        "state": flow.state.value,
        "idle": max(0, int(now) - flow.seen),
        "pool": flow.pool,
        "server": server.name if server else None,
        "server_address": str(ip_address(server.address)) if server else None,
        "dscp": flow.dscp,
        **_carried(flow.key, selection, now),
    }


def tell_event(event: Event, selection: Selection) -> dict[str, Any]:
    """A packet ready for JSON: what became of it and, in `words`, why. `at` in unix seconds, `delay` in seconds."""
    now, server = event.at / 1e9, event.server
    return {
        "at": round(now, 6),
        **_ends(event.key),
        "size": event.size,
        "action": event.action.value,
        "reason": event.reason,
        "words": in_words(event.reason, event.action),
        "pool": server.pool if server else None,
        "server": server.name if server else None,
        "server_address": str(ip_address(server.address)) if server else None,
        "dscp": event.dscp,
        "delay": event.delay / 1e9,
        **_carried(event.key, selection, now),
    }


def packet_of(key: bytes) -> Packet:
    """A flow key as a Packet, for its addresses and ports."""
    return Packet(6 if len(key) == 37 else 4, key, 0)


def addresses_of(key: bytes) -> tuple[bytes, ...]:
    """Source and destination of a flow key, packed; none of an empty one."""
    half = (len(key) - 5) // 2
    return (key[1 : 1 + half], key[1 + half : 1 + 2 * half]) if key else ()


def _ends(key: bytes) -> dict[str, Any]:
    if not key:
        return {"protocol": None, "source": None, "source_port": None, "vip": None, "port": None}
    source, vip = addresses_of(key)
    packet = packet_of(key)
    return {
        "protocol": _PROTOCOLS.get(key[0], str(key[0])),
        "source": str(ip_address(source)),
        "source_port": packet.source_port,
        "vip": str(ip_address(vip)),
        "port": packet.destination_port,
    }


def _carried(key: bytes, selection: Selection, now: float) -> dict[str, Any]:
    if not key:
        return {"cluster": None, "tier": None, "client": None}
    judgement = selection.judgement(key, now)
    tier = judgement.tier.name if judgement.tier else None
    return {"cluster": judgement.cluster, "tier": tier, "client": selection.client_name(judgement)}
