"""Parses filters from JSON and matches flows and packet events against them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.observe.plane import Event, Filter, Flow, FlowState
from dnsvip.dispatcher.packet import FlowKey
from dnsvip.dispatcher.reason import REASONS
from dnsvip.dispatcher.routes import rule_label
from dnsvip.dispatcher.selection import route_of
from dnsvip.dispatcher.verdict import AddressVerdict, Target
from dnsvip.errors import ConfigError
from dnsvip.suggestion import did_you_mean

MAX_VERDICTS = 1 << 14
"""Address verdicts a filter caches; under a flood of other addresses each is decoded every time."""
_CRITERIA = frozenset({"address", "client", "tier", "server", "reason", "state"})


def read_filter(data: dict[str, Any], tables: DispatchTables) -> Filter:
    """A Filter from JSON data; raises ConfigError that names the criterion at fault, unknown names included."""
    if unknown := data.keys() - _CRITERIA:
        raise ConfigError(f"{', '.join(sorted(unknown))}: not a criterion for flows and packets")
    if not all(value is None or isinstance(value, str) for value in data.values()):
        raise ConfigError("the criteria for flows and packets must be text")
    _check_names(data, tables)
    address, state = data.get("address"), data.get("state")
    if state is not None and state not in tuple(FlowState):
        raise ConfigError(f"{state!r} is not a state of a flow: must be {', '.join(FlowState)}")
    try:
        network = ip_network(address) if address else None
    except ValueError as error:
        raise ConfigError(f"{address!r} is not an address or a prefix: {error}") from error
    names: dict[str, Any] = {name: data.get(name) for name in ("client", "tier", "server", "reason")}
    return Filter(network, **names, state=FlowState(state) if state else None)


def _check_names(data: dict[str, Any], tables: DispatchTables) -> None:
    """Raise ConfigError where a criterion names a client, tier, server or reason that does not exist."""
    site = tables.snapshot.site
    servers = {
        name for pool in tables.pools.values() for s in pool.servers for name in (s.name, f"{pool.name}/{s.name}")
    }
    for key, known in (("client", site.clients), ("tier", site.tiers), ("server", servers), ("reason", REASONS)):
        if data.get(key) is not None and data[key] not in known:
            # Clients may be a million: nobody waits for the packets' process to compare them all.
            is_short = key != "client"
            choices = f" (there is: {', '.join(sorted(known)[:60]) or 'none'})" if is_short else ""
            meant = did_you_mean(str(data[key]), known) if is_short else ""
            raise ConfigError(f"{data[key]!r} is not a {key}{meant}{choices}")


class CompiledFilter:
    """A Filter under one snapshot, with a cache of the addresses it has decoded. `now` is in unix seconds."""

    def __init__(self, criteria: Filter, tables: DispatchTables) -> None:
        self.criteria, self.tables = criteria, tables
        self._verdicts: dict[bytes, AddressVerdict] = {}
        network = criteria.address
        self._packed = (network.network_address.packed, network.prefixlen) if network else None
        self._decodes = criteria.client is not None or criteria.tier is not None

    def matches_flow(self, flow: Flow, now: float) -> bool:
        """Whether a flow matches."""
        state = self.criteria.state
        return (state is None or state is flow.state) and self._matches(flow.key, flow.server, now)

    def matches_event(self, event: Event, now: float) -> bool:
        """Whether a packet matches."""
        reason = self.criteria.reason
        return (reason is None or reason == event.reason) and self._matches(event.key, event.server, now)

    def address_verdict(self, key: bytes, now: float) -> AddressVerdict:
        """What the VIP of a flow carries, as verified for a new flow at `now`."""
        verdict = self._verdicts.get(key)
        if verdict is None:
            flow = FlowKey(key)
            verdict = self.tables.verifier.verify(flow.destination, flow.source, flow.source_port, now)
            if len(self._verdicts) < MAX_VERDICTS:
                self._verdicts[key] = verdict
        return verdict

    def rule(self, verdict: AddressVerdict) -> str | None:
        """The rule by which a new flow to a verified address gets its pool (`routes.rule_label`)."""
        version = verdict.cluster.prefix.version if verdict.cluster else 6
        return rule_label(route_of(verdict, verdict.tier, self.tables, version).rule) if verdict.tier else None

    def _matches(self, key: bytes, server: Target | None, now: float) -> bool:
        wanted = self.criteria.server
        if wanted is not None and (server is None or wanted not in (server.name, f"{server.pool}/{server.name}")):
            return False
        if self._packed is not None and not _in_network(key, server, *self._packed):
            return False
        return not self._decodes or (bool(key) and self._matches_payload(self.address_verdict(key, now)))

    def _matches_payload(self, verdict: AddressVerdict) -> bool:
        criteria, tier = self.criteria, verdict.tier.name if verdict.tier else None
        return (criteria.tier is None or criteria.tier == tier) and (
            criteria.client is None or criteria.client == client_name(verdict)
        )


def client_name(verdict: AddressVerdict) -> str | None:
    """The client that an address carries: None for an anonymous one, its number where there is no record of it."""
    if not verdict.client:
        return None
    return verdict.record.name if verdict.record else str(verdict.client)


def _in_network(key: bytes, server: Target | None, packed: bytes, length: int) -> bool:
    """Whether a flow's source, VIP or server is in a prefix."""
    size = len(packed)
    shift = 8 * size - length
    prefix = int.from_bytes(packed, "big") >> shift
    addresses = (*(FlowKey(key).addresses if key else ()), *((server.address,) if server else ()))
    return any(len(address) == size and int.from_bytes(address, "big") >> shift == prefix for address in addresses)
