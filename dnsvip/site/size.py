"""Whether objects hold so much that examining them would keep others waiting. Pure, and bounded itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

FEW = 256
"""Values that are examined in less than two milliseconds, whatever is done with them."""

TEXT = 64
"""Characters of a text that count as a value more."""


DEEPEST = 32
"""Levels of lists and tables in plain data; objects have a few."""


def is_large(*things: Any) -> bool:
    """Whether objects, or plain data, have more than FEW values in all. None has none."""
    left = FEW
    for thing in things:
        left = _left(thing, left)
        if left < 0:
            return True
    return False


def is_deep(value: Any, levels: int = DEEPEST) -> bool:
    """Whether plain data is nested in more than so many levels."""
    if not isinstance(value, Mapping | list | tuple):
        return False
    parts = value.values() if isinstance(value, Mapping) else value
    return levels <= 0 or any(is_deep(part, levels - 1) for part in parts)


def _left(value: Any, left: int) -> int:
    """What is left of a number of values; below 0 where there are more, which are not looked at any more."""
    parts: Iterable[Any]
    left -= 1
    if isinstance(value, str | bytes):
        return left - len(value) // TEXT
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, list | tuple | Set):
        parts = value
    elif is_dataclass(value):
        parts = [getattr(value, field.name) for field in fields(value)]
    else:
        return left
    for part in parts:
        if left < 0:
            break
        left = _left(part, left)
    return left
