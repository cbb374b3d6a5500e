"""The address in the answer to a client: its own encoded VIP, its IPv4 class, or the plain VIP.

Who the requester is, is decided in `identify`; an `Issuer` makes the encoded VIPs of a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf

from dnsvip.address.classes import ClassTable
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.synthesis.issuer import Issuer, Kind, Recipe, Vip
from dnsvip.dns.synthesis.own import NETWORK_BITS, TICKET, OwnMaker
from dnsvip.errors import ObjectError
from dnsvip.site import Anonymous, ClassCluster, Client, Cluster, NonceOf, Service, Snapshot
from dnsvip.site.session_rules import shared_sessions


class VipMaker:
    """Makes the addresses of all clusters of one snapshot. One per thread, as it caches them.

    An answer is the plain VIP of kind NO_EPOCH where no epoch is active, UNFIT where tier, client id
    or an attribute does not fit the layout, NO_NONCE where every nonce gives a reserved address.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._issuers: dict[str, Issuer] = {}
        self._plain: dict[str, dict[Kind, Vip]] = {}
        self._hides: dict[str, bool] = {}
        self._classes: dict[str, ClassTable] = {}
        self._renewals: set[int] = set()
        self._own: dict[str, OwnMaker] = {}
        self.fresh: frozenset[str] = fresh_clusters(snapshot.site.clusters)
        """The clusters whose addresses are made anew for each answer, so that none is kept."""
        self._clusters, self._tiers = snapshot.site.clusters, snapshot.site.tiers
        shared = shared_sessions(snapshot.site)
        for name, cluster in snapshot.site.clusters.items():
            self._plain[name] = {kind: Vip(int(cluster.plain), cluster.ttl, kind) for kind in Kind}
            if isinstance(cluster, ClassCluster):
                self._classes[name] = cluster.table
                continue
            self._hides[name] = cluster.anonymous is Anonymous.PLAIN
            keyring = snapshot.keyrings.get(name)
            if keyring and keyring.active:
                self._renewals.add(cluster.renew_seconds)
                self._issuers[name] = Issuer(cluster, snapshot.site.tiers, *keyring.active, shared=name in shared)
                self._own[name] = OwnMaker(cluster, snapshot.site.tiers, *keyring.active, shared=name in shared)
        self._asked_for = dict(self._asking(snapshot.site.services.values()))

    def _asking(self, services: Iterable[Service]) -> Iterator[tuple[str, Issuer]]:
        """The issuers of services with attributes of their own by name; one for all that are alike."""
        issuers: dict[tuple[str, frozenset[tuple[str, str | int]]], Issuer] = {}
        for service in services:
            if service.attributes and service.cluster in self._issuers:
                alike = service.cluster, frozenset(service.attributes.items())
                if alike not in issuers:
                    issuers[alike] = self._issuers[service.cluster].asked_for(service.attributes)
                yield service.name, issuers[alike]

    def has(self, cluster: str | None) -> bool:
        """Whether it makes addresses of a cluster."""
        return cluster in self._plain

    def aaaa(
        self, service: Service, who: Classified, requester: Requester, now: float, session: int | None = None
    ) -> Vip | None:
        """The IPv6 address for `who`, of the session that a label named; None where the service has no IPv6 cluster.
        `now` in unix seconds."""
        if service.cluster is None:
            return None
        plain = self._plainly(service, who, session)
        return plain or self._issuer(service).issue(who, requester, now, session)

    def recipe(self, service: Service, who: Classified, requester: Requester) -> tuple[Issuer, Recipe] | None:
        """What `aaaa` makes the addresses for `who` with and of, in every slot; None where it has one for all slots."""
        if service.cluster is None or self._plainly(service, who) is not None:
            return None
        issuer = self._issuer(service)
        recipe = issuer.recipe(who, requester)
        return None if recipe is None else (issuer, recipe)

    def payload(self, service: Service, client: Client) -> tuple[Issuer, int] | None:
        """As `recipe` for a client, but for its nonces; faster for many."""
        issuer = self._issuer(service) if service.cluster in self._issuers else None
        payload = issuer.payload(client) if issuer else None
        return None if issuer is None or payload is None else (issuer, payload)

    def basis(self, service: Service, rtype: int) -> tuple[object, ...]:
        """What the addresses of a type at a service are made with in every slot. Where it is equal, so is what `recipe`
        says of a client, and `a`."""
        if rtype != Type.AAAA:
            return self._clusters.get(service.cluster4 or ""), self._tiers
        issuer = self._issuer(service) if service.cluster in self._issuers else None
        return self._clusters.get(service.cluster or ""), self._tiers, issuer.basis if issuer else None

    def seal_batch(self, service: Service, asked: Sequence[tuple[Classified, Requester]], now: float) -> list[Vip]:
        """`aaaa` for many at once: the same addresses, several times faster for new ones."""
        plain = [self._plainly(service, who) for who, _ in asked]
        rest = [pair for pair, vip in zip(asked, plain, strict=True) if vip is None]
        sealed = iter(self._issuer(service).issue_batch(rest, now) if rest else ())
        return [vip or next(sealed) for vip in plain]

    def by_prefix(self, service: Service, tier: str | None) -> Issuer | None:
        """What makes addresses by prefix for anonymous requesters (`Issuer.seal_prefixes`) whom a listener gives a tier
        (None: it gives none); None where there are no such, or they differ from answer to answer."""
        name = service.cluster or ""
        if name not in self._issuers or name in self.fresh or (tier is None and self._hides[name]):
            return None
        issuer = self._issuer(service)
        return issuer if issuer.has_prefixes else None

    def own(self, label: bytes, service: Service, client: Client, requester: Requester, now: float) -> Vip | None:
        """What a client asks for itself at a service, by the label before its name; None where there is none. A source
        address is in the /64 of its ECS option (RFC 7871)."""
        maker, ecs = self._own.get(service.cluster or ""), requester.ecs
        if maker is None:
            return None
        if label == TICKET:
            return maker.ticket(service, client, now)
        if ecs is None or ecs.address.version != 6 or ecs.source_prefix != NETWORK_BITS:
            return None
        return maker.source(service, client, int(ecs.address), now)

    def a(self, service: Service, who: Classified, _requester: Requester, _now: float) -> Vip | None:
        """The IPv4 address for `who`, by its class; None where the service has no IPv4 cluster."""
        name, tier = service.cluster4, who.tier
        if name is None:
            return None
        plain = self._plain[name][Kind.PLAIN]
        number = who.client.id if who.client else 0
        address = self._classes[name].encode(tier, number) if tier else plain.address
        return plain if address == plain.address else Vip(address, plain.ttl, Kind.CLASS)

    def ttl(self, service: Service, rtype: int) -> int | None:
        """The TTL in seconds that every address of the type has for this service, None where it has none. Raises
        ObjectError where its cluster is missing."""
        name = service.cluster if rtype == Type.AAAA else service.cluster4
        if name is not None and name not in self._plain:
            raise ObjectError(f"service.{service.name}", KeyError(name))
        return None if name is None else self._plain[name][Kind.PLAIN].ttl

    def steady(self, now: float) -> tuple[float, float]:
        """The unix seconds around `now` (from, until) between which the same requester gets the same address."""
        slots = [(int(now) // renew, renew) for renew in self._renewals]
        return max((s * renew for s, renew in slots), default=-inf), min(
            ((s + 1) * renew for s, renew in slots), default=inf
        )

    def _issuer(self, service: Service) -> Issuer:
        """Makes the addresses of a service: those of its cluster, with what is asked for there in them."""
        return (service.attributes and self._asked_for.get(service.name)) or self._issuers[service.cluster or ""]

    def _plainly(self, service: Service, who: Classified, session: int | None = None) -> Vip | None:
        """The plain VIP, where no address needs to be sealed."""
        name = service.cluster or ""
        if who.tier is None and session is None and self._hides[name]:
            return self._plain[name][Kind.PLAIN]
        return None if name in self._issuers else self._plain[name][Kind.NO_EPOCH]


def fresh_clusters(clusters: Mapping[str, Cluster | ClassCluster]) -> frozenset[str]:
    """Those whose answers have a nonce each."""
    ipv6 = (cluster for cluster in clusters.values() if isinstance(cluster, Cluster))
    return frozenset(cluster.name for cluster in ipv6 if cluster.nonce is NonceOf.ANSWER)
