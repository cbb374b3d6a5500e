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
    OBJECT_STEPS,
    CatalogRole,
    ClassCluster,
    Classify,
    Client,
    Cluster,
    DnsToken,
    Service,
    Site,
    Step,
    Tier,
    TierAction,
    Zone,
)
from dnsvip.site.claim_rules import check_said, fields_called, said_remarks
from dnsvip.site.dns_group_rules import check_dns_group
from dnsvip.site.dns_group_rules import remarks as dns_group_remarks
from dnsvip.site.nested import cut_networks, hidden_networks
from dnsvip.site.plain import collection
from dnsvip.site.pool_rules import check_pool, lacks_ipv4
from dnsvip.site.quality_rules import check_policing
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rotation import least_rotation
from dnsvip.site.rotation import remarks as rotation_remarks
from dnsvip.site.routing import attributes_of
from dnsvip.site.rule_parts import attribute_fits, fits, refers, repeated
from dnsvip.site.select_rules import check_own_servers, check_select, check_sets
from dnsvip.site.session_rules import check_session
from dnsvip.site.uniqueness import check_unique

SHORT_PROOF_BITS = 24
"""Proofs shorter than this can be guessed in the minute in which one is good, by some 100,000 packets a second."""


def check_site(site: Site) -> list[Problem]:
    """Every problem of a whole site; empty where it can be applied."""
    problems = list(check_classify(site.classify, site))
    for kind in COLLECTIONS:
        for name, thing in collection(site, kind).items():
            problems += check_one(kind, name, thing, site)
    return [*dict.fromkeys(problems), *check_unique(site), *check_keys(site), *check_sets(site)]


def check_keys(site: Site) -> Iterator[Problem]:
    """A TSIG key that zones are transferred or updated with identifies no client: an enrolment would hand it out."""
    keys = frozenset[str]().union(*(zone.tsig_keys for zone in site.zones.values()))
    for name, client in site.clients.items() if keys else ():
        for match in client.match:
            if match.step is Step.TSIG and match.value in keys:
                yield transfer_key(name, match.value)


def transfer_key(client: str, key: str) -> Problem:
    """The problem of a client that is identified by a key of zone transfers or updates."""
    text = f"{key!r} is a key of zone transfers or updates, which no client may have; make another one for the client"
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
    remarks += [remark for group in site.dns_groups.values() for remark in dns_group_remarks(group)]
    remarks += [*hidden_networks(site), *_carried_nowhere(site)]
    return [*remarks, *_guessable_proofs(site), *cut_networks(site)]


def warnings_about(kind: str, thing: Any, site: Site) -> list[Problem]:
    """What of that concerns one object beside the site's clusters alone, whether or not `site` has it yet."""
    if kind == "client":
        found = warnings(Site(clusters=site.clusters, tiers=site.tiers, clients={thing.name: thing}))
    elif kind == "tier":
        found = warnings(Site(clusters=site.clusters, tiers={thing.name: thing}))
    elif kind == "classify":
        found = warnings(Site(classify=thing))
    elif kind == "dns_group":
        found = warnings(Site(dns_groups={thing.name: thing}))
    elif kind == "cluster":
        found = warnings(Site(clusters={thing.name: thing}))
    else:
        found = []
    return [
        problem for problem in found if problem.where.startswith(kind if kind == "classify" else f"{kind}.{thing.name}")
    ]


def _cluster_warnings(cluster: Cluster | ClassCluster) -> Iterator[Problem]:
    """What is allowed of a cluster but probably a mistake."""
    if isinstance(cluster, ClassCluster):
        yield Problem(f"cluster.{cluster.name}", "IPv4 classes are not authenticated: any client can use any class")
        return
    if cluster.tag_bits < SHORT_TAG_BITS:
        layout, slots = cluster.address_layout, len(acceptable_slots(0, 1))
        proofs = 1 << layout.proof_bits
        text = (
            f"one forged address in {1 << layout.tag_bits} passes, and for who knows an issued one, one guessed proof "
            f"in {proofs} in each of {slots} time slots; use {SHORT_TAG_BITS} or more"
        )
        yield Problem(f"cluster.{cluster.name}.tag_bits", text)
    yield from said_remarks(cluster)
    yield from rotation_remarks(cluster)


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
        bits = layout.proof_bits
        if bits < SHORT_PROOF_BITS:
            guesses = (1 << bits) // len(acceptable_slots(0, 1))
            text = (
                f"one in {guesses} guessed proofs passes in cluster {cluster.name!r}, for who knows an issued address"
                " (a /64 has 64 guesses in each time slot, a /56 16,384); "
                f"use {SHORT_PROOF_BITS * 3 // 2} tag_bits or more"
            )
            yield from (Problem(where, text) for where in requiring)


