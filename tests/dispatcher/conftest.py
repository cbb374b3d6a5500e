"""What the tests of decisions share: rings of servers that have been made before."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from dnsvip.dispatcher import dispatch_tables

RINGS = functools.lru_cache(256)(dispatch_tables.build_ring)


@pytest.fixture(scope="module", autouse=True)
def _rings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make the ring of the same servers and weights once: it takes a tenth of a second, and most tests begin with one.
    Not where the functions that make it are to fail."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_isolation"):
            patch.setattr(dispatch_tables, "build_ring", RINGS)
        yield
