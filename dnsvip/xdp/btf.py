"""The types of a program or of the kernel (BPF Type Format), as far as layouts are compared by them.

Kernel documentation: Documentation/bpf/btf.rst. `close` only what `of_kernel` or `of_file` opened.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from dnsvip.errors import PlatformError
from dnsvip.xdp.libbpf import library, made

INT, POINTER, ARRAY, STRUCT, UNION, ENUM, FORWARD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNCTION, PROTOTYPE, VARIABLE, SECTION, FLOAT, DECLARATION_TAG, TYPE_TAG, ENUM64 = range(12, 20)
"""Kinds of type (BTF_KIND_*)."""
_MODIFIERS = frozenset({TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG})


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a struct: where it begins and how long it is, in bytes (`bits` where it is a bit field)."""

    offset: int
    size: int
    bits: int = 0


class Btf:
    """Types by number and by name."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def of_kernel(cls) -> Self:
        """The running kernel's; raises KernelRefused where it has none."""
        return cls(made(library().btf__load_vmlinux_btf(), "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"))

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Those of an object file; raises KernelRefused."""
        return cls(made(library().btf__parse_elf(str(path).encode(), None), f"{path}: no BTF"))

    def close(self) -> None:
        """Give back what was opened."""
        library().btf__free(self._handle)
        self._handle = 0

    def has(self, name: str, kind: int) -> bool:
        """Whether there is a type of this name and kind, such as a kernel function that programs may call."""
        return int(library().btf__find_by_name_kind(self._handle, name.encode(), kind)) > 0

    def size(self, name: str) -> int:
        """Bytes of a struct; raises PlatformError where there is none."""
        return int(library().btf__resolve_size(self._handle, self._struct(name)))

    def struct(self, name: str) -> Mapping[str, Field]:
        """The fields of a struct by name, in order; those of anonymous structs in it as its own."""
        return dict(self._fields(self._struct(name), 0))

    def variable(self, name: str) -> tuple[str, int, int]:
        """Where a global variable is: its section, offset and size in bytes; raises PlatformError."""
        for number in range(1, library().btf__type_cnt(self._handle)):
            head, kind, count, _ = self._type(number)
            if kind != SECTION:
                continue
            for n in range(count):
                variable, offset, size = self._words(number, 3 + 3 * n, 3)
                if self._name(self._type(variable)[0]) == name:
                    return self._name(head), offset, size
        raise PlatformError(f"no global variable {name} in this object")

    def describe(self, number: int, inside: tuple[int, ...] = ()) -> str:
        """A type and all that it is made of as one text, so that two can be compared."""
        name, kind, count, size = self._type(number)
        told = self._name(name)
        again = partial(self.describe, inside=(*inside, number))
        if not number or number in inside:
            return told or "void"
        if kind in _MODIFIERS or kind == POINTER:
            return f"{'*' if kind == POINTER else ''}{again(size)}"
        if kind == ARRAY:
            element, _, length = self._words(number, 3, 3)
            return f"{again(element)}[{length}]"
        if kind in (STRUCT, UNION):
            members = (self._words(number, 3 + 3 * n, 3) for n in range(count))
            body = ",".join(f"{self._name(label)}@{offset}:{again(type_)}" for label, type_, offset in members)
            return f"{'union' if kind == UNION else 'struct'} {told}/{size}{{{body}}}"
        return f"{told}/{size}"

    def _fields(self, number: int, base: int) -> Iterator[tuple[str, Field]]:
        _, _, count, _ = self._type(number)
        flagged = self._words(number, 1, 1)[0] >> 31
        for n in range(count):
            name, type_, at = self._words(number, 3 + 3 * n, 3)
            bits, offset = (at >> 24, at & 0xFF_FFFF) if flagged else (0, at)
            if self._name(name):
                size = int(library().btf__resolve_size(self._handle, type_))
                yield self._name(name), Field(base + offset // 8, size, bits)
            else:
                yield from self._fields(type_, base + offset // 8)

    def _struct(self, name: str) -> int:
        for kind in (STRUCT, UNION):
            found = int(library().btf__find_by_name_kind(self._handle, name.encode(), kind))
            if found > 0:
                return found
        raise PlatformError(f"no struct {name} in this object")

    def _type(self, number: int) -> tuple[int, int, int, int]:
        """Name, kind, number of members, and size or referenced type (struct btf_type)."""
        name, info, size = self._words(number, 0, 3)
        return name, info >> 24 & 0x1F, info & 0xFFFF, size

    def _words(self, number: int, start: int, count: int) -> list[int]:
        address = library().btf__type_by_id(self._handle, number) + 4 * start
        return list((ctypes.c_uint32 * count).from_address(address))

    def _name(self, offset: int) -> str:
        name: bytes = library().btf__name_by_offset(self._handle, offset)
        return name.decode()