def _and_others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more clients)" if len(names) > 1 else ""


def _check_cluster(where: str, cluster: Cluster | ClassCluster, site: Site) -> Iterator[Problem]:
    yield from refers(f"{where}.default_tier", "tier", cluster.default_tier, site.tiers)
    yield from check_select(f"{where}.select", cluster, site)
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
    yield from check_said(where, cluster)
    for tier in site.tiers.values():
        yield from _tier_fits(tier, cluster)
    for attribute, table in cluster.values.items():
        yield from _check_values(f"{where}.values.{attribute}", attribute, table, cluster)


def _serves_ipv4(where: str, tier: Tier | None, site: Site) -> Iterator[Problem]:
    """A nat pool needs servers with IPv4 addresses: only to those can an IPv4 packet be rewritten."""
    pool = site.pools.get(tier.pool or "") if tier else None
    if tier is not None and pool is not None and lacks_ipv4(pool, site):
        text = f"tier {tier.name!r} is served by pool {pool.name!r}; give it a server with an IPv4 address, for its nat"
        yield Problem(where, text, (("pool", pool.name),), "its pool has no server with an IPv4 address")


def _check_rotation(where: str, cluster: Cluster) -> Iterator[Problem]:
    least = least_rotation(cluster)
    if isinstance(cluster.rotate_every, int) and cluster.rotate_every < least:
        yield Problem(where, f"must be {least} or more, half of ttl + session_lifetime: else no key slot is free")


def _check_values(where: str, attribute: str, table: Mapping[str, int], cluster: Cluster) -> Iterator[Problem]:
    widths = fields_called(attribute, cluster)
    if attribute in RESERVED_NAMES or not widths:
        yield Problem(where, "is not an attribute field of the layout, nor a claim")
        return
    for word, number in table.items():
        if number == 0:
            yield Problem(f"{where}.{word}", "0 means 'not set'; use 1 or more")
        yield from fits(where, attribute, min(widths), f"value of {word!r}", number)
    if len(set(table.values())) != len(table):
        yield Problem(where, "two words share a number")


def _check_tier(where: str, tier: Tier, site: Site) -> Iterator[Problem]:
    if tier.action is TierAction.FORWARD and tier.pool is None:
        yield Problem(f"{where}.pool", 'missing; name a pool, or set action = "drop"')
    if tier.pool is not None:
        yield from refers(f"{where}.pool", "pool", tier.pool, site.pools)
    if tier.policing is not None:
        yield from check_policing(f"{where}.policing", tier.policing)
    for cluster in site.clusters.values():
        if isinstance(cluster, Cluster):
            yield from _tier_fits(tier, cluster)


def _tier_fits(tier: Tier, cluster: Cluster) -> Iterator[Problem]:
    for width in fields_called("tier", cluster)[:1]:
        for problem in fits(f"tier.{tier.name}.code", "tier", width, f"code in cluster {cluster.name!r}", tier.code):
            text = f"code {tier.code} is too large for a cluster"
            yield replace(problem, names=(("cluster", cluster.name),), hidden=text, about=("tier", tier.name))


def _check_zone(where: str, zone: Zone, site: Site) -> Iterator[Problem]:
    for place, rule in enumerate(zone.update):
        yield from refers(f"{where}.update.{place}.tsig", "tsig", rule.tsig, site.tsig_keys)
        for name in rule.names:
            if not (name == zone.name or name.endswith((f".{zone.name}", "*")) or zone.name == "."):
                text = f"{name!r} is not in the zone; names are absolute, such as {f'host.{zone.name}'!r}"
                yield Problem(f"{where}.update.{place}.names", text)
    if zone.primaries_tsig is not None:
        yield from refers(f"{where}.primaries_tsig", "tsig", zone.primaries_tsig, site.tsig_keys)
    if not zone.primaries and (zone.primaries_tsig is not None or zone.primaries_ca is not None):
        yield Problem(f"{where}.primaries", "missing; name the servers that the zone is transferred from")
    if zone.is_derived and zone.update:
        yield Problem(f"{where}.update", "leave it out: updates go to the zone's primaries")
    if zone.catalog is not None and (zone.catalog is CatalogRole.CONSUME) is not zone.is_secondary:
        text = "a catalog that is consumed needs primaries, and one that is made here has none"
        yield Problem(f"{where}.catalog", text)
    if zone.transfer is None:
        return
    if not zone.transfer.to and zone.transfer.tsig is None and not zone.transfer.certificates:
        right = 'to = ["192.0.2.0/24"], tsig = "KEY", certificates = ["ns2.example.net"], or several'
        yield Problem(f"{where}.transfer", f"say who may transfer the zone: {right}")
    if zone.transfer.signed:
        yield from _check_signed_transfer(f"{where}.transfer.signed", zone)
    if zone.transfer.tsig is not None:
        yield from refers(f"{where}.transfer.tsig", "tsig", zone.transfer.tsig, site.tsig_keys)


