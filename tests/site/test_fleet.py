"""What is wrong with a fleet, by the reports of its nodes."""

from __future__ import annotations

from dnsvip.site import Site
from dnsvip.site.epochs import NodeReport
from dnsvip.site.fleet import Severity, TroubleKind, live_by_role, troubles
from tests.samples import make_snapshot

NOW = 1000.0
SITE = make_snapshot().site
DISPATCHER = "No dispatcher reports: packets to the clusters' addresses reach no server."
DNS = "No DNS server reports: the site's names are not answered."


def report(name: str, *roles: str, seen: float = NOW, generation: int = 9, stopped: bool = False) -> NodeReport:
    detail = {"stopped": True} if stopped else {}
    return NodeReport(name, frozenset(roles), generation, "x", seen, 5.0, f"{name} {seen}", detail=detail)


def texts(*reports: NodeReport, site: Site = SITE) -> list[tuple[str, str, float | None]]:
    return [(each.severity, each.text, each.since) for each in troubles(site, reports, 9, NOW)]


def test_all_is_well() -> None:
    """Live nodes of every role that are up to date are no trouble, nor is a process that another has replaced."""
    assert texts(report("one", "dns", "admin"), report("two", "dispatch"), report("two", "dispatch", seen=10.0)) == []


def test_a_role_that_nobody_has() -> None:
    """A site with clusters needs a dispatcher and one with names a DNS server, also where there never was one."""
    assert texts() == [(Severity.CRITICAL, DISPATCHER, None), (Severity.CRITICAL, DNS, None)]
    assert texts(report("two", "dispatch"), site=Site()) == []
    assert texts(report("two", "dispatch")) == [(Severity.CRITICAL, DNS, None)]


def test_who_is_gone_since_when() -> None:
    """A node that was killed and one that was stopped are named with the time; the last of its role is critical."""
    dns = report("one", "dns", "admin")
    assert texts(dns, report("two", "dispatch", seen=900.0)) == [
        (Severity.CRITICAL, DISPATCHER, 900.0),
        (Severity.WARNING, "Node two (dispatch) has stopped reporting.", 900.0),
    ]
    three = report("three", "dispatch")
    assert texts(dns, three, report("two", "dispatch", seen=999.0, stopped=True)) == [
        (Severity.WARNING, "Node two (dispatch) was stopped.", 999.0)
    ]


def test_who_is_behind() -> None:
    """A node is as far as its slowest live process; one that is gone is not behind but gone."""
    reports = (report("one", "dns"), report("one", "dns", generation=7, seen=999.0), report("two", "dispatch"))
    assert texts(*reports) == [(Severity.WARNING, "Node one (dns) is 2 generations behind.", None)]
    (gone,) = troubles(Site(), [report("old", "dns", generation=1, seen=1.0)], 9, NOW)
    assert gone.kind is TroubleKind.GONE


def test_who_is_drained() -> None:
    """A drained node is named, also one that no longer reports; it is critical where no live node of a role is left."""
    reports = (report("one", "dns"), report("two", "dispatch"), report("three", "dispatch", seen=999.0))
    found = [(each.severity, each.text, each.since) for each in troubles(SITE, reports, 9, NOW, {"two": 5.0, "x": 6.0})]
    assert found == [
        (Severity.WARNING, "Node two is drained: it gets no traffic.", 5.0),
        (Severity.WARNING, "Node x is drained: it reports no more; undrain it if it does not come back.", 6.0),
    ]
    first = troubles(SITE, reports, 9, NOW, {"two": 5.0, "three": 7.0})[0]
    text = "Every dispatcher is drained: nobody announces the clusters' addresses."
    assert (first.severity, first.text, first.since) == (Severity.CRITICAL, text, 7.0)


def test_live_nodes_by_role() -> None:
    """Every role has a number, 0 for one that nobody has."""
    reports = (report("one", "dns", "admin"), report("two", "dns", seen=1.0), report("one", "dispatch", stopped=True))
    assert live_by_role(reports, NOW) == {"dns": 1, "admin": 1, "dispatch": 0}
