"""What the host provides: the TUN device that packets for the cluster prefixes arrive on, and IP forwarding.

The device lives as long as its file descriptor, so a dispatcher that dies leaves none behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot

DEVICE = "dnsvip0"
"""The name of our TUN device."""
TUN = "/dev/net/tun"
_TUNSETIFF, _SIOCGIFFLAGS = 0x400454CA, 0x8913
_IFF_TUN, _IFF_NO_PI, _IFF_UP, _IFF_RUNNING = 0x0001, 0x1000, 0x0001, 0x0040
_IFF_PERSIST = 0x0800

_TX_DROPPED = 11
"""Where /proc/net/dev has the packets dropped on the way out of a device: for us those on the way in."""

_BUSY = "exists already: another dispatcher runs in this network namespace; stop it first"
_ADVICE = {
    errno.ENOENT: f"{TUN} is missing: load the kernel's tun module (modprobe tun), "
    "or let the container have the device (--device /dev/net/tun)",
    errno.ENXIO: "the kernel has no TUN driver: modprobe tun",
    errno.ENODEV: "the kernel has no TUN driver: modprobe tun",
    errno.EPERM: "needs the capability CAP_NET_ADMIN: run as root, or give it CAP_NET_ADMIN and CAP_NET_RAW",
    errno.EACCES: f"may not open {TUN}: run as root, or give this user access to it",
    errno.EBUSY: _BUSY,
}
_OTHERS = (
    "exists already, and is not as dnsvip needs it: delete it (ip link delete {name}), dnsvip makes one itself; "
    "or make one in mode tun without multi_queue"
)
_FORWARDING = {6: "net/ipv6/conf/all/forwarding", 4: "net/ipv4/ip_forward"}


def open_tun(name: str, flags: int = 0) -> int:
    """A non-blocking descriptor; each read returns one raw IP packet. `flags` are more of IFF_. Raises PlatformError,
    saying what is missing."""
    try:
        fd = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _explained(name, error) from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | flags))
    except OSError as error:
        os.close(fd)
        raise _explained(name, error) from error
    return fd


def is_up(name: str) -> bool:
    """Whether there is a network device of this name, and it is up."""
    return bool(_flags(name) & _IFF_UP)


def has_carrier(name: str) -> bool:
    """Whether there is a network device of this name that is up and has a link."""
    return bool(_flags(name) & _IFF_RUNNING)


def _flags(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
        except OSError:
            return 0
    flags: int = struct.unpack_from("16xH", answer)[0]
    return flags


def dropped(name: str) -> int:
    """How many packets a network device of this process's namespace has dropped because nobody read them in time; 0
    where there is none, or nobody tells."""
    with suppress(OSError):
        for line in Path("/proc/net/dev").read_text().splitlines():
            device, _, figures = line.partition(":")
            if device.strip() == name:
                return int(figures.split()[_TX_DROPPED])
    return 0


def check_forwarding(snapshot: Snapshot) -> None:
    """Raise PlatformError where the kernel does not forward packets of an IP version that the site has clusters of."""
    for version in sorted({cluster.prefix.version for cluster in snapshot.site.clusters.values()}):
        with suppress(OSError):
            if Path("/proc/sys", _FORWARDING[version]).read_text().strip() == "0":
                name = _FORWARDING[version].replace("/", ".")
                raise PlatformError(f"this host forwards no IPv{version}: a dispatcher is a router; sysctl -w {name}=1")


def _explained(name: str, error: OSError) -> PlatformError:
    advice = _ADVICE.get(error.errno or 0, error.strerror)
    if error.errno == errno.EINVAL:  # it has several queues, or is no TUN device
        advice = _OTHERS.format(name=name) if _is_anothers(name) else _BUSY
    return PlatformError(f"TUN device {name}: {advice}")


def _is_anothers(name: str) -> bool:
    """Whether a network device was made by somebody else than a dispatcher, whose own are TUN devices and do not
    outlive it (Linux, tun_flags in sysfs)."""
    device = Path("/sys/class/net", name)
    try:
        flags = int((device / "tun_flags").read_text(), 16)
    except (OSError, ValueError):
        return device.exists()
    return bool(flags & _IFF_PERSIST) or not flags & _IFF_TUN
