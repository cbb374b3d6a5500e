"""Attaches the program that removes the outer header on a server under `forward = "encap"` (programs/decap.bpf.c).

It is pinned like the dispatcher's and stays until it is detached. Only packets to the given addresses from dispatchers'
outer sources are unwrapped; all others pass unchanged. The kernel's tunnel device (ip6tnl) does the same; this costs
less and needs no device.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from dnsvip.dispatcher.io.xdp.pinned_program import INSTEAD
from dnsvip.errors import PlatformError
from dnsvip.xdp import pinned
from dnsvip.xdp.chain import Place
from dnsvip.xdp.link import Mode
from dnsvip.xdp.objects import Object, object_file
from dnsvip.xdp.platform import check_capabilities, check_pins

OBJECT = PROGRAM = "decap"
OWN = "own"


def attach(
    interface: str, addresses: Iterable[IPv6Address], source: IPv6Network, pins: Path, mode: Mode = Mode.NATIVE
) -> None:
    """Unwrap packets to `addresses` on an interface from outer sources in `source` (a /64), and no longer those to
    other addresses; raises PlatformError."""
    where = _place(interface, pins)
    check_capabilities(Path("/proc/self/status").read_text())
    check_pins(pins)
    object_file(OBJECT)
    with Object.open(OBJECT) as decap:
        loaded = pinned.load(decap, where.own)
        program = decap.program(PROGRAM)
    own = loaded.maps[OWN]
    wanted = {address.packed for address in addresses}
    for address in wanted:
        own.put(address, source.network_address.packed[:8])
    for address in set(own.keys()) - wanted:
        own.delete(address)
    where.put(program, mode, INSTEAD, unchanged=loaded.unchanged).close()
    loaded.tidy()
    loaded.close()
    program.close()


def detach(interface: str, pins: Path) -> bool:
    """Detach the program; false where there is none."""
    return _place(interface, pins).take_away()


def _place(interface: str, pins: Path) -> Place:
    if interface not in (name for _, name in socket.if_nameindex()):
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise PlatformError(f"{interface!r} does not exist; there is: {names}")
    folder = pins / f"decap-{os.stat('/proc/self/ns/net').st_ino}-{interface}"
    return Place(interface, folder.with_name(f"{folder.name}-dns"), folder, is_first=False)  # no DNS program goes there
