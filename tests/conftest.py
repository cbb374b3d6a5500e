"""Settings of every test run: byte code, no deadline of examples, and the long files first."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

# The tests start `dnsvip` hundreds of times. An environment that forbids byte code (container images like to) would
# make each start compile the whole program again: 5 seconds of CPU time instead of 1.5.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine makes one example of a property take any time.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take long first, so that no process ends up alone with one of them at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("network")}
    items.sort(key=lambda item: item.path not in long)
