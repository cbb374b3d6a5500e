"""A client connects through the kernel's program beside floods, of which `tests/bench/floods.py` is the long form."""

from __future__ import annotations

import os

import pytest

from dnsvip.demo.netns import World
from dnsvip.xdp.build import compiler
from tests.bench.floods import measure

KINDS = ("none", "forged", "many addresses", "later fragments")


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_connections_beside_floods() -> None:
    """Nine of ten connections are answered at once beside a flood of forged addresses, valid ones, or fragments."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    if os.geteuid() != 0 or compiler() is None:
        pytest.skip("loading kernel programs needs root and clang")
    found = measure(1, 20_000, 4096, 1.0, KINDS)
    assert found.keys() == set(KINDS)
    assert all(each.in_time >= 90 for each in found.values()), found
    assert all(found[kind].rate > 1000 for kind in KINDS[1:]), found
