"""Catalog zones (RFC 9432): what they name, what that changes of a site, and what is no catalog."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.replication import catalogs
from dnsvip.dns.replication.catalogs import CatalogError, catalog_text, listed, members_of, orphans, planned
from dnsvip.dns.zones.zone import Node, compile_zone, serial_of
from dnsvip.node import catalogs as node_catalogs
from dnsvip.site import CatalogRole, Transfer, Zone
from dnsvip.site.plan import Change

NAME = "catalog.test"
CATALOG = Zone(
    NAME, primaries=("192.0.2.1:53",), primaries_tsig="key", notify=("192.0.2.9:53",), catalog=CatalogRole.CONSUME
)
OPEN = Transfer(to=(ip_network("0.0.0.0/0"),))


def members(text: str) -> list[str]:
    """What a catalog with this text names."""
    return members_of(compile_zone(Zone(NAME, f"$TTL 0\n@ SOA invalid. invalid. 1 1 1 1 1\n@ NS invalid.\n{text}")))


def test_made_and_read() -> None:
    """A catalog that is made names its members, and a further version has a higher serial."""
    text = catalog_text(NAME, ["a.test", "b.c.test"], None, 1_800_000_000.5)
    first = compile_zone(Zone(NAME, text))
    assert members_of(first) == ["a.test", "b.c.test"]
    assert serial_of(first) == 1_800_000_000
    again = compile_zone(Zone(NAME, catalog_text(NAME, [], first, 0.0)))
    assert (members_of(again), serial_of(again)) == ([], 1_800_000_001)


def test_a_catalog_has_so_many_zones_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more zones those that are in the catalog stay, whoever adds others, then the first come by name; the node says
    that some do not."""
    monkeypatch.setattr(node_catalogs, "MOST_MEMBERS", 2)
    zones = {name: Zone(name, "x", OPEN) for name in ("a.test", "b.test", "c.test", "d.test")}
    catalog = Zone("catalog.test", catalog=CatalogRole.PRODUCE, transfer=OPEN)
    text, fault = node_catalogs._text_to_make(zones, catalog, None)
    assert text is not None
    assert [line.split()[-1] for line in text.splitlines() if "PTR" in line] == ["a.test.", "b.test."]
    assert "2 are left out, such as c.test" in fault
    made = compile_zone(Zone("catalog.test", text, catalog=CatalogRole.PRODUCE))
    assert node_catalogs._text_to_make(zones, catalog, made) == (None, fault)
    assert node_catalogs._text_to_make({"a.test": zones["a.test"]}, catalog, None)[1] == ""
    more = {name: Zone(name, "x", OPEN) for name in ("0.test", "aa.test", "b.test", "d.test")}
    text, fault = node_catalogs._text_to_make(more, catalog, made)
    assert text is not None
    assert [line.split()[-1] for line in text.splitlines() if "PTR" in line] == ["0.test.", "b.test."]
    assert "2 are left out, such as aa.test" in fault


def test_what_is_listed() -> None:
    """It names the zones that may be transferred, and no catalog."""
    catalog = Zone(NAME, "", OPEN, catalog=CatalogRole.PRODUCE)
    assert listed([Zone("b.test", "x", OPEN), Zone("a.test", "x", OPEN), Zone("c.test", "x"), catalog]) == [
        "a.test",
        "b.test",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a.zones PTR a.test.\n", "has no version"),
        ('version TXT "1"\n', "has no version"),
        ('version TXT "2"\nversion TXT "1"\n', "has no version"),
        ('version TXT "2"\na.zones PTR a.test.\na.zones PTR b.test.\n', "several zones at a.zones.catalog.test"),
        ('version TXT "2"\na.zones PTR a.test.\nb.zones PTR A.test.\n', "names a.test twice"),
    ],
)
def test_no_catalog(text: str, what: str) -> None:
    """A zone that does not say clearly what its members are changes nothing."""
    with pytest.raises(CatalogError, match=what):
        members(text)


