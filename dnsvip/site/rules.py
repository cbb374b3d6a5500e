"""What must hold between the objects of a site. Each rule is a pure function that yields Problems.

`check_site` runs all of them; `check_one` runs those of a single object against the rest, so that a
change of one client costs the same among ten clients and among a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from dnsvip.address.layout import RESERVED_NAMES, SHORT_TAG_BITS
from dnsvip.address.proof import acceptable_slots
from dnsvip.errors import Problem
from dnsvip.site import (
    ClassCluster,
    Classify,
    Client,
    Cluster,
    Forward,
    Service,
    Site,
    Step,
    Tier,
    TierAction,
    Zone,
)
from dnsvip.site.nested import hidden_networks
from dnsvip.site.plain import collection
from dnsvip.site.pool_rules import check_pool
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rotation import least_rotation
from dnsvip.site.rotation import remarks as rotation_remarks
from dnsvip.site.rule_parts import fits, refers, repeated
from dnsvip.site.uniqueness import check_unique

SHORT_PROOF_BITS = 24
"""Proofs shorter than this can be guessed in the minute in which one is good, by some 100,000 packets a second."""


def check_site(site: Site) -> list[Problem]:
    """Every problem of a whole site; empty where it can be applied."""
    problems = list(check_classify(site.classify, site))
    for kind in COLLECTIONS:
        for name, thing in collection(site, kind).items():
            problems += check_one(kind, name, thing, site)
    return list(dict.fromkeys(problems)) + list(check_unique(site)) + list(check_keys(site))


def check_keys(site: Site) -> Iterator[Problem]:
    """A TSIG key that zones are transferred with identifies no client: an enrolment would hand it out."""
    transfers = {zone.transfer.tsig for zone in site.zones.values() if zone.transfer and zone.transfer.tsig}
    for name, client in site.clients.items() if transfers else ():
        for match in client.match:
            if match.step is Step.TSIG and match.value in transfers:
                yield transfer_key(name, match.value)


def transfer_key(client: str, key: str) -> Problem:
    """The problem of a client that is identified by a key of zone transfers."""
    text = f"{key!r} is a key of zone transfers, which no client may have; make another TSIG key for the client"
    return Problem(f"client.{client}.match", text, about=("client", client))


def check_one(kind: str, name: str, thing: Any, site: Site) -> list[Problem]:
    """The problems of one object among the others of `site`, which may or may not contain it yet.

    Uniqueness across clients (ids, matches) is not checked here: the store's constraints or `check_site` do that.
    """
    rule = _RULES.get(kind)
    problems = rule(f"{kind}.{name}", thing, site) if rule else ()
    return [replace(problem, about=problem.about or (kind, name)) for problem in problems]


def warnings(site: Site) -> list[Problem]:
    """What is allowed but probably a mistake."""
    remarks = [remark for cluster in site.clusters.values() for remark in _cluster_warnings(cluster)]
    remarks += [*hidden_networks(site.clients.values()), *_never_matching(site), *_carried_nowhere(site)]
    return [*remarks, *_guessable_proofs(site)]


def warnings_about(kind: str, thing: Any, site: Site) -> list[Problem]:
    """What of that concerns one object beside the site's clusters alone, whether or not `site` has it yet."""
    if kind == "client":
        found = warnings(Site(clusters=site.clusters, clients={thing.name: thing}))
    elif kind == "tier":
        found = warnings(Site(clusters=site.clusters, tiers={thing.name: thing}))
    elif kind == "cluster":
        found = warnings(Site(clusters={thing.name: thing}))
    else:
        found = []
    return [problem for problem in found if problem.where.startswith(f"{kind}.{thing.name}")]


def _cluster_warnings(cluster: Cluster | ClassCluster) -> Iterator[Problem]:
    """What is allowed of a cluster but probably a mistake."""
    if isinstance(cluster, ClassCluster):
        yield Problem(f"cluster.{cluster.name}", "IPv4 classes are not authenticated: any client can use any class")
        return
    if cluster.tag_bits < SHORT_TAG_BITS:
        odds = 1 << cluster.tag_bits
        yield Problem(f"cluster.{cluster.name}.tag_bits", f"one forged address in {odds} passes; use 16 or more")
    yield from rotation_remarks(cluster)


