"""How a file grows, as another program writes it: samples taken by a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 0.05
"""Between two samples."""


@dataclass
class Growth:
    """Samples, each as seconds since the beginning and the bytes that there were."""

    samples: list[tuple[float, int]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self.began, 3)


@contextmanager
def growth_of(file: Path) -> Iterator[Growth]:
    """Samples of the size of a file while the block runs, and one after it."""
    growth, over = Growth(), threading.Event()

    def sample() -> None:
        growth.samples.append((growth.now(), file.stat().st_size if file.exists() else 0))

    def watch() -> None:
        while not over.wait(SECONDS):
            sample()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield growth
    finally:
        over.set()
        thread.join()
        sample()
