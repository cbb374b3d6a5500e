"""Worlds of network namespaces for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnsvip.demo.netns import World


@pytest.fixture
def world() -> Iterator[World]:
    """An empty world, removed after the test; the test is skipped where the machine allows none."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    with World() as made:
        yield made


@pytest.fixture
def tun() -> None:
    """Skips the test where programs cannot open a TUN device."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
