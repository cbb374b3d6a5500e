"""The client side: `Agent` resolves, proves and connects; see README.md.

`Agent` and `Resolved` load on first use, so that importing a pure module of this package opens no door to sockets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnsvip.client.enrolment import Enrolment
from dnsvip.client.proof import Why

if TYPE_CHECKING:
    from dnsvip.client.io.agent import Agent
    from dnsvip.client.io.resolved import Resolved

__all__ = ["Agent", "Enrolment", "Resolved", "Why"]


def __getattr__(name: str) -> Any:
    """Load the names that need sockets when they are asked for (PEP 562)."""
    if name in ("Agent", "Resolved"):
        return getattr(import_module("dnsvip.client.io.agent"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
