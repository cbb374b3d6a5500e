"""Warnings at apply about client subnets that resolvers do not tell from those around them."""

from __future__ import annotations

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
        if "ecs " in problem.message
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
