"""Whose turn it is to edit a zone: in a process one edit at a time, by whatever way it came, in the order of coming.

Edits of one zone are made of what is stored, so that of two at once one would be made again.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """The locks of what is being edited, each as long as anybody needs it. Belongs to one event loop."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """The lock of a zone, or of whatever else has a name; the first to wait is the first to get it."""
        return self._locks.setdefault(name, asyncio.Lock())
