"""The kernel program that chooses a queue of the TUN device by the network that a packet comes from.

It is some twenty instructions (RFC 9669) without maps, so neither libbpf nor a compiler is needed: only CAP_BPF, where
the host keeps bpf(2) from others.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from secrets import randbits

_TUNSETSTEERINGEBPF = 0x800454E0
_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""The number of bpf(2), by machine; all of them are little-endian."""
_PROG_LOAD, _SOCKET_FILTER = 5, 1


def load() -> int:
    """A descriptor of the loaded program, with keys of its own; raises OSError where this process may not have one."""
    code, license_ = ctypes.create_string_buffer(steering(randbits(64), randbits(64))), ctypes.c_char_p(b"Dual MIT/GPL")
    size, places = (len(code) - 1) // 8, (ctypes.addressof(code), ctypes.cast(license_, ctypes.c_void_p).value)
    attributes = ctypes.create_string_buffer(
        struct.pack("=IIQQIIQII16s", _SOCKET_FILTER, size, *places, 0, 0, 0, 0, 0, b"dnsvip_steer")
    )
    number = _BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    system = ctypes.CDLL(None, use_errno=True)
    loaded: int = system.syscall(number, _PROG_LOAD, attributes, len(attributes) - 1)
    if loaded < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return loaded


def steer(queue: int, program: int) -> None:
    """Have a program choose the queue of each packet to the TUN device of this one; raises OSError."""
    fcntl.ioctl(queue, _TUNSETSTEERINGEBPF, struct.pack("=i", program))


def steering(key: int, other: int) -> bytes:
    """A program that returns a number of 16 bits for the network of an IP packet's source (/48 or /24), as turns.py has
    them; two keys of 64 bits keep others from choosing networks with one number."""
    source, scratch, number, factor = 0, 1, 7, 8
    return b"".join(
        (
            _do(0xBF, 6, 1),  # loads of bytes take the packet from r6
            _do(0x30, value=0),  # r0 = the first byte
            _do(0x77, source, value=4),
            _do(0x15, source, offset=5, value=4),  # IPv4: skip five
            _do(0x20, value=8),  # IPv6: 4 bytes of its source
            _do(0xBF, number, source),
            _do(0x67, number, value=16),
            _do(0x28, value=12),  # and 2 more
            _do(0x05, offset=3),
            _do(0x20, value=12),  # IPv4: 3 bytes
            _do(0x77, source, value=8),
            _do(0xB7, number, value=0),
            _do(0x4F, number, source),
            _wide(scratch, other),
            _wide(factor, key | 1),
            _do(0xAF, number, scratch),
            _do(0x2F, number, factor),
            _do(0xBF, scratch, number),
            _do(0x77, scratch, value=32),
            _do(0xAF, number, scratch),  # the upper half of a product depends on more
            _do(0x2F, number, factor),
            _do(0x77, number, value=48),
            _do(0xBF, source, number),
            _do(0x95),  # return r0
        )
    )


def _do(code: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, of << 4 | to, offset, value)


def _wide(to: int, value: int) -> bytes:
    """A register gets 64 bits, by two instructions' room."""
    return struct.pack("<BBhIiI", 0x18, to, 0, value & 0xFFFF_FFFF, 0, value >> 32)
