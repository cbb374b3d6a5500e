"""Which client a packet's source address identifies: the knowledge of DNS, at a dispatcher.

As DNS does for an address, the steps `ecs` and `source` of `classify.order` are tried in their order, and in each the
longest prefix decides; a client that is not enabled identifies nobody, and no wider prefix or later step takes its
place. Nothing is compiled while no cluster, tier or client of the site asks for it. It knows no packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.errors import Problem
from dnsvip.site import ClassCluster, Client, ClientState, Cluster, Match, Networks, Site, Step, Tier
from dnsvip.site.cow_map import difference
from dnsvip.site.identity.claims import IDLE, PREFIX_STEPS, WIDTHS, Claims, parse_network
from dnsvip.site.identity.prefixes import NOBODY
from dnsvip.site.isolation import fault_of
from dnsvip.site.routing import attributes_of, number_of


class CompiledFor(Protocol):
    """A compiled cluster of either family."""

    @property
    def cluster(self) -> Cluster | ClassCluster:
        """The cluster."""
        ...

    def tier_of(self, client: Client) -> Tier | None:
        """The tier of a client that no payload tells of; None where the site has none of that name."""
        ...


class SourceNetworks:
    """The networks of one site's clients. `before` is that of an earlier site, from which unchanged ones are taken."""

    def __init__(self, site: Site, before: SourceNetworks | None = None) -> None:
        self.problems: list[Problem] = []
        self._clients = site.clients
        self._only = _only(site, before)
        self.with_attributes: int = _with_attributes(site, before)
        """How many clients have attributes."""
        self.order = self._steps(site)
        self.used = self._only > 0 or settings_use(site)
        self._claims = self._compiled(site, before) if self.used else None

    def client(self, source: int, version: int) -> Client | None:
        """The enabled client that an address of an IP version identifies."""
        if self._claims is None or source >> WIDTHS[version]:
            return None
        for step in self.order:
            owner = self._claims.prefixes[step][version].owner(source)
            if owner:
                return self._claims.client(owner)
        return None

    def identified(self, cluster: CompiledFor, base: AddressVerdict, source: int, version: int) -> AddressVerdict:
        """`base`, the verdict on an address that says nothing about whose a flow is, or that of the client whose
        network the flow comes from, where the cluster asks for it. A client that has to prove itself is not known by
        its network. What an address carries of another client does not count, its session apart; where it carries
        nothing, the client's attributes do."""
        if not cluster.cluster.identify_source:
            return base
        client = self.client(source, version)
        tier = cluster.tier_of(client) if client else None
        if client is None or tier is None or tier.require_proof or client.proof.required:
            return base
        values = base.values if base.values and not base.client else carried(cluster.cluster, client)
        reason = AddressReason.SOURCE_NETWORK
        return replace(base, reason=reason, tier=tier, client=client.id, values=values, record=client)

    def is_of_tier(self, tier: Tier, source: int, version: int) -> bool:
        """Whether an address identifies a client of a tier."""
        client = self.client(source, version)
        return client is not None and client.tier == tier.name

    def is_at_home(self, tier: Tier, client: int | None, source: int) -> bool:
        """Whether an IPv6 address identifies the client of an encoded VIP (0: anonymous; None: no VIP of the cluster
        names one, so any client of its tier)."""
        if client is None:
            return self.is_of_tier(tier, source, 6)
        there = self.client(source, 6)
        return there is not None and there.id == client

    def __len__(self) -> int:
        """How many networks there are, of both steps."""
        return (
            sum(len(table) for tables in self._claims.prefixes.values() for table in tables.values())
            if self._claims
            else 0
        )

    def lengths(self) -> Iterator[tuple[Step, int, int]]:
        """The lengths of networks: step, IP version, length."""
        for step, tables in self._claims.prefixes.items() if self._claims else ():
            for version, table in tables.items():
                yield from ((step, version, length) for length in table.lengths)

    def rows(self) -> Iterator[tuple[Step, int, int, int, int]]:
        """Every network: step, IP version, address, length, and the client's id, 0 where it is not enabled."""
        claims = self._claims
        if claims is None:
            return
        for step, tables in claims.prefixes.items():
            for version, table in tables.items():
                for address, length, owner in table:
                    client = claims.client(owner) if owner > IDLE else None
                    yield step, version, address, length, client.id if client else 0

    def changes(self, before: SourceNetworks) -> Iterator[tuple[Step, int, int, int, int | None]]:
        """The networks that differ from those of an earlier site, as `rows`; the id None: it has gone. One may come
        twice, what it is now last."""
        gone: list[tuple[Match, int]] = []
        put: list[tuple[Match, int]] = []
        for _, old, new in difference(before._clients, self._clients):
            was = {(match, _number(old)) for match in _networks(old)}
            now = {(match, _number(new)) for match in _networks(new)}
            gone += was - now
            put += now - was
        taken = {match for match, _ in put}
        for match, _ in gone:
            if match not in taken:
                yield match.step, *parse_network(match.value), None
        for match, number in put:
            yield match.step, *parse_network(match.value), number

    def exactly(self, step: Step, version: int, address: int, length: int) -> int | None:
        """The id of the client that has this very network, 0 where it is not enabled; None where nobody has."""
        owner = self._claims.prefixes[step][version].exactly(address, length) if self._claims else NOBODY
        client = self._claims.client(owner) if self._claims and owner > IDLE else None
        return None if owner == NOBODY else client.id if client else 0

    def _steps(self, site: Site) -> tuple[Step, ...]:
        """The steps that look at addresses; none, so that nobody gains a tier, where the order cannot be used."""
        try:
            return tuple(step for step in site.classify.order if step in PREFIX_STEPS)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest of the site goes on
            self.problems.append(fault_of("classify.order", error))
            return ()

    def _compiled(self, site: Site, before: SourceNetworks | None) -> Claims:
        if before is None or before._claims is None:
            return Claims(site.clients.values(), PREFIX_STEPS)
        return before._claims.changed(difference(before._clients, site.clients))


