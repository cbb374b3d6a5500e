"""Prepares network namespaces and veth pairs for a dispatcher in the kernel (mode = "xdp").

The peer of a veth device that has a program attached, or that a program sends to, needs two settings: checksums in
frames (tx off), and a program of its own, without which it drops what ours sends (drivers/net/veth.c, veth_xdp_flush).
Network cards need neither.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from dnsvip.demo.netns import Host, World
from dnsvip.errors import PlatformError
from dnsvip.xdp.objects import Object
from dnsvip.xdp.platform import check_platform

EMPTY = "empty"


def mount_pins(world: World, folder: Path) -> None:
    """Mount a BPF file system at `folder`, visible to all hosts, until the world ends; raises PlatformError where this
    machine cannot run the dispatcher in the kernel."""
    if os.geteuid() != 0:
        raise PlatformError("the dispatcher in the kernel needs root; the one in user space does not")
    if shutil.which("ethtool") is None:
        raise PlatformError("no program `ethtool`; as root: apt-get install ethtool")
    folder.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    world.at_end(lambda: subprocess.run(["umount", folder], check=True))
    check_platform("dispatch", folder)
    with Object.open(EMPTY) as empty:
        empty.load()
        program = empty.program("dnsvip_empty")
    program.pin(folder / EMPTY)
    program.close()


def face(host: Host, interface: str, pins: Path) -> None:
    """Prepare a veth device for a program on its peer."""
    host.run("ethtool", "-K", interface, "tx", "off")
    host.ip("link", "set", "dev", interface, "xdp", "pinned", str(pins / EMPTY))
