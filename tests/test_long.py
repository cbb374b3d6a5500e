"""The tests at length: how `make attack` finds them."""

from __future__ import annotations

import re
from pathlib import Path


def test_one_place_says_what_runs_at_length() -> None:
    """No test reads DNSVIP_LONG itself: `make attack` runs those that import tests/long.py."""
    here = Path(__file__).parent
    readers = [path for path in here.rglob("*.py") if re.search(r"environ.*DNSVIP_LONG", path.read_text())]
    assert set(readers) == {here / "long.py", Path(__file__)}
