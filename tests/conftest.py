"""Settings of every test run: byte code, garbage, logs, no deadline of examples, and the long files first."""

from __future__ import annotations

import gc
import os
import sys

import pytest
import structlog
from hypothesis import settings

# The tests start `dnsvip` hundreds of times. An environment that forbids byte code (container images like to) would
# make each start compile the whole program again: 5 seconds of CPU time instead of 1.5.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine makes one example of a property take any time.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# New objects before the garbage collector looks at them: Python's 700 would cost a tenth of the CPU time of all tests.
gc.set_threshold(50_000)

# Tracebacks of logged errors as nodes write them: colourful ones with local variables take half a second each.
plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and thousands of tests, which stay until the end."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files that take long first, so that no process ends up alone with one of them at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("network")}
    items.sort(key=lambda item: item.path not in long)
