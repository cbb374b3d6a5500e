"""Whether a process should get traffic, and the reasons."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest

from dnsvip.site import Address, Site
from dnsvip.site.readiness import Asked, Code, Readiness, Reason, cluster_reasons, pools_of, reasons
from tests.samples import make_site

ALL = Asked()
MISSING = Reason(Code.WORKERS, "x")


def codes(state: Readiness, asked: Asked = ALL, now: float = 160.0) -> list[str]:
    return [reason.code.value for reason in reasons(state, asked, now)]


def test_every_reason_is_named() -> None:
    """What is missing, a database that is silent for too long, a drained node and a stopping process, each by its
    code; a limit of 0 is none."""
    assert codes(Readiness("dns", (), 100.0, 60.0)) == []
    (stale,) = reasons(Readiness("dns", (), 100.0, 60.0), Asked("dns"), 161.0)
    assert stale == Reason(Code.STALE, "the database has not answered for 61 s (allowed: 60 s)")
    assert codes(Readiness("dns", (MISSING,), 100.0, 0.0), now=1e9) == ["workers"]
    assert codes(Readiness("dns", (MISSING,), 0.0, 60.0, 5.0, True)) == ["workers", "stale", "drained", "stopping"]


def test_another_role_is_not_ready() -> None:
    """A process is ready for its own role alone, whatever else is wrong with it."""
    assert codes(Readiness("dns", (MISSING,), 0.0), Asked("dispatch", "web")) == ["role"]
    assert codes(Readiness("dispatch", (), 100.0), Asked("dispatch", "web")) == []


@pytest.mark.parametrize(("least", "healthy", "expected"), [(1, 0, 1), (1, 1, 0), (2, 1, 1), (0, 0, 0)])
def test_a_cluster_needs_servers(least: int, healthy: int, expected: int) -> None:
    """A cluster with fewer healthy servers than `min_servers` is not ready, with the numbers; 0 asks for none."""
    site = make_site({"cluster": {"web": {"min_servers": least}}})
    addresses = [ip_address(f"fd00:10::{number}") for number in range(healthy)]
    found = cluster_reasons("web", site, lambda _: addresses)
    assert len(found) == expected
    assert all(f"{healthy} healthy servers for cluster web (min_servers: {least})" == each.message for each in found)


def test_an_unknown_cluster() -> None:
    """A cluster that is not there has its own reason."""
    assert [each.code for each in cluster_reasons("x", Site(), _nobody)] == [Code.UNKNOWN_CLUSTER]


def _nobody(_: Iterable[str]) -> set[Address]:
    return set()


def test_the_pools_of_a_cluster() -> None:
    """All tiers may be in an encoded address, those of its classes in an IPv4 one; rules and fallbacks add pools."""
    pool = {"servers": [{"name": "a", "address": "fd00:10::31"}]}
    more = {"pool": {"third": {**pool, "fallback": "fourth"}, "fourth": {**pool, "fallback": "fifth"}, "fifth": pool}}
    site = make_site(more | {"cluster": {"legacy": {"classes": {"gold": None}}}})
    assert pools_of(site.clusters["web"], site) == {"fast", "slow"}
    assert pools_of(site.clusters["legacy"], site) == {"slow"}
    ruled = {"cluster": {"web": {"select": [{"when": {"tier": ["gold"]}, "pool": "third"}]}}}
    site = make_site(more | ruled)
    assert pools_of(site.clusters["web"], site) == {"fast", "slow", "third", "fourth", "fifth"}
