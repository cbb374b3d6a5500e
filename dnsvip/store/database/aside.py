"""Work that keeps the event loop for long is done by a thread, which gives way to it every few microseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


async def aside(large: bool, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of a function, called by a thread where its task is large."""
    if large:
        return await asyncio.to_thread(function, *arguments, **named)
    return function(*arguments, **named)