def carried(cluster: Cluster | ClassCluster, client: Client) -> dict[str, int]:
    """The numbers of a client's attributes that addresses of a cluster can carry; a word without one counts as none."""
    if not client.attributes or not isinstance(cluster, Cluster):
        return {}
    fields = attributes_of(dict(cluster.layout))
    words = {name: word for name, word in client.attributes.items() if name in fields}
    numbers = {name: number_of(cluster.values, name, word) for name, word in words.items()}
    return {name: number for name, number in numbers.items() if number is not None and not number >> fields[name]}


def settings_use(site: Site) -> bool:
    """Whether a cluster or tier asks where packets come from."""
    clusters = (getattr(cluster, "identify_source", False) for cluster in site.clusters.values())
    return any(clusters) or any(tier.networks is Networks.ONLY for tier in site.tiers.values())


def count_networks(site: Site) -> int:
    """As the length of SourceNetworks, without compiling any."""
    if not settings_use(site) and not _only(site, None):
        return 0
    return sum(match.step in PREFIX_STEPS for client in site.clients.values() for match in client.match)


def _only(site: Site, before: SourceNetworks | None) -> int:
    """How many clients are accepted from their own networks only."""
    return _count(site, lambda client: client.networks is Networks.ONLY, before, before._only if before else 0)


def count_attributes(site: Site) -> int:
    """How many clients have attributes."""
    return _with_attributes(site, None)


def _with_attributes(site: Site, before: SourceNetworks | None) -> int:
    return _count(site, lambda client: bool(client.attributes), before, before.with_attributes if before else 0)


def _count(site: Site, counts: Callable[[Client], bool], before: SourceNetworks | None, so_far: int) -> int:
    """How many clients count, of which there were so many before."""
    if before is None:
        return sum(map(counts, site.clients.values()))
    changes = list(difference(before._clients, site.clients))
    gone = sum(counts(old) for _, old, _ in changes if old)
    return so_far - gone + sum(counts(new) for _, _, new in changes if new)


def _networks(client: Client | None) -> list[Match]:
    return [match for match in client.match if match.step in PREFIX_STEPS] if client else []


def _number(client: Client | None) -> int:
    return client.id if client and client.state is ClientState.ENABLED else 0
