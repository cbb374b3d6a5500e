"""What veth pairs and namespaces need where the dispatcher is in the kernel (mode = "xdp").

A veth pair needs two settings at the other end of the one that a program is attached to, or sends to: frames have
their checksums (tx off), and a program is attached there too, without which it takes nothing of what ours sends
(drivers/net/veth.c, veth_xdp_flush). Real network cards need neither.
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
    """Make a BPF file system at `folder`, which every host sees that is made later or earlier, until the world ends;
    raises PlatformError where this machine cannot have the dispatcher in the kernel."""
    if os.geteuid() != 0:
        raise PlatformError("the dispatcher in the kernel needs root; without it that in user space can be shown")
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
    """Prepare the other end of a veth pair for a program at this one's peer."""
    host.run("ethtool", "-K", interface, "tx", "off")
    host.ip("link", "set", "dev", interface, "xdp", "pinned", str(pins / EMPTY))
