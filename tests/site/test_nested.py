"""Warnings at apply about client subnets that resolvers do not tell from those around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dnsvip.site import nested
from dnsvip.site.rules import warnings
from tests.samples import make_site


def warned(**networks: str) -> list[str]:
    """Where warnings about networks are, of clients with these."""
    clients: dict[str, Any] = {
        name.rstrip("_"): {"id": 100 + number, "tier": "gold", "match": [{"ecs": each} for each in texts.split()]}
        for number, (name, texts) in enumerate(networks.items())
    }
    return [
        f"{problem.where}: {problem.message}"
        for problem in warnings(make_site({"client": clients}))
        if " inside " in problem.message
    ]


@pytest.mark.parametrize(
    ("outer", "inner", "named"),
    [
        ("198.18.0.0/15", "198.18.1.185/32", True),
        ("198.18.0.0/15", "198.18.1.0/24", False),
        ("198.18.1.0/24", "198.18.1.128/25", True),
        ("198.18.1.0/25", "198.18.1.128/25", False),
        ("2001:db8:9::/48", "2001:db8:9:1::/64", True),
        ("2001:db8:9::/48", "2001:db8:9:100::/56", False),
        ("10.0.0.0/8 198.18.0.0/15", "198.18.1.185/32 10.9.9.0/24", True),
        ("::/0", "198.18.1.185/32", False),
    ],
)
def test_networks_that_resolvers_hide(outer: str, inner: str, named: bool) -> None:
    """A network longer than /24 or /56 inside another client's is warned of, and none that resolvers send whole."""
    remarks = warned(outer=outer, inner=inner)
    assert len(remarks) == named
    assert warned(inner=inner) == warned(outer=outer) == []
    if named:
        network = next(each for each in inner.split() if "/24" not in each)
        assert remarks[0].startswith(f"client.inner.match: ecs {network} is inside ")
        assert "'outer'" in remarks[0]
        assert "RFC 7871" in remarks[0]


def test_its_own_networks_hide_nothing() -> None:
    """Networks of one client inside each other, and one of a /24 that resolvers do tell apart, are no concern."""
    assert warned(one="198.18.0.0/15 198.18.1.185/32") == []
    assert warned(outer="198.18.0.0/15", inner="198.18.1.0/24 198.18.1.185/32") == []


def test_many_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many such networks the first are named, and the others counted."""
    monkeypatch.setattr(nested, "NAMED", 2)
    remarks = warned(outer="198.18.0.0/15", inner=" ".join(f"198.18.1.{number}/32" for number in range(9)))
    assert len(remarks) == 3
    assert remarks[2] == "client: 7 more ecs networks are inside another client's in this way"


ONLY = {"networks": "only"}
PROVES = {"proof": {"required": True}}
SOURCE = {name: {"identify_source": True} for name in ("web", "legacy")}


def told(network: str, changes: Mapping[str, Any], **client: Any) -> list[str]:
    """The warnings about resolvers that cut, of a client with a network inside another's."""
    clients = {
        "acme": {"match": [{"source": "198.18.0.0/15"}]},
        "inner": {"id": 5, "tier": "gold", "match": [{"ecs": "192.0.2.0/24"}, {"source": network}], **client},
    }
    site = make_site({**changes, "client": clients})
    return [f"{one.where}: {one.message}" for one in warnings(site) if "cut addresses" in one.message]


@pytest.mark.parametrize(
    ("network", "named"),
    [("198.18.1.0/24", False), ("198.18.1.0/25", True), ("2001:db8:9::/56", False), ("2001:db8:9::/57", True)],
)
def test_networks_longer_than_resolvers_send(network: str, named: bool) -> None:
    """One is warned of, with what would put it right: the clusters that do not identify sources, or `networks`."""
    remarks = told(network, {})
    assert len(remarks) == named
    if named:
        assert remarks[0].startswith(f"client.inner.match: source {network} is longer than ")
        assert "identify_source in cluster legacy, web," in remarks[0]
    assert all("cluster legacy," in one for one in told(network, {"cluster": {"web": {"identify_source": True}}}))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("changes", "client"), [({"cluster": SOURCE}, {}), ({"tier": {"gold": ONLY}}, {}), ({}, ONLY)])
def test_a_setting_puts_long_networks_right(version: int, changes: Mapping[str, Any], client: Any) -> None:
    """Every cluster's, the tier's and the client's each do."""
    network = {4: "198.18.1.185/32", 6: "2001:db8:9::7/128"}[version]
    assert told(network, {})
    assert told(network, changes, **client) == []


def test_many_long_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many clients the first are named, and the others counted."""
    monkeypatch.setattr(nested, "NAMED", 2)
    clients = {
        f"c{number}": {"id": 100 + number, "tier": "gold", "match": [{"ecs": f"198.18.1.{number}/32"}]}
        for number in range(9)
    }
    remarks = [one for one in warnings(make_site({"client": clients})) if "/24 or /56" in one.message]
    assert [one.where for one in remarks] == ["client.c0.match", "client.c1.match", "client"]
    assert remarks[2].message.startswith("7 more clients ")


@pytest.mark.parametrize(
    ("cluster", "outer", "inner", "named"),
    [
        (SOURCE, ONLY, ONLY, 0),
        (SOURCE, ONLY, {}, 0),
        (SOURCE, PROVES, {}, 0),
        (SOURCE, ONLY, PROVES, 1),
        (SOURCE, {}, ONLY, 1),
        (SOURCE, {}, {}, 1),
        ({"web": {"identify_source": True}}, ONLY, ONLY, 1),
        ({}, ONLY, ONLY, 1),
    ],
)
def test_both_settings_reveal_networks(cluster: Any, outer: Any, inner: Any, named: int) -> None:
    """Where every cluster identifies sources and takes the outer client's issued addresses from its own networks only,
    or not at all, nobody is warned; one of both is not enough, nor are they for a client that has to prove itself."""
    clients = {
        "outer": {"id": 100, "tier": "gold", "match": [{"ecs": "198.18.0.0/15"}], **outer},
        "inner": {"id": 101, "tier": "gold", "match": [{"ecs": "198.18.1.185/32"}], **inner},
    }
    site = make_site({"cluster": cluster, "client": clients})
    assert len([one for one in warnings(site) if " inside " in one.message]) == named
