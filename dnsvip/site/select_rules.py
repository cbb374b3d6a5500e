"""The rules of what picks a pool beside the tier: `select` of clusters, and the pool or servers of a client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dnsvip.errors import Problem
from dnsvip.site import ClassCluster, Client, Cluster, Evidence, Pool, SelectRule, Site
from dnsvip.site.pool_rules import lacks_ipv4
from dnsvip.site.routing import CLIENT, PROOF, TIER, attributes_of, number_of
from dnsvip.site.rule_parts import attribute_fits, refers, repeated

MOST_SETS = 256
"""Different sets of servers that clients of a site may have of their own: each is a ring of its own."""


def check_select(where: str, cluster: Cluster | ClassCluster, site: Site) -> Iterator[Problem]:
    """The problems of a cluster's rules: words that mean nothing, and rules that can never fit."""
    earlier: list[Mapping[str, frozenset[str | int]]] = []
    for at, rule in enumerate(cluster.select):
        problems = list(_check_rule(f"{where}.{at}", rule, cluster, site))
        yield from problems
        meaning = {} if problems else _meaning(rule, cluster)
        for number, other in enumerate(earlier):
            if not problems and _covers(other, meaning):
                text = f"can never fit: where rule {at + 1} fits, rule {number + 1} ({where}.{number}) fits before it"
                yield Problem(f"{where}.{at}", f"{text}; put it before that one, or remove it")
                break
        earlier.append(meaning if not problems else {"": frozenset()})


def _check_rule(where: str, rule: SelectRule, cluster: Cluster | ClassCluster, site: Site) -> Iterator[Problem]:
    yield from refers(f"{where}.pool", "pool", rule.pool, site.pools)
    known = _conditions(cluster)
    for name, words in rule.when.items():
        if name in known:
            for word in words:
                yield from _check_word(f"{where}.when.{name}", name, word, cluster, site)
        else:
            text = f"unknown condition; known here: {', '.join(known)}"
            yield Problem(f"{where}.when.{name}", text)
    pool = site.pools.get(rule.pool)
    if isinstance(cluster, ClassCluster) and pool is not None and lacks_ipv4(pool, site):
        text = f"pool {pool.name!r} has no server with an IPv4 address, which its nat needs for an IPv4 cluster"
        yield Problem(f"{where}.pool", text, (("pool", pool.name),), "its pool has no server with an IPv4 address")
    if not set(rule.when) - set(known):
        yield from _check_possible(where, rule, cluster)


def _conditions(cluster: Cluster | ClassCluster) -> tuple[str, ...]:
    """What the rules of a cluster may name."""
    if isinstance(cluster, ClassCluster):
        return (TIER, CLIENT, PROOF) if cluster.identify_source else (TIER, PROOF)
    return (TIER, CLIENT, PROOF, *attributes_of(cluster.widths))


def _check_word(
    where: str, name: str, word: str | int, cluster: Cluster | ClassCluster, site: Site
) -> Iterator[Problem]:
    """A word means something: an object of the site, or a number that the attribute can have."""
    if name == TIER:
        yield from refers(where, "tier", str(word), site.tiers)
    elif name == CLIENT:
        if word not in site.clients:
            yield Problem(where, f"{word!r} is not a client of this site")
    elif name == PROOF:
        source = [Evidence.SOURCE.value] if cluster.identify_source else []
        plain = [Evidence.PLAIN.value, *source]
        known = plain if isinstance(cluster, ClassCluster) else [one.value for one in Evidence]
        if word not in known:
            yield Problem(where, f"{word!r} must be {' or '.join(known)}")
    elif isinstance(cluster, Cluster) and word != 0:
        yield from attribute_fits(where, name, word, cluster)