def _never_matching(site: Site) -> Iterator[Problem]:
    """Matches that no listener can establish yet, with the first client that has one."""
    for step in (Step.TLS, Step.TOKEN):
        names = [name for name, client in site.clients.items() if any(match.step is step for match in client.match)]
        if names:
            text = f"a match by {step.value} never matches: no DNS listener verifies one yet"
            yield Problem(f"client.{names[0]}.match", text + _and_others(names))


def _carried_nowhere(site: Site) -> Iterator[Problem]:
    """Attributes of clients that no cluster's layout carries, with the first client that has each."""
    carried = {name for c in site.clusters.values() if isinstance(c, Cluster) for name in dict(c.layout)}
    users: dict[str, list[str]] = {}
    for name, client in site.clients.items():
        for attribute in client.attributes.keys() - carried:
            users.setdefault(attribute, []).append(name)
    for attribute, names in sorted(users.items()):
        text = f"no cluster's layout has a field {attribute!r}, so no address carries it"
        yield Problem(f"client.{names[0]}.attributes.{attribute}", text + _and_others(names))


def _guessable_proofs(site: Site) -> Iterator[Problem]:
    """Who requires proofs that can be guessed, a tier or the first client: a proof has a part of the tag's bits."""
    requiring = [f"tier.{tier.name}.require_proof" for tier in site.tiers.values() if tier.require_proof]
    client = next((client.name for client in site.clients.values() if client.proof.required), None)
    requiring += [f"client.{client}.proof.required"] if client else []
    for cluster in site.clusters.values() if requiring else ():
        if isinstance(cluster, ClassCluster):
            continue
        layout = cluster.address_layout
        bits = layout.tag_bits - layout.cheap_tag_bits
        if bits < SHORT_PROOF_BITS:
            guesses = (1 << bits) // len(acceptable_slots(0, 1))
            text = (
                f"one in {guesses} guessed proofs passes in cluster {cluster.name!r}, for who knows an issued address; "
                f"use {SHORT_PROOF_BITS * 3 // 2} tag_bits or more"
            )
            yield from (Problem(where, text) for where in requiring)


def _and_others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more clients)" if len(names) > 1 else ""


def _check_cluster(where: str, cluster: Cluster | ClassCluster, site: Site) -> Iterator[Problem]:
    yield from refers(f"{where}.default_tier", "tier", cluster.default_tier, site.tiers)
    if cluster.plain not in cluster.prefix:
        yield Problem(f"{where}.plain", f"{cluster.plain} is outside {cluster.prefix}")
    if isinstance(cluster, ClassCluster):
        for name in cluster.classes:
            yield from refers(f"{where}.classes.{name}", "tier", name, site.tiers)
            yield from _serves_ipv4(f"{where}.classes.{name}", site.tiers.get(name), site)
        return
    if int(cluster.plain) == int(cluster.prefix.network_address):
        yield Problem(f"{where}.plain", "is the subnet-router anycast address; take another one in the prefix")
    yield from _check_rotation(f"{where}.rotate_every", cluster)
    widths = dict(cluster.layout)
    if "tier" in widths:
        for tier in site.tiers.values():
            yield from _tier_fits(tier, cluster.name, widths["tier"])
    for attribute, table in cluster.values.items():
        yield from _check_values(f"{where}.values.{attribute}", attribute, table, widths)


def _serves_ipv4(where: str, tier: Tier | None, site: Site) -> Iterator[Problem]:
    """A nat pool has IPv6 servers only, to which no IPv4 packet can be rewritten."""
    pool = site.pools.get(tier.pool or "") if tier else None
    if pool is not None and pool.forward is Forward.NAT:
        text = (
            f'tier {tier.name if tier else ""!r} is served by pool {pool.name!r}, whose forward = "nat" takes IPv6 only'
        )
        yield Problem(where, text, (("pool", pool.name),), "its pool takes IPv6 only")


def _check_rotation(where: str, cluster: Cluster) -> Iterator[Problem]:
    least = least_rotation(cluster)
    if isinstance(cluster.rotate_every, int) and cluster.rotate_every < least:
        yield Problem(where, f"must be {least} or more, half of ttl + session_lifetime: else no key slot is free")


def _check_values(where: str, attribute: str, table: Mapping[str, int], widths: Mapping[str, int]) -> Iterator[Problem]:
    if attribute in RESERVED_NAMES or attribute not in widths:
        yield Problem(where, "is not an attribute field of the layout")
        return
    for word, number in table.items():
        if number == 0:
            yield Problem(f"{where}.{word}", "0 means 'not set'; use 1 or more")
        yield from fits(where, attribute, widths[attribute], f"value of {word!r}", number)
    if len(set(table.values())) != len(table):
        yield Problem(where, "two words share a number")


