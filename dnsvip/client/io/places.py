"""A bounded number of places for concurrent work, so that one peer cannot take all memory and descriptors.

When all are taken, the work that has been idle longest is cancelled in favour of the newcomer: a peer that opens
connections and leaves them idle displaces its own, and never locks others out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Places:
    """At most `most` tasks at a time hold a place."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: dict[asyncio.Task[object], None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @contextmanager
    def take(self) -> Iterator[Callable[[], None]]:
        """A place for the current task while the block lasts; calling the value says that it is not idle.

        The task is cancelled where its place is needed by another.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("places are for tasks")
        while len(self._tasks) >= self._most:
            longest_idle = next(iter(self._tasks))
            del self._tasks[longest_idle]
            longest_idle.cancel()
        self._tasks[task] = None

        def active() -> None:
            if task in self._tasks:
                del self._tasks[task]
                self._tasks[task] = None

        try:
            yield active
        finally:
            self._tasks.pop(task, None)
