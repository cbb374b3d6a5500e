"""On a server of a pool with `forward = "encap"`: the program that removes the outer header (xdp/programs/decap.bpf.c).

It is pinned as the dispatcher's is and stays until it is taken off. Only packets to the addresses given, from
dispatchers' outer sources, are unwrapped; all else passes untouched. The kernel's own tunnel device (ip6tnl) serves
as well; this costs less and needs no device.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from dnsvip.dispatcher.io.xdp.pinned_program import put_in_place, take_away
from dnsvip.errors import PlatformError
from dnsvip.xdp import pinned
from dnsvip.xdp.link import Mode
from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import Object, object_file
from dnsvip.xdp.platform import check_capabilities, check_pins

OBJECT = PROGRAM = "decap"
OWN = "own"


def attach(
    interface: str, addresses: Iterable[IPv6Address], source: IPv6Network, pins: Path, mode: Mode = Mode.NATIVE
) -> None:
    """Unwrap what comes to `addresses` on an interface from the outer sources in `source` (a /64), and nothing for
    other addresses any more; raises PlatformError."""
    folder = _place(interface, pins)
    check_capabilities(Path("/proc/self/status").read_text())
    check_pins(pins)
    object_file(OBJECT)
    with Object.open(OBJECT) as decap:
        loaded = pinned.load(decap, folder)
        program = decap.program(PROGRAM)
    own = loaded.maps[OWN]
    wanted = {address.packed for address in addresses}
    for address in wanted:
        own.put(address, source.network_address.packed[:8])
    _forget(own, wanted)
    put_in_place(folder, program, interface, mode, loaded).close()
    loaded.close()
    program.close()


def detach(interface: str, pins: Path) -> bool:
    """Take the program off; false where there is none."""
    return take_away(_place(interface, pins))


def _forget(own: Map, but: set[bytes]) -> None:
    for address in set(own.keys()) - but:
        own.delete(address)


def _place(interface: str, pins: Path) -> Path:
    if interface not in (name for _, name in socket.if_nameindex()):
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise PlatformError(f"{interface!r} does not exist; there is: {there}")
    return pins / f"decap-{os.stat('/proc/self/ns/net').st_ino}-{interface}"
