"""Attaching a program to an interface, and what is attached; chain.py puts two on one."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from pyroute2 import IPRoute

from dnsvip.errors import PlatformError
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.link import Link, Mode
from dnsvip.xdp.objects import Program
from dnsvip.xdp.pinned import PROGRAM_PIN

_ATTACHED = {"xdp": Mode.NATIVE, "xdpgeneric": Mode.GENERIC}


def attach(program: Program, interface: str, mode: Mode, instead: str) -> Link:
    """Attach a program to an interface that has none. Raises PlatformError, which advises `instead` where the driver
    takes no program."""
    try:
        return Link.attach(program, socket.if_nametoindex(interface), mode)
    except KernelRefused as error:
        if error.errno == errno.EBUSY:
            what = f"{interface} already has another XDP program: detach it first (ip link set {interface} xdp off)"
        elif mode is Mode.NATIVE and error.errno in (errno.EOPNOTSUPP, errno.ERANGE, errno.EINVAL):
            what = (
                f"{driver(interface)} of {interface} does not accept XDP programs now ({os.strerror(error.errno)}): "
                f"use another interface or a smaller MTU, {instead}"
            )
        else:
            raise
        raise PlatformError(what) from error


def keep(program: Program, folder: Path) -> None:
    """Pin the attached program: opening it by its id would need CAP_SYS_ADMIN."""
    (folder / PROGRAM_PIN).unlink(missing_ok=True)
    program.pin(folder / PROGRAM_PIN)


def attached_mode(interface: str) -> Mode | None:
    """The mode in which a program is attached to an interface; None where there is none."""
    with IPRoute() as ip:
        links = ip.link("get", index=socket.if_nametoindex(interface))
    xdp = links[0].get_attr("IFLA_XDP") if links else None
    return _ATTACHED.get(str(xdp.get_attr("IFLA_XDP_ATTACHED"))) if xdp else None


def driver(interface: str) -> str:
    """The name of an interface's driver, where the kernel knows it."""
    path = Path("/sys/class/net", interface, "device/driver")
    return path.resolve().name if path.exists() else "its driver"
