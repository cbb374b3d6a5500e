"""A node for the tests that start it themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.serving import Node, node


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Node]:
    """A node with the example site applied, not yet started."""
    with node(tmp_path) as one:
        one.apply()
        yield one
