"""What a process shows of itself to scrapers and load balancers; endpoints.py serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client.core import Metric

from dnsvip.site.readiness import Asked, Reason

Result = TypeVar("Result")
_THREAD = ThreadPoolExecutor(1, "metrics")
"""One for all scrapes of a process: however many come, its own work has half of the interpreter."""


async def in_thread(work: Callable[[], Result]) -> Result:
    """Do what takes long for a large site beside the work of the process."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


@dataclass(frozen=True, slots=True)
class Observed:
    """The observed process: its metrics now, and why it should get no traffic (empty where it should)."""

    families: Callable[[], Awaitable[Iterable[Metric]]]
    reasons: Callable[[Asked], list[Reason]]
