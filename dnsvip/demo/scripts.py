"""Two small scripts next to the demo's files: `bin/dnsvip`, this program, and `enter`, which enters a host."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from dnsvip.demo.netns import World, shown
from dnsvip.demo.site import API

BIN = "bin"


def write(folder: Path, world: World) -> None:
    """Write both into `folder`."""
    (folder / BIN).mkdir()
    _executable(folder / BIN / "dnsvip", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dnsvip "$@"\n')
    _executable(folder / "enter", _enter(folder, world))


def _enter(folder: Path, world: World) -> str:
    hosts = "\n".join(f'{name}) exec {shown(host.command())} "$@" ;;' for name, host in world.hosts.items())
    return f"""#!/bin/sh
# ./enter HOST [COMMAND ...]: run a command, or a shell, on a host of the demo.
PATH={folder / BIN}:$PATH
DNSVIP_API={shlex.quote(API)}
DNSVIP_TOKEN=$(cat {folder}/token)
export PATH DNSVIP_API DNSVIP_TOKEN
name=$1
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- "${{SHELL:-sh}}"
case $name in
{hosts}
*) echo "./enter HOST [COMMAND ...]; hosts: {" ".join(world.hosts)}" >&2; exit 2 ;;
esac
"""


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)
