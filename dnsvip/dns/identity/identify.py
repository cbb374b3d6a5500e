"""Who the requester is: the first step of `classify.order` that identifies it decides.

Strong identities (TSIG, TLS certificate, token), claims (ECS, RFC 7871), the source prefix and the location of an
address differ only by their place in that order. Pure: the transport has verified what it is given, and it reads tables
compiled from the snapshot, never the snapshot itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias

from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.errors import Problem
from dnsvip.site import Client, Snapshot, Step
from dnsvip.site.client_certificates import bound_in, marked
from dnsvip.site.cow_map import difference
from dnsvip.site.identity.claims import IDLE, Claims, PrefixTables, prefix_tables
from dnsvip.site.identity.claims import WIDTHS as WIDTHS  # noqa: PLC0414 - others take it from here
from dnsvip.site.identity.prefixes import NOBODY
from dnsvip.site.isolation import fault_of

Address: TypeAlias = IPv4Address | IPv6Address

Geo: TypeAlias = Callable[[Address], tuple[tuple[tuple[str, int], ...], int]]
"""Where an address is: values of `{ geo = ... }` with the narrowest first, each with the length of the prefix around
the address for which it holds, and the length of the longest prefix for which all of this does."""


STRONG = frozenset({Step.TSIG, Step.TLS, Step.TOKEN})
"""Steps whose identity a requester proves, by a key or a secret of its own."""


class Ecs(NamedTuple):
    """An EDNS Client Subnet option: `source_prefix` bits of `address` count (RFC 7871 section 6)."""

    address: Address
    source_prefix: int


class Requester(NamedTuple):
    """What is known of the sender of a query. `tsig`, `tls` and `token` are verified: a key's name, the names in a
    certificate (as in `Arrival`), a token's name; `trusted` is whether ECS from `source` is believed, None where that
    has not been looked up."""

    source: Address
    listener: str = "default"
    ecs: Ecs | None = None
    tsig: str | None = None
    tls: tuple[str, ...] = ()
    token: str | None = None
    trusted: bool | None = None
    transport: Transport = Transport.UDP


class Sender(NamedTuple):
    """Where queries come from: the requester by address and listener alone (`trusted` is set), and who that is."""

    requester: Requester
    identity: Classified


class Classified(NamedTuple):
    """The client (None: anonymous), the step that decided (None: none did), and the part of ECS in it.

    `scope` is the ECS scope prefix length of the classification, longer than SOURCE where clients inside its block
    differ (RFC 7871 section 7.2.1), 0 where ECS was absent, not trusted or not looked at; `ecs` is the option where it
    was looked at. `of_listener` is the tier that the listener gives to whom no step before identifies.
    """

    client: Client | None
    step: Step | None
    scope: int = 0
    ecs: Ecs | None = None
    of_listener: str | None = None

    @property
    def tier(self) -> str | None:
        """The tier; None: the default tier of each cluster."""
        return self.client.tier if self.client else self.of_listener


class Apart(NamedTuple):
    """Who requesters are that differ only in what one step looks at, wherever that finds nobody: whether it is looked
    at before anything decides; the owner (a number of `Claims`), the step that decides, and the tier of the listener.
    `is_told` is false where a location decides, which depends on the address as well."""

    looks: bool
    owner: int = NOBODY
    step: Step | None = None
    of_listener: str | None = None
    is_told: bool = True


_Match: TypeAlias = tuple[int, int, Ecs | None]
"""Owner, scope, and the ECS option where it was looked at."""

_Finder: TypeAlias = Callable[[Requester], _Match]


class Classifier:
    """The clients' matches of one snapshot, by step.

    A disabled or revoked client still matches, so that no weaker step and no wider prefix identifies it as another,
    but it is classified as anonymous.
    `before` is a classifier of an earlier snapshot: what did not change since is taken over, so one
    client among millions changes within a few milliseconds. Without `geo` the step `geo` never matches.
    Where `classify` itself makes code raise, the order ends before the step that is at fault, and `problems` says so: a
    weaker step could identify a requester as one that it is not, so whom no earlier step identifies is anonymous.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        before: Classifier | None = None,
        geo: Geo | None = None,
        tiers: Mapping[str, str] | None = None,
    ) -> None:
        site = snapshot.site
        self._tiers = {listener: tier for listener, tier in (tiers or {}).items() if tier in site.tiers}
        self._clients = site.clients
        self.order = site.classify.order
        if before is None:
            self._claims = Claims(site.clients.values())
        else:
            self._claims = before._claims.changed(difference(before._clients, site.clients))
        self.problems: list[Problem] = []
        self._trusted, broken = self._trust(site.classify.trust_ecs_from)
        self._ecs, self._geo = self._claims.prefixes[Step.ECS], geo
        self._order = list(self._usable(site.classify.order, broken))

    def classify(self, requester: Requester) -> Classified:
        """Identify the requester by the first step that can."""
        scope, ecs = 0, None
        for step, find in self._order:
            owner, own, looked_at = find(requester)
            if looked_at:
                scope, ecs = max(scope, own), looked_at
            if owner:
                return Classified(self._claims.client(owner), step, scope, ecs)
            if step is Step.LISTENER and (tier := self._tiers.get(requester.listener)):
                return Classified(None, step, scope, ecs, tier)
        return Classified(None, None, scope, ecs)

    def meet(self, source: Address, arrival: Arrival) -> Sender:
        """Identify the requester as far as its address and its connection go."""
        listener, transport, names, token = arrival
        trusted = self.trusts(source)
        requester = Requester(source, listener, tls=names, token=token, trusted=trusted, transport=transport)
        return Sender(requester, self.classify(requester))

    def tried(self, requester: Requester) -> Iterator[tuple[Step, Classified]]:
        """Each step that is in use, in order, with its own result, up to the one that decides."""
        for step, find in self._order:
            owner, scope, ecs = find(requester)
            tier = self._tiers.get(requester.listener) if step is Step.LISTENER and not owner else None
            decided = step if owner or tier else None
            yield step, Classified(self._claims.client(owner) if owner else None, decided, scope, ecs, tier)
            if decided:
                return

    def apart_from(self, step: Step, requester: Requester) -> Apart:
        """Who it is for `classify` where `step`, which looks at prefixes, finds nobody; of the requester, what it looks
        at is not given."""
        looks = False
        for each, find in self._order:
            if each is step:
                looks = True
                continue
            if each is Step.GEO:
                return Apart(looks, is_told=False)
            owner, _, _ = find(requester)
            tier = self._tiers.get(requester.listener) if each is Step.LISTENER and not owner else None
            if owner or tier:
                return Apart(looks, owner, each, tier)
        return Apart(looks)

    @property
    def claims(self) -> Claims:
        """The clients by their numbers, and what they claim."""
        return self._claims

    def strongly(self, requester: Requester) -> Classified | None:
        """The client that TSIG, TLS or a token identifies, whatever weaker step comes before; None where none does, or
        the client is not enabled."""
        for step, find in self._order:
            if step in STRONG and (owner := find(requester)[0]):
                client = self._claims.client(owner)
                return Classified(client, step) if client else None
        return None

    @property
    def trusted(self) -> PrefixTables:
        """The networks whose ECS is believed: they have owners."""
        return self._trusted

    def trusts(self, source: Address) -> bool:
        """Whether ECS from this resolver is believed (`classify.trust_ecs_from`)."""
        return bool(self._trusted[source.version].owner(int(source)))

    def _trusts(self, requester: Requester) -> bool:
        return self.trusts(requester.source) if requester.trusted is None else requester.trusted

    def _trust(self, networks: Iterable[IPv4Network | IPv6Network]) -> tuple[PrefixTables, frozenset[Step]]:
        """The resolvers whose ECS is believed, and the steps that cannot be used because they are not known."""
        try:
            return prefix_tables(str(network) for network in networks), frozenset()
        except Exception as error:  # noqa: BLE001 - whatever it is, the order ends where ECS would count
            self.problems.append(_ended("classify.trust_ecs_from", error))
            return prefix_tables(()), frozenset((Step.ECS, Step.GEO))

    def _usable(self, order: Iterable[Step], broken: Collection[Step]) -> Iterator[tuple[Step, _Finder]]:
        """The steps in use, in order, up to the first one that is at fault."""
        try:
            for step in order:
                if step in broken:
                    return
                find = self._finder(step)
                if find is not None:
                    yield step, find
        except Exception as error:  # noqa: BLE001 - as above
            self.problems.append(_ended("classify.order", error))

    def _finder(self, step: Step) -> _Finder | None:
        """The look-up of a step; None where no client uses it. ECS always has one, as it has a scope in any case."""
        if step is Step.ECS:
            return self._by_ecs
        if step is Step.LISTENER and self._tiers:
            pass  # it decides without any client's match
        elif not self._claims.any(step) or (step is Step.GEO and self._geo is None):
            return None
        if step is Step.GEO:
            return self._by_place
        if step is Step.SOURCE:
            sources = self._claims.prefixes[step]
            return lambda requester: (sources[requester.source.version].owner(int(requester.source)), 0, None)
        if step is Step.TLS:
            return self._by_certificate
        words, value_of = self._claims.words[step], _VALUES[step]

        def find(requester: Requester) -> _Match:
            value = value_of(requester)
            return (words.get(value, NOBODY) if value else NOBODY), 0, None

        return find

    def _by_certificate(self, requester: Requester) -> _Match:
        """By the first of the certificate's names that a client has. One of the site's own authority is bound to a
        client and the generation of its key: no other that claims one of its names takes it away from that client, and
        once the generation is another, whoever bears it is anonymous."""
        names: Mapping[str, int] = self._claims.words[Step.TLS]
        owners = [owner for name in requester.tls if (owner := names.get(name, NOBODY))]
        bound = bound_in(requester.tls) if owners else None
        if bound is not None:
            clients = ((owner, self._claims.client(owner)) for owner in owners if owner > IDLE)
            own = (at for at, client in clients if client and bound == (marked(client.name), client.key_generation))
            return next(own, IDLE), 0, None
        return next(iter(owners), NOBODY), 0, None

    def _by_ecs(self, requester: Requester) -> _Match:
        ecs = requester.ecs
        if ecs is None or not self._trusts(requester):
            return NOBODY, 0, None
        owner, scope = self._ecs[ecs.address.version].match(int(ecs.address), ecs.source_prefix)
        return owner, scope, ecs

    def _by_place(self, requester: Requester) -> _Match:
        """By the location of the ECS address, if believed, else of the source. Of a block, as in `_by_ecs`, what holds
        for all of it counts."""
        assert self._geo is not None  # noqa: S101 - else this step is not in the order
        ecs = requester.ecs if requester.ecs and self._trusts(requester) else None
        values, length = self._geo(ecs.address if ecs else requester.source)
        most = ecs.source_prefix if ecs else WIDTHS[requester.source.version]
        places: Mapping[str, int] = self._claims.words[Step.GEO]
        owner = next((owner for value, own in values if own <= most and (owner := places.get(value, NOBODY))), NOBODY)
        return owner, length if ecs else 0, ecs


_VALUES: Mapping[Step, Callable[[Requester], str | None]] = {
    Step.TSIG: lambda requester: requester.tsig.lower().rstrip(".") if requester.tsig else None,
    Step.TOKEN: lambda requester: requester.token,
    Step.LISTENER: lambda requester: requester.listener,
}
"""Step -> what of a requester is compared whole with the clients' matches."""


def _ended(where: str, error: Exception) -> Problem:
    problem = fault_of(where, error)
    text = "whom no earlier step of classify.order identifies gets the default tier"
    return replace(problem, message=f"{problem.message}; {text}")
