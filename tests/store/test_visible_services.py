"""A service belongs to the closest zone, in SQL as in the rights, on both databases."""

from __future__ import annotations

import pytest

from dnsvip.site import Service, Zone
from dnsvip.site.plan import Change
from dnsvip.site.rights import Action, Rights, Scope
from dnsvip.store import Listing, Store
from dnsvip.store.access.audit_search import VisibleKinds
from dnsvip.store.access.visible import FEW

TEXT = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
ZONES = ("a.test", "child.a.test", "deep.child.a.test", "b.test")
SERVICES = ("a.test", "w.a.test", "w.child.a.test", "child.a.test", "x.deep.child.a.test", "w.b.test")


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        ("a.test", {"a.test", "w.a.test"}),
        ("child.a.test", {"w.child.a.test", "child.a.test"}),
        ("*.a.test", {"w.child.a.test", "child.a.test", "x.deep.child.a.test"}),
        ("b*", {"w.b.test"}),
        ("w.a.test", set()),
        ("w.child.a.test", set()),
    ],
)
@pytest.mark.parametrize("others", [0, FEW, 63], ids=["alone", "beside a few", "beside many"])
async def test_a_service_belongs_to_its_closest_zone(filled: Store, pattern: str, seen: set[str], others: int) -> None:
    """Lists, counts and the audit have the services that the rights allow, and those alone."""
    zones = [Change("zone", name, "+", None, Zone(name, TEXT)) for name in ZONES]
    services = [Change("service", name, "+", None, Service(name, "web")) for name in SERVICES]
    await filled.objects.apply([*zones, *services], "me", "api")
    patterns = (*(f"no*-{number}_%" for number in range(others)), pattern)
    rights = Rights((Scope((Action.READ,), ("service",), zones=patterns),), zones=(await filled.objects.site()).zones)
    visible = rights.patterns(Action.READ, "service")
    assert {name for name in SERVICES if rights.allow(Action.READ, "service", name)} == seen
    listed = await filled.objects.page(Listing("service", limit=100, visible=visible))
    assert {item.name for item in listed} & set(SERVICES) == seen  # type: ignore[union-attr]
    assert await filled.objects.count("service", visible) == len(listed)
    rows = await filled.audit.rows(1000, visible=VisibleKinds({"service": visible}))
    assert {row.name for row in rows} & set(SERVICES) == seen
