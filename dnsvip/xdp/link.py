"""The bond between a program and an interface, as the kernel's own object (bpf_link), so that it can be pinned.

A pinned link keeps its program attached while no process lives; `replace` puts another program in its place
between two packets.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum
from pathlib import Path
from typing import Self

from dnsvip.xdp.libbpf import LinkCreateOptions, LinkInfo, done, information, library, opened, pin
from dnsvip.xdp.objects import Program

BPF_XDP = 37
"""Attach type of XDP (enum bpf_attach_type)."""


class Mode(IntEnum):
    """How an XDP program is attached (XDP_FLAGS_*, linux/if_link.h): by the driver, or by the kernel above it."""

    GENERIC = 2
    NATIVE = 4


class Link:
    """One attachment; takes over the descriptor. Closing it detaches, unless it is pinned."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def attach(cls, program: Program, interface: int, mode: Mode) -> Self:
        """Attach to an interface (by index); raises KernelRefused."""
        options = LinkCreateOptions(sz=ctypes.sizeof(LinkCreateOptions), flags=mode)
        fd = library().bpf_link_create(program.fd, interface, BPF_XDP, ctypes.byref(options))
        return cls(done(fd, f"attaching {program.name}"))

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """The link pinned at `path`; raises KernelRefused."""
        return cls(opened(path))

    @property
    def program_id(self) -> int:
        """The number of the program that is attached."""
        return int(self._information().prog_id)

    @property
    def interface(self) -> int:
        """The interface's index; 0 where it is gone, or not in our network namespace."""
        return int(self._information().ifindex)

    def replace(self, program: Program) -> None:
        """Put another program in place of the attached one, between two packets; raises KernelRefused."""
        done(library().bpf_link_update(self.fd, program.fd, None), f"replacing by {program.name}")

    def detach(self) -> None:
        """Take the program off the interface at once, also where the link is pinned; raises KernelRefused."""
        done(library().bpf_link_detach(self.fd), "detaching")

    def pin(self, path: Path) -> None:
        """Keep it attached after we are gone; raises KernelRefused."""
        pin(self.fd, path)

    def close(self) -> None:
        """Give up the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _information(self) -> LinkInfo:
        info = LinkInfo()
        information(self.fd, info)
        return info
