"""The attachment of a program to an interface, as a kernel object (bpf_link) that can be pinned.

A pinned link keeps its program attached while no process runs; `replace` replaces the program between two packets.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum
from pathlib import Path
from typing import Self

from dnsvip.xdp.libbpf import check, library, open_pin, pin, query_info
from dnsvip.xdp.libbpf_structs import LinkCreateOptions, LinkInfo
from dnsvip.xdp.objects import Program

BPF_XDP = 37
"""Attach type of XDP (enum bpf_attach_type)."""


class Mode(IntEnum):
    """Where an XDP program runs (XDP_FLAGS_*, linux/if_link.h): in the driver, or in the generic network code above
    it."""

    GENERIC = 2
    NATIVE = 4


class Link:
    """One attachment; owns the descriptor. Closing it detaches, unless it is pinned."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def attach(cls, program: Program, interface: int, mode: Mode) -> Self:
        """Attach to an interface (by index); raises KernelRefused."""
        options = LinkCreateOptions(sz=ctypes.sizeof(LinkCreateOptions), flags=mode)
        fd = library().bpf_link_create(program.fd, interface, BPF_XDP, ctypes.byref(options))
        return cls(check(fd, f"attaching {program.name}"))

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """The link pinned at `path`; raises KernelRefused."""
        return cls(open_pin(path))

    @property
    def program_id(self) -> int:
        """The id of the attached program."""
        return int(self._information().prog_id)

    @property
    def interface(self) -> int:
        """The interface's index; 0 where it is gone, or in another network namespace."""
        return int(self._information().ifindex)

    def replace(self, program: Program) -> None:
        """Replace the attached program, between two packets; raises KernelRefused."""
        check(library().bpf_link_update(self.fd, program.fd, None), f"replacing by {program.name}")

    def detach(self) -> None:
        """Detach at once, even where the link is pinned; raises KernelRefused."""
        check(library().bpf_link_detach(self.fd), "detaching")

    def pin(self, path: Path) -> None:
        """Keep it attached after the process ends; raises KernelRefused."""
        pin(self.fd, path)

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _information(self) -> LinkInfo:
        info = LinkInfo()
        query_info(self.fd, info)
        return info
