"""The rules of policing: it limits something, and lets a whole packet pass."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.errors import Problem
from dnsvip.site import Policing

PACKET_BYTES = 1500
"""The largest packet on most networks (the MTU of Ethernet)."""


def check_policing(where: str, policing: Policing) -> Iterator[Problem]:
    """Policing limits something, and lets a whole packet pass."""
    if policing.bytes is None and policing.packets is None:
        yield Problem(where, "limits nothing; give it bytes or packets (per second), or both")
    if policing.bytes is not None and policing.bytes * policing.burst < PACKET_BYTES:
        text = f"{policing.bytes:g} bytes/s in a burst of {policing.burst:g} s are less than one packet"
        yield Problem(
            f"{where}.burst",
            f"{text} of {PACKET_BYTES} bytes: burst must be {PACKET_BYTES / policing.bytes:.3g} or more",
        )
    if policing.packets is not None and policing.packets * policing.burst < 1:
        text = f"{policing.packets:g} packets/s in a burst of {policing.burst:g} s are less than one packet"
        yield Problem(f"{where}.burst", f"{text}: burst must be {1 / policing.packets:.3g} or more")
