"""Which pool serves a flow: its client's own, else that of the first rule of its cluster that fits, else its tier's.

Every rule of a cluster is one bit. For each condition the values that rules name have the mask of the rules which they
allow, so the rules that fit a flow are the AND of some masks, and the lowest bit is the first one: the time does not
grow with the rules. The kernel program reads the same masks (io/xdp/image_routes.py). Only an accepted address tells
of a client; what is let in all the same, by a default tier, is served as a plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from operator import and_

from dnsvip.dispatcher.own_servers import OwnServers
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.site import ClassCluster, Cluster, Evidence, SelectRule, Site, Tier
from dnsvip.site.routing import CLIENT, MOST_RULES, PROOF, TIER, attributes_of, number_of

RULE_TIER, RULE_OWN = 0, MOST_RULES + 1
"""`Route.rule` where no rule decided: by the tier, or by the client's own pool or servers."""

EVIDENCE: Mapping[str, Evidence] = {
    "proven": Evidence.PROVEN,
    "issued": Evidence.ISSUED,
    "source": Evidence.SOURCE,
    "source-network": Evidence.SOURCE,
    "resumed": Evidence.RESUMED,
}
"""Reason of an accepted address -> how it tells who its client is; any other is served as a plain one."""


@dataclass(frozen=True, slots=True)
class Route:
    """The tier of a flow, its pool (or the key of a set of own servers), its DSCP and priority, and the number of the
    rule that decided, counted from 1; RULE_TIER or RULE_OWN where none did."""

    tier: Tier
    pool: str | None
    dscp: int | None
    priority: int
    rule: int = RULE_TIER


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of the rules that each value of a condition allows; `others` is that of values which no rule names."""

    by_value: Mapping[Hashable, int]
    others: int

    def of(self, value: Hashable) -> int:
        """The mask of a value."""
        return self.by_value.get(value, self.others)


class CompiledRules:
    """The rules of one cluster. Words that mean nothing here fit nothing."""

    def __init__(self, cluster: Cluster | ClassCluster, site: Site) -> None:
        self.rules = cluster.select
        self._routes: dict[tuple[int, str], Route] = {}
        values = cluster.values if isinstance(cluster, Cluster) else {}
        fields = cluster.widths if isinstance(cluster, Cluster) else {}
        known = {TIER, PROOF, CLIENT, *attributes_of(fields)}
        self._usable = [(1 << at, rule) for at, rule in enumerate(self.rules) if rule.when.keys() <= known]
        self.tier = self._masks(TIER, lambda word: word)
        self.proof = self._masks(PROOF, lambda word: word)
        self.client = self._masks(
            CLIENT, lambda word: site.clients[str(word)].id if str(word) in site.clients else None
        )
        named = dict.fromkeys(name for _, rule in self._usable for name in rule.when if name in attributes_of(fields))
        self.attributes = {name: self._masks(name, partial(number_of, values, name)) for name in named}
        self.nobody = reduce(and_, (masks.of(0) for masks in (self.client, *self.attributes.values())))
        """Of the rules that fit a flow without client and attributes."""

    def _masks(self, name: str, value_of: Callable[[str | int], Hashable]) -> Masks:
        others = sum(bit for bit, rule in self._usable if name not in rule.when)
        by_value: dict[Hashable, int] = {}
        for bit, rule in self._usable:
            for word in rule.when.get(name, ()):
                value = value_of(word)
                if value is not None:
                    by_value[value] = by_value.get(value, others) | bit
        return Masks(by_value, others)

    def first(self, verdict: AddressVerdict) -> int:
        """The number of the first rule that fits a flow to a verified address, which has a tier; 0: none fits."""
        evidence = EVIDENCE.get(verdict.reason, Evidence.PLAIN)
        mask = self.proof.of(evidence) & self.tier.of(verdict.tier.name if verdict.tier else "")
        if evidence is Evidence.PLAIN:
            mask &= self.nobody
        else:
            mask &= self.client.of(verdict.client)
            for name, masks in self.attributes.items():
                mask &= masks.of(verdict.values.get(name, 0))
        return (mask & -mask).bit_length()

    def route(self, number: int, tier: Tier) -> Route:
        """Where a rule leads flows of a tier."""
        route = self._routes.get((number, tier.name))
        if route is None:
            rule = self.rules[number - 1]
            dscp = tier.dscp if rule.dscp is None else rule.dscp
            route = Route(tier, rule.pool, dscp, tier.priority if rule.priority is None else rule.priority, number)
            self._routes[number, tier.name] = route
        return route


class Router:
    """The routes of one site."""

    def __init__(self, site: Site, own: OwnServers) -> None:
        self._own = own
        self.rules = {name: CompiledRules(cluster, site) for name, cluster in site.clusters.items() if cluster.select}
        self._tiers = {tier.name: Route(tier, tier.pool, tier.dscp, tier.priority) for tier in site.tiers.values()}

    def own(self, verdict: AddressVerdict) -> Route | None:
        """The client's own pool or servers, for a verified address that has a tier; None where it has none."""
        record, tier = verdict.record, verdict.tier
        if record is None or tier is None or verdict.reason not in EVIDENCE:
            return None
        pool = self._own.key(record.servers) if record.servers else record.pool
        return Route(tier, pool, tier.dscp, tier.priority, RULE_OWN) if pool else None

    def shared(self, verdict: AddressVerdict, tier: Tier) -> Route:
        """The route by the rules of the cluster, or else by the tier."""
        rules = self.rules.get(verdict.cluster.name) if verdict.cluster else None
        number = rules.first(verdict) if rules else 0
        return rules.route(number, tier) if rules and number else self._tiers[tier.name]


def rule_label(rule: int) -> str | None:
    """`Route.rule` as it is shown: a number from 1, `client` where the client's own pool or servers decided, None where
    its tier did."""
    return "client" if rule == RULE_OWN else str(rule) if rule else None


def rule_counts(routed: Mapping[tuple[str, int], int]) -> list[dict[str, str | int | None]]:
    """Counts by cluster and `Route.rule`, JSON-ready, in their order."""
    return [
        {"cluster": cluster, "rule": rule_label(rule), "flows": flows}
        for (cluster, rule), flows in sorted(routed.items())
    ]


def conditions_in_words(rule: SelectRule) -> str:
    """The conditions of a rule: `tier gold, lang fr or en`."""
    some = (f"{name} {' or '.join(map(str, words))}" for name, words in rule.when.items())
    return ", ".join(some) or "always"
