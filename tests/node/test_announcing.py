"""What `serve` does not announce whatever its node file says."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dnsvip.node.dns_announcing import taken_by_clusters
from dnsvip.site.readiness import Code
from tests.samples import make_site


@pytest.mark.parametrize(
    ("prefix", "cluster"),
    [("2001:db8:a::/48", "web"), ("192.0.2.8/32", "legacy"), ("2001:db8:53::/48", None), ("198.51.100.0/24", None)],
)
def test_a_clusters_addresses_are_not_those_of_dns(prefix: str, cluster: str | None) -> None:
    """A prefix with addresses of a cluster is not announced: its packets would come to no dispatcher."""
    found = taken_by_clusters(ip_network(prefix), make_site())
    assert [each.code for each in found] == ([Code.ROLE] if cluster else [])
    assert all(f"of cluster {cluster}" in each.message for each in found)
