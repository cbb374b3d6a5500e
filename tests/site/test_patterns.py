"""Names and networks by patterns: as a library's matcher has it, and in no more time where there are thousands."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase
from ipaddress import ip_network

from dnsvip.site.patterns import all_inside, fits

RANGE = ("192.0.2.0/24", "192.0.2.128/25", "0.0.0.0/0", "198.51.100.7/32", "2001:db8::/32", "2001:db8:7::/48", "::/0")


def test_as_the_library_matches() -> None:
    """Random texts of few letters fit random patterns where fnmatch says so."""
    dice = random.Random(5)
    said = set()
    for _ in range(4000):
        pattern = "".join(dice.choices("ab.-*", k=dice.randrange(8)))
        text = "".join(dice.choices("ab.-", k=dice.randrange(8)))
        assert fits(text, pattern) is fnmatchcase(text, pattern), (text, pattern)
        said.add((fits(text, pattern), "*" in pattern))
    assert len(said) == 4  # each outcome, with and without a star


def test_networks_inside_others() -> None:
    """Each network of a few lies within some others where one of these is a supernet of it, or the same."""
    dice = random.Random(5)
    for inner in map(ip_network, RANGE):
        for _ in range(20):
            outer = dice.sample(RANGE, dice.randrange(4))
            supernets = [one for one in map(ip_network, outer) if one.version == inner.version]
            wanted = any(inner.subnet_of(one) for one in supernets)  # type: ignore[arg-type]
            assert all_inside([str(inner)], outer) is wanted, (inner, outer)
    assert all_inside(RANGE, ["0.0.0.0/0", "::/0"])
    assert not all_inside(["*"], ["0.0.0.0/0", "::/0"])
