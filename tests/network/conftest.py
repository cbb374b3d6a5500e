"""Fixtures that create network namespaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnsvip.demo.netns import World


@pytest.fixture
def world() -> Iterator[World]:
    """An empty topology, removed after the test; skips where namespaces are not allowed."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    with World() as made:
        yield made


@pytest.fixture
def tun() -> None:
    """Skips the test where TUN devices cannot be opened."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
