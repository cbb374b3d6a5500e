"""What goes through the kernel's programs beside floods: `tests/bench/floods.py` and `dns_floods.py`, for short."""

from __future__ import annotations

import os

import pytest

from dnsvip.demo.netns import World
from dnsvip.xdp.build import compiler
from tests.bench import dns_floods
from tests.bench.floods import measure

KINDS = ("none", "forged", "many addresses", "later fragments")


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_connections_beside_floods() -> None:
    """Nine of ten connections are answered at once beside a flood of forged addresses, valid ones, or fragments."""
    _needs_root()
    found = measure(1, 20_000, 4096, 1.0, KINDS)
    assert found.keys() == set(KINDS)
    assert all(each.in_time >= 90 for each in found.values()), found
    assert all(found[kind].rate > 1000 for kind in KINDS[1:]), found


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_questions_beside_a_flood() -> None:
    """Beside made-up names from forged sources, four of five questions are answered that the kernel knows, and of those
    that it does not know with a valid cookie."""
    _needs_root()
    found = dns_floods.measure(1, 100_000, 2.0, (dns_floods.NONE, dns_floods.FORGED))
    assert found[dns_floods.FORGED].rate > 10_000, found
    assert all(each.known >= 80 and each.proven >= 80 for each in found.values()), found


def _needs_root() -> None:
    if reason := World.available(tun=True):
        pytest.skip(reason)
    if os.geteuid() != 0 or compiler() is None:
        pytest.skip("loading kernel programs needs root and clang")