def test_too_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that names too many zones is refused where the first one too many stands, not when all have been read:
    a primary may name a million, and queries wait meanwhile."""
    monkeypatch.setattr("dnsvip.dns.replication.catalogs.MOST_MEMBERS", 2)
    start = '$TTL 0\n@ SOA invalid. invalid. 1 1 1 1 1\n@ NS invalid.\nversion TXT "2"\n'
    zone = compile_zone(Zone(NAME, start + "".join(f"{n}.zones PTR {n}.test.\n" for n in range(3))))
    unread = _Unread(zone.nodes)
    for n in range(3, 9):
        unread[(str(n).encode(), b"zones", *zone.apex)] = unread[(b"0", b"zones", *zone.apex)]
    with pytest.raises(CatalogError, match="more than 2 zones"):
        members_of(replace(zone, nodes=unread))
    assert unread.left == 6


class _Unread(dict[Labels, Node]):
    """Nodes that count how many of them have not been looked at."""

    left = 0

    def items(self) -> Any:
        self.left = len(self)
        for item in super().items():
            self.left -= 1
            yield item


def test_what_else_a_catalog_has() -> None:
    """Properties of members and of the catalog that are not known are passed over."""
    text = 'version TXT "2"\na.zones PTR a.test.\ngroup.a.zones TXT "x"\nb.ext TXT "y"\ncoo.a.zones PTR other.test.\n'
    assert members(text) == ["a.test"]


def test_what_it_changes() -> None:
    """Members are made like the catalog, follow its settings, and go with their names; what others made stays."""
    made = planned({}, CATALOG, ["a.test"])
    (change,) = made.changes
    member = change.after
    assert isinstance(member, Zone)
    assert (change.action, member.name, member.member_of, member.catalog) == ("+", "a.test", NAME, None)
    assert (member.primaries, member.primaries_tsig, member.notify) == (
        CATALOG.primaries,
        CATALOG.primaries_tsig,
        CATALOG.notify,
    )
    held = replace(member, text="transferred")
    zones = {"a.test": held, "own.test": Zone("own.test", "x"), "other.test": replace(held, member_of="more.test")}
    assert planned(zones, CATALOG, ["a.test"]) == planned(zones, CATALOG, ["a.test"])
    assert planned(zones, CATALOG, ["a.test"]).changes == ()
    moved = planned(zones, replace(CATALOG, primaries=("192.0.2.2:53",)), ["a.test"])
    assert [(c.action, c.after) for c in moved.changes] == [("~", replace(held, primaries=("192.0.2.2:53",)))]
    assert planned(zones, CATALOG, []).changes == (Change("zone", "a.test", "-", held, None),)
    clash = planned(zones, CATALOG, ["a.test", "own.test", "other.test", "b c.test"])
    assert clash.changes == ()
    assert [fault.split(" is ")[0] for fault in clash.faults] == ["own.test", "other.test", "b c.test"]


def test_it_takes_no_names_from_zones_of_others() -> None:
    """A zone inside one that it did not name would answer for names of that; inside its own members it may be."""
    member = replace(CATALOG, name="a.test", catalog=None, member_of=NAME)
    zones = {".": Zone(".", "x"), "own.test": Zone("own.test", "x"), "a.test": member}
    plan = planned(zones, CATALOG, ["a.test", "b.a.test", "c.test", "mail.own.test"])
    assert [change.name for change in plan.changes if change.action == "+"] == ["b.a.test", "c.test"]
    assert plan.faults == ("mail.own.test is inside own.test, a zone here that it did not name",)


def test_orphans() -> None:
    """Where a catalog is none any more, its members go."""
    member = replace(CATALOG, name="a.test", catalog=None, member_of=NAME)
    assert orphans({NAME: CATALOG, "a.test": member}) == ()
    assert orphans({"a.test": member}) == (Change("zone", "a.test", "-", member, None),)


def test_what_a_catalog_may_change() -> None:
    """All of a large catalog at once, twice over; then no more than it gains, some hundred at a time."""
    allowances = catalogs.Allowances()
    assert allowances.take("a.test", catalogs.MOST_MEMBERS, 0.0) == catalogs.MOST_MEMBERS
    assert allowances.take("a.test", 3 * catalogs.MOST_MEMBERS, 0.0) == catalogs.MOST_MEMBERS
    assert allowances.take("a.test", 1, 0.5) == 0
    assert allowances.take("a.test", 1, 1.0) == 1
    assert allowances.take("a.test", 600, 400.0) == 0
    assert allowances.take("a.test", 600, 501.0) == 500
    assert allowances.take("b.test", 7, 501.0) == 7
    assert allowances.take("a.test", 10**6, 1e9) == catalogs.MOST_CHANGES


async def test_a_catalog_that_names_others_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is followed as often as others might, and then left for a while: each time all nodes take what has changed."""
    monkeypatch.setattr(catalogs, "MOST_CHANGES", 4)
    monkeypatch.setattr(catalogs, "LEAST_CHANGES", 1)
    monkeypatch.setattr(node_catalogs, "time", SimpleNamespace(monotonic=lambda: now))
    now, made = 0.0, list[Change]()
    store = SimpleNamespace(objects=SimpleNamespace(apply=lambda some, *_: made.extend(some) or asyncio.sleep(0)))
    server = SimpleNamespace(engine=SimpleNamespace(zones=SimpleNamespace(by_apex={})))
    follower = SimpleNamespace(store=store, snapshot=SimpleNamespace(site=SimpleNamespace(zones={NAME: CATALOG})))
    worker = node_catalogs.Catalogs(server, follower, SimpleNamespace(mine=lambda: asyncio.sleep(0, True)))  # type: ignore[arg-type]

    async def looked(names: str) -> list[str]:
        text = "".join(f"{name}.zones PTR {name}.test.\n" for name in names)
        head = '$TTL 0\n@ SOA invalid. invalid. 1 1 1 1 1\n@ NS invalid.\nversion TXT "2"\n'
        server.engine.zones = SimpleNamespace(by_apex={(b"catalog", b"test"): compile_zone(Zone(NAME, head + text))})
        made.clear()
        await worker._look()
        return [change.name for change in made]

    assert await looked("ab") == ["a.test", "b.test"]
    assert await looked("cdef") == ["c.test", "d.test"]
    assert worker.warnings() == [(NAME, node_catalogs.TOO_MANY)]
    now = 59.0
    assert await looked("ghij") == []
    now = 61.0
    assert await looked("klmn") == ["k.test", "l.test", "m.test", "n.test"]
    assert worker.warnings() == []
