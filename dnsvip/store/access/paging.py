"""Where a page ends: by the size of what is on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any


def beginning_within(sizes: Sequence[int], most: int) -> int:
    """How many of the first things begin before `most` of their sizes: one at least, where there is one."""
    before = accumulate(sizes, initial=0)
    return sum(begin < most for begin, _ in zip(before, sizes, strict=False))


def size(*texts: Any) -> int:
    """Characters of stored texts; in a damaged row one may be no text."""
    return sum(len(text) for text in texts if isinstance(text, str | bytes))
