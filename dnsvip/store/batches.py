"""Slicing what is sent to a database in one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH = 500
"""Values in one IN (...): far below what either database takes."""

ROWS = 5000
"""Rows in one insert: enough that the round trip costs nothing, few enough for memory."""


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size` items."""
    return (items[at : at + size] for at in range(0, len(items), size))
