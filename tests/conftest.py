"""Settings of every test run: byte code, garbage, logs, no deadline of examples, and the long files first."""

from __future__ import annotations

import gc
import os
import sys
from itertools import islice
from pathlib import Path

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

BETWEEN = 3
"""Files that follow each long one."""

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
    """Run the files that take long first, so that no process ends up alone with one of them at the end; some of the
    others between them, as the long ones mostly wait. Those of the console stay together: they share a browser."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    long = sorted((path for path in files if _marked(files[path])), key=lambda path: not _marked(files[path], "slow"))
    console = [path for path in files if path.parent.name == "console" and path not in long]
    others = iter([path for path in files if path not in {*long, *console}])
    order = [path for each in long for path in (each, *islice(others, BETWEEN))]
    items[:] = [item for path in (*order, *console, *others) for item in files[path]]


def _marked(items: list[pytest.Item], *names: str) -> bool:
    return any(item.get_closest_marker(name) for item in items for name in names or ("slow", "network"))
