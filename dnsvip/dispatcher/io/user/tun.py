"""Opens the TUN device that packets for the cluster prefixes arrive on.

It lives as long as its file descriptor is open: a dispatcher that dies leaves none behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from dnsvip.errors import PlatformError

PATH = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000

_ADVICE = {
    errno.ENOENT: f"{PATH} is missing: load the kernel's tun module (modprobe tun), "
    "or let the container have the device (--device /dev/net/tun)",
    errno.ENXIO: "the kernel has no TUN driver: modprobe tun",
    errno.ENODEV: "the kernel has no TUN driver: modprobe tun",
    errno.EPERM: "needs the capability CAP_NET_ADMIN: run as root, or give it CAP_NET_ADMIN and CAP_NET_RAW",
    errno.EACCES: f"may not open {PATH}: run as root, or give this user access to it",
    errno.EBUSY: "exists already: another dispatcher runs in this network namespace; stop it first",
}


def open_tun(name: str) -> int:
    """A non-blocking descriptor; each read gives one raw IP packet. Raises PlatformError, saying what is missing."""
    try:
        fd = os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _explained(name, error) from error
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        raise _explained(name, error) from error
    return fd


def _explained(name: str, error: OSError) -> PlatformError:
    return PlatformError(f"TUN device {name}: {_ADVICE.get(error.errno or 0, error.strerror)}")