def _check_possible(where: str, rule: SelectRule, cluster: Cluster | ClassCluster) -> Iterator[Problem]:
    """The conditions of a rule do not exclude one another."""
    if isinstance(cluster, ClassCluster):
        return
    proofs = {str(word) for word in rule.when.get(PROOF, ())}
    carried = "client" in cluster.widths
    if not carried and ((CLIENT in rule.when and not cluster.identify_source) or proofs == {Evidence.PROVEN.value}):
        yield Problem(where, "can never fit: no address of this cluster carries a client (layout)")
    if proofs == {Evidence.PLAIN.value}:
        for name, words in rule.when.items():
            if name == CLIENT or (name not in (TIER, PROOF) and 0 not in words):
                yield Problem(f"{where}.when.{name}", f"can never fit: an address that is plain carries no {name}")
    yield from _check_claimed(where, rule, cluster, proofs)


def _check_claimed(where: str, rule: SelectRule, cluster: Cluster, proofs: set[str]) -> Iterator[Problem]:
    """A claim in an address is set where the address is proven, or the flow that it once opened is taken over."""
    if not proofs or proofs & {Evidence.PROVEN.value, Evidence.RESUMED.value}:
        return
    for name, _ in cluster.claims:
        if 0 not in rule.when.get(name, (0,)):
            text = f"can never fit: only an address that is proven carries the claim {name}"
            yield Problem(f"{where}.when.{name}", text)


def _meaning(rule: SelectRule, cluster: Cluster | ClassCluster) -> Mapping[str, frozenset[str | int]]:
    """The values that fit each condition of a rule, without conditions that everything fits."""
    values = cluster.values if isinstance(cluster, Cluster) else {}
    meaning: dict[str, frozenset[str | int]] = {}
    for name, words in rule.when.items():
        attribute = name not in (TIER, CLIENT, PROOF)
        numbers = (number_of(values, name, word) if attribute else word for word in words)
        fitting = frozenset(number for number in numbers if number is not None)
        everything: Iterable[str | int] | None = None
        if name == PROOF:
            everything = (one.value for one in Evidence)
        elif name in values:
            everything = (0, *values[name].values())
        if everything is None or not fitting >= set(everything):
            meaning[name] = fitting
    return meaning


def _covers(one: Mapping[str, frozenset[str | int]], other: Mapping[str, frozenset[str | int]]) -> bool:
    """Whether one fits wherever the other does."""
    return all(name in other and fitting >= other[name] for name, fitting in one.items())


def check_own_servers(where: str, client: Client, site: Site) -> Iterator[Problem]:
    """The pool or the servers that a client has of its own."""
    if client.pool is not None:
        yield from refers(f"{where}.pool", "pool", client.pool, site.pools)
    if client.pool is not None and client.servers:
        yield Problem(f"{where}.servers", "name a pool or servers, not both")
    for name in repeated(client.servers):
        yield Problem(f"{where}.servers", f"{name!r} is listed twice")
    for name in client.servers:
        pools = [pool.name for pool, _ in servers_called(name, site.pools)]
        if not pools:
            yield Problem(
                f"{where}.servers", f"{name!r} is not a server of this site; name it as SERVER or POOL/SERVER"
            )
        elif len(pools) > 1:
            text = f"{name!r} is in {len(pools)} pools ({', '.join(sorted(pools)[:8])}): name it as POOL/SERVER"
            names = tuple(("pool", pool) for pool in pools)
            yield Problem(f"{where}.servers", text, names, f"{name!r} is in several pools: name it as POOL/SERVER")


def servers_called(name: str, pools: Mapping[str, Pool]) -> list[tuple[Pool, str]]:
    """Pool and name of the servers that SERVER or POOL/SERVER means."""
    within, slash, server = name.rpartition("/")
    some = [pools[within]] if within in pools else [] if slash else pools.values()
    return [(pool, one.name) for pool in some for one in pool.servers if one.name == server]


def check_sets(site: Site) -> Iterator[Problem]:
    """No more sets of clients' own servers than dispatchers hold."""
    sets: dict[frozenset[str], str] = {}
    for client in site.clients.values():
        if client.servers:
            sets.setdefault(frozenset(client.servers), client.name)
    if len(sets) > MOST_SETS:
        text = f"clients have {len(sets)} different sets of own servers, {MOST_SETS} at most: make pools of them"
        yield Problem(f"client.{list(sets.values())[MOST_SETS]}.servers", text)
