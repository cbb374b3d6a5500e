"""The rules of services whose names name sessions, and which clusters have such."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.address.session import LABEL_LENGTH, LEAST_BITS, SessionLabels
from dnsvip.errors import Problem
from dnsvip.site import Cluster, Service, SessionFrom, Site, Snapshot

WILDCARD = "*."
LONGEST_NAME = 253


def session_services(site: Site) -> Iterator[tuple[Service, Cluster]]:
    """The services whose labels name sessions, with their clusters."""
    for service in site.services.values():
        if service.session is SessionFrom.LABEL and isinstance(
            cluster := site.clusters.get(service.cluster or ""), Cluster
        ):
            yield service, cluster


def session_labels(snapshot: Snapshot, service: Service, cluster: Cluster) -> SessionLabels:
    """The labels of such a service."""
    return SessionLabels.of(snapshot.masters.get(cluster.name), cluster.prefix, service.name)


def shared_sessions(site: Site) -> dict[str, int]:
    """The bits of the session field of the clusters with such services, by name: the highest one is set in sessions
    that are not one client's alone."""
    clusters = [cluster for _, cluster in session_services(site)]
    return {cluster.name: bits for cluster in clusters if (bits := dict(cluster.layout).get("session"))}


def check_session(where: str, service: Service, site: Site) -> Iterator[Problem]:
    """The problems of a service whose labels name sessions."""
    if service.session is None:
        return
    if not service.name.startswith(WILDCARD):
        yield Problem(f"{where}.session", 'needs a wildcard, such as [service."*.s.example.test"]')
    if len(service.name) - 1 + LABEL_LENGTH > LONGEST_NAME:
        yield Problem(f"{where}.session", f"leaves no room for labels of {LABEL_LENGTH} characters in a name")
    if service.cluster is None:
        yield Problem(f"{where}.session", "needs an IPv6 cluster: no IPv4 address carries a session")
    cluster = site.clusters.get(service.cluster or "")
    if isinstance(cluster, Cluster) and dict(cluster.layout).get("session", 0) < LEAST_BITS:
        text = f"needs a field ['session', {LEAST_BITS}] or wider in the layout of cluster {cluster.name!r}"
        hidden = "needs a wider session field in the layout of its cluster"
        yield Problem(f"{where}.session", text, (("cluster", cluster.name),), hidden)
