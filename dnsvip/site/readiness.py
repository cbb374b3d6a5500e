"""Whether a process of a node should get traffic, and why not: what /readyz says and what its routes follow.

Pure. A reason has a code for programs and a sentence for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from dnsvip.site.clusters import ClassCluster, Cluster
from dnsvip.site.snapshot import Site
from dnsvip.site.values import Address

DNS, DISPATCH = "dns", "dispatch"
ROLES = (DNS, DISPATCH)
"""What a process can be ready for."""

STALE_SECONDS = 3600.0
"""How long a process stays ready without its database: it keeps serving, but may miss a revocation."""


class Code(StrEnum):
    """Why a process should get no traffic. The words are an interface."""

    STALE = "stale"
    DRAINED = "drained"
    STOPPING = "stopping"
    ROLE = "role"
    WORKERS = "workers"
    DETACHED = "detached"
    SERVERS = "servers"
    UNKNOWN_CLUSTER = "unknown-cluster"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, and its sentence."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks about: a role, and for a dispatcher one cluster; without a role all that the process does."""

    role: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """What the readiness of a process depends on. `missing` is what it lacks to do its work, `heard_at` when the
    database last answered, or when the process started, and `drained_at` when an operator drained the node, in unix
    seconds. `stale_seconds` 0: never stale."""

    role: str
    missing: tuple[Reason, ...]
    heard_at: float
    stale_seconds: float = STALE_SECONDS
    drained_at: float | None = None
    stopping: bool = False


def reasons(state: Readiness, asked: Asked, now: float) -> list[Reason]:
    """Why the process should get no traffic; empty where it should. `now` in unix seconds."""
    if asked.role not in (None, state.role):
        return [Reason(Code.ROLE, f"this process has the role {state.role}, not {asked.role}")]
    found = list(state.missing)
    silent = now - state.heard_at
    if state.stale_seconds and silent > state.stale_seconds:
        text = f"the database has not answered for {silent:.0f} s (allowed: {state.stale_seconds:.0f} s)"
        found.append(Reason(Code.STALE, text))
    if state.drained_at is not None:
        found.append(Reason(Code.DRAINED, "an operator has drained this node"))
    if state.stopping:
        found.append(Reason(Code.STOPPING, "the process is about to stop"))
    return found


def cluster_reasons(name: str, site: Site, usable: Callable[[Iterable[str]], Iterable[Address]]) -> tuple[Reason, ...]:
    """Why a dispatcher should get no traffic of a cluster: too few servers. `usable` gives the addresses of the servers
    of some pools that can take new flows; no more are asked for than are needed."""
    cluster = site.clusters.get(name)
    if cluster is None:
        return (Reason(Code.UNKNOWN_CLUSTER, f"there is no cluster {name!r}"),)
    found: set[Address] = set()
    addresses = iter(usable(pools_of(cluster, site)))
    while len(found) < cluster.min_servers:
        if (address := next(addresses, None)) is None:
            break
        found.add(address)
    else:
        return ()
    text = f"{len(found)} healthy servers for cluster {name} (min_servers: {cluster.min_servers})"
    return (Reason(Code.SERVERS, text),)


def pools_of(cluster: Cluster | ClassCluster, site: Site) -> frozenset[str]:
    """The pools that may serve a cluster: of its tiers, of its rules, and those they fall back to; not those that
    single clients have for themselves."""
    if isinstance(cluster, ClassCluster) and not cluster.identify_source:
        tiers: Iterable[str] = {*cluster.classes, cluster.default_tier}
    else:
        tiers = site.tiers
    names = [site.tiers[name].pool for name in tiers if name in site.tiers] + [rule.pool for rule in cluster.select]
    pools: set[str] = set()
    while names:
        name = names.pop()
        if name is not None and name in site.pools and name not in pools:
            pools.add(name)
            names.append(site.pools[name].fallback)
    return frozenset(pools)
