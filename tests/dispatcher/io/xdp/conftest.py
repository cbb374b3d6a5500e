"""Fixtures of the loader's tests that the program's tests use too, and the program itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dispatcher.io.xdp.kernel import FLOWS, Kernel, loaded
from tests.xdp.conftest import kernel

__all__ = ["kernel", "program"]


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    """The program, loaded once for the tests of a file; those that need other tables have one of their own."""
    with loaded(FLOWS) as running:
        yield running
