"""Probes this machine: available ports, privileges, kernel settings, clock, disk."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dnsvip.doctor.host import Port
from dnsvip.site import parse_endpoint
from dnsvip.site.node_file import NodeConfig
from dnsvip.xdp.ciphers import CRYPTO, has_hardware

TUN = Path("/dev/net/tun")
_LISTENING = "0A"
_TIME_ERROR = 5
"""The return value of adjtimex(2) while the clock is not synchronised."""


def listeners(node: NodeConfig) -> Iterator[tuple[str, str, str]]:
    """Key, address and protocol of every listener in a node file."""
    for listener in node.dns.listen:
        for protocol in listener.protocols:
            yield f"dns.listen {listener.name!r}", listener.address.rpartition("://")[2], protocol
    if node.admin and not node.admin.listen.startswith("unix:"):
        yield "admin.listen", node.admin.listen, "tcp"
    for key, address in (
        ("metrics.listen", node.metrics.listen),
        ("metrics.dispatch_listen", node.metrics.dispatch_listen),
    ):
        if address:
            yield key, address, "tcp"


def try_port(key: str, address: str, protocol: str) -> Port:
    """Listen there for a moment, and report the result."""
    host, port = parse_endpoint(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            if protocol == "tcp":
                sock.listen()
        except OSError as error:
            return Port(key, address, protocol, error.errno or 0, holder(port, protocol))
    return Port(key, address, protocol)


def holder(port: int, protocol: str, proc: Path = Path("/proc")) -> str:
    """The program that holds a port, as "NAME, pid N"; "" where that is not visible (other users' need root)."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port, protocol, proc)}
    for folder in proc.glob("[0-9]*") if wanted else ():
        with suppress(OSError):
            if any(os.readlink(descriptor) in wanted for descriptor in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                name = "dnsvip" if re.search(r"\bdnsvip\b", words) else (folder / "comm").read_text().strip()
                return f"{name}, pid {folder.name}"
    return ""


def _inodes(port: int, protocol: str, proc: Path) -> Iterator[str]:
    for table in (protocol, f"{protocol}6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and (protocol == "udp" or fields[3] == _LISTENING):
                    yield fields[9]


def capabilities() -> int:
    """The effective capabilities of this process, as a mask."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1], 16) if match else 0


def tun_problem(path: Path = TUN) -> str:
    """Why the TUN device cannot be opened and, after "; ", the remedy; "" where it can."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except FileNotFoundError:
        return f"{path} is missing; modprobe tun, or give the container the device (--device /dev/net/tun)"
    except OSError as error:
        return f"{path} cannot be opened ({error.strerror}); run as root, or give this user access to it"
    return ""


def sysctl(name: str) -> str | None:
    """A kernel setting, None where it cannot be read."""
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


def has_aes_hardware() -> bool:
    """Whether the kernel has, or can load, a driver of AES in hardware."""
    aliases = Path("/lib/modules", os.uname().release, "modules.alias")
    return has_hardware(CRYPTO.read_text(), aliases.read_text() if aliases.exists() else "")


def synchronised() -> bool | None:
    """Whether the kernel's clock is synchronised (adjtimex(2)); None where it does not report it."""
    timex = ctypes.create_string_buffer(512)  # struct timex, all zero: read only
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    return None if answer < 0 else answer != _TIME_ERROR


def disk(folder: Path) -> tuple[int | None, bool]:
    """Free bytes where a folder is or will be created, and whether this user may write there."""
    for existing in (folder, *folder.parents):
        if existing.exists():
            return shutil.disk_usage(existing).free, os.access(existing, os.W_OK | os.X_OK) and existing.is_dir()
    return None, False
