"""The decoder: what a VIP says, for programs on the servers behind a dispatcher; see README.md.

`Decoder` asks the decoder of this machine, `Decoded` is its answer. `Decoder` loads on first use, so that importing a
pure module of this package opens no door to sockets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnsvip.decoder.decode import Decoded

if TYPE_CHECKING:
    from dnsvip.decoder.io.client import Decoder

__all__ = ["Decoded", "Decoder"]


def __getattr__(name: str) -> Any:
    """Load the names that need sockets when they are asked for (PEP 562)."""
    if name == "Decoder":
        return import_module("dnsvip.decoder.io.client").Decoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
