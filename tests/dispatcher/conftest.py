"""What the tests of decisions share: rings of servers that have been made before."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from dnsvip.dispatcher import dispatch_tables
from dnsvip.dispatcher.flows import maglev

RINGS = functools.lru_cache(256)(maglev.build_ring)

# The ring of the same servers and weights is made once: it takes a tenth of a second, and most tests begin with one,
# some modules with several while they are collected.
dispatch_tables.build_ring = RINGS


@pytest.fixture(scope="module", autouse=True)
def _rings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make it each time where the functions that make it are to fail."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__.endswith("test_isolation"):
            patch.setattr(dispatch_tables, "build_ring", maglev.build_ring)
        yield