def _check_tier(where: str, tier: Tier, site: Site) -> Iterator[Problem]:
    if tier.action is TierAction.FORWARD and tier.pool is None:
        yield Problem(f"{where}.pool", 'missing; name a pool, or set action = "drop"')
    if tier.pool is not None:
        yield from refers(f"{where}.pool", "pool", tier.pool, site.pools)
    for name, cluster in site.clusters.items():
        if isinstance(cluster, Cluster) and "tier" in dict(cluster.layout):
            yield from _tier_fits(tier, name, dict(cluster.layout)["tier"])


def _tier_fits(tier: Tier, cluster: str, width: int) -> Iterator[Problem]:
    for problem in fits(f"tier.{tier.name}.code", "tier", width, f"code in cluster {cluster!r}", tier.code):
        text = f"code {tier.code} is too large for a cluster"
        yield replace(problem, names=(("cluster", cluster),), hidden=text, about=("tier", tier.name))


def _check_zone(where: str, zone: Zone, site: Site) -> Iterator[Problem]:
    if zone.transfer is None:
        return
    if not zone.transfer.to and zone.transfer.tsig is None:
        yield Problem(f"{where}.transfer", 'say who may transfer the zone: to = ["192.0.2.0/24"], tsig = "KEY" or both')
    if zone.transfer.tsig is not None:
        yield from refers(f"{where}.transfer.tsig", "tsig", zone.transfer.tsig, site.tsig_keys)


def _check_service(where: str, service: Service, site: Site) -> Iterator[Problem]:
    yield from refers(f"{where}.cluster", "cluster", service.cluster, site.clusters, Cluster)
    if service.cluster4 is not None:
        yield from refers(f"{where}.cluster4", "cluster", service.cluster4, site.clusters, ClassCluster)
    if not any(service.name == zone or service.name.endswith(f".{zone}") or zone == "." for zone in site.zones):
        yield Problem(where, "is in none of the zones; add the zone it belongs to")


def _check_client(where: str, client: Client, site: Site) -> Iterator[Problem]:
    yield from refers(f"{where}.tier", "tier", client.tier, site.tiers)
    for match in client.match:
        if match.step is Step.TSIG:
            yield from refers(f"{where}.match", "tsig", match.value, site.tsig_keys)
    for name, cluster in site.clusters.items():
        if isinstance(cluster, ClassCluster):
            continue
        widths = dict(cluster.layout)
        if "client" in widths:
            for problem in fits(f"{where}.id", "client", widths["client"], f"id in cluster {name!r}", client.id):
                yield replace(problem, names=(("cluster", name),), hidden=f"id {client.id} is too large for a cluster")
        for attribute in client.attributes.keys() & widths.keys() - RESERVED_NAMES:
            yield from _check_attribute(f"{where}.attributes.{attribute}", attribute, client, cluster)
    for attribute in client.attributes.keys() & RESERVED_NAMES:
        yield Problem(f"{where}.attributes.{attribute}", "is a reserved field name, not an attribute")


def _check_attribute(where: str, attribute: str, client: Client, cluster: Cluster) -> Iterator[Problem]:
    value = client.attributes[attribute]
    table = cluster.values.get(attribute)
    if table is not None:
        if value not in table and value not in table.values():
            text = f"{value!r} is not in cluster.{cluster.name}.values: {', '.join(table)}"
            yield Problem(where, text, (("cluster", cluster.name),), f"{value!r} is not a value that a cluster knows")
    elif not isinstance(value, int):
        text = f"must be a number, as cluster.{cluster.name} has no table values.{attribute}"
        yield Problem(where, text, (("cluster", cluster.name),), "must be a number")
    else:
        yield from fits(where, attribute, dict(cluster.layout)[attribute], "value", value)


def check_classify(classify: Classify, _site: Site) -> Iterator[Problem]:
    """The rules of `[classify]`."""
    for step in repeated(classify.order):
        yield Problem("classify.order", f"{step.value!r} is listed twice")


_RULES: Mapping[str, Callable[[str, Any, Site], Iterator[Problem]]] = {
    "cluster": _check_cluster,
    "tier": _check_tier,
    "pool": check_pool,
    "zone": _check_zone,
    "service": _check_service,
    "client": _check_client,
}