def _check_signed_transfer(where: str, zone: Zone) -> Iterator[Problem]:
    """Secondaries get new signatures with a higher serial, which the node raises; a digest would be of other data."""
    if not zone.is_signed:
        yield Problem(where, "is for zones that are signed here: set dnssec.enabled to true with it")
    if zone.is_derived:
        yield Problem(where, "is for zones whose serial is set here, not for secondary zones and catalogs")
    if zone.zonemd:
        yield Problem(where, "cannot be together with zonemd, whose digest would lack the signatures")


def _check_service(where: str, service: Service, site: Site) -> Iterator[Problem]:
    if service.cluster is not None:
        yield from refers(f"{where}.cluster", "cluster", service.cluster, site.clusters, Cluster)
    elif service.cluster4 is None:
        yield Problem(f"{where}.cluster", "missing; name an IPv6 cluster here, or an IPv4 cluster in cluster4, or both")
    if service.cluster4 is not None:
        yield from refers(f"{where}.cluster4", "cluster", service.cluster4, site.clusters, ClassCluster)
    yield from _check_asked_for(f"{where}.attributes", service, site.clusters.get(service.cluster or ""))
    yield from check_session(where, service, site)
    if not any(service.name == zone or service.name.endswith(f".{zone}") or zone == "." for zone in site.zones):
        yield Problem(where, "is in none of the zones; add the zone it belongs to")


def _check_asked_for(where: str, service: Service, cluster: Cluster | ClassCluster | None) -> Iterator[Problem]:
    if not isinstance(cluster, Cluster):
        return
    for attribute, value in service.attributes.items():
        known = attributes_of(dict(cluster.layout))
        if attribute in known:
            yield from attribute_fits(f"{where}.{attribute}", attribute, value, cluster)
        else:
            there = ", ".join(known) or "none"
            text = f"cluster.{cluster.name} has no such attribute in its layout (there is: {there})"
            yield Problem(f"{where}.{attribute}", text, (("cluster", cluster.name),), "is no attribute of its cluster")


def _check_client(where: str, client: Client, site: Site) -> Iterator[Problem]:
    yield from refers(f"{where}.tier", "tier", client.tier, site.tiers)
    yield from check_own_servers(where, client, site)
    for match in client.match:
        if kind := OBJECT_STEPS.get(match.step):
            yield from refers(f"{where}.match", kind, match.value, collection(site, kind), suggest=False)
    for name, cluster in site.clusters.items():
        if isinstance(cluster, ClassCluster):
            continue
        widths = dict(cluster.layout)
        for width in fields_called("client", cluster)[:1]:
            for problem in fits(f"{where}.id", "client", width, f"id in cluster {name!r}", client.id):
                yield replace(problem, names=(("cluster", name),), hidden=f"id {client.id} is too large for a cluster")
        for attribute in client.attributes.keys() & widths.keys() - RESERVED_NAMES:
            yield from attribute_fits(
                f"{where}.attributes.{attribute}", attribute, client.attributes[attribute], cluster
            )
    for attribute in client.attributes.keys() & RESERVED_NAMES:
        yield Problem(f"{where}.attributes.{attribute}", "is a reserved field name, not an attribute")


def _check_dns_token(where: str, token: DnsToken, _site: Site) -> Iterator[Problem]:
    if token.previous == token.digest:
        yield Problem(f"{where}.previous", "is the same as digest; leave it out")
    if token.previous_until is not None and token.previous is None:
        yield Problem(f"{where}.previous_until", "leave it out, as there is no previous digest")


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
    "dns_group": check_dns_group,
    "dns_token": _check_dns_token,
    "client": _check_client,
}
