"""The types that a compiled object or the running kernel carries (BPF Type Format): structs, enums, variables.

Format: Documentation/bpf/btf.rst of the kernel. Call `close` only on what `of_kernel` opened.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Self

from dnsvip.errors import PlatformError
from dnsvip.xdp.libbpf import check_pointer, library

INT, POINTER, ARRAY, STRUCT, UNION, ENUM, FORWARD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNCTION, PROTOTYPE, VARIABLE, SECTION, FLOAT, DECLARATION_TAG, TYPE_TAG, ENUM64 = range(12, 20)
"""Kinds of type (BTF_KIND_*)."""
_MODIFIERS = frozenset({TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG})
_BIG_ENDIAN = "__be"
"""How the kernel's typedefs for numbers in network byte order begin (linux/types.h)."""
_SIGNED = 1
"""BTF_INT_SIGNED."""


class Content(Enum):
    """What a struct member, or each element of an array member, holds."""

    UNSIGNED = auto()
    """A number in host byte order; enums and pointers too."""
    SIGNED = auto()
    NETWORK = auto()
    """A number in network byte order (`__be16`, `__be32`, `__be64`)."""
    STRUCT = auto()
    """A struct or a union."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a struct. `offset` and `size` are in bytes, `bits` is the width of a bit field (0: none), `count`
    the number of elements of an array (0: no array), `struct` the name of the struct that it holds."""

    offset: int
    size: int
    content: Content = Content.UNSIGNED
    count: int = 0
    struct: str = ""
    bits: int = 0


class Btf:
    """Types by number and by name."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def of_kernel(cls) -> Self:
        """The types of the running kernel; raises KernelRefused where it has none."""
        return cls(check_pointer(library().btf__load_vmlinux_btf(), "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"))

    def close(self) -> None:
        """Free the types."""
        library().btf__free(self._handle)
        self._handle = 0

    def has(self, name: str, kind: int) -> bool:
        """Whether there is a type of this name and kind, such as a kernel function that programs may call."""
        return int(library().btf__find_by_name_kind(self._handle, name.encode(), kind)) > 0

    def size(self, name: str) -> int:
        """Bytes of a struct; raises PlatformError where there is none."""
        return self._size(self._find(name, STRUCT, UNION))

    def struct(self, name: str) -> Mapping[str, Member]:
        """The members of a struct by name, in order, with those of anonymous structs inside it; raises
        PlatformError."""
        return dict(self._members(self._find(name, STRUCT, UNION), 0))

    def enum(self, name: str) -> Mapping[str, int]:
        """The enumerators of an enum with their values, in order; raises PlatformError."""
        number = self._find(name, ENUM)
        _, _, count, _ = self._type(number)
        signed = self._words(number, 1, 1)[0] >> 31
        entries = (self._words(number, 3 + 2 * n, 2) for n in range(count))
        return {self._name(label): value - (signed and value >> 31) * (1 << 32) for label, value in entries}

    def variable(self, name: str) -> tuple[str, int, int]:
        """Where a global variable is: its section, offset and size in bytes; raises PlatformError."""
        for number in range(1, library().btf__type_cnt(self._handle)):
            label, kind, count, _ = self._type(number)
            if kind != SECTION:
                continue
            for n in range(count):
                variable, offset, size = self._words(number, 3 + 3 * n, 3)
                if self._name(self._type(variable)[0]) == name:
                    return self._name(label), offset, size
        raise PlatformError(f"no global variable {name} in this object")

    def describe(self, number: int, inside: tuple[int, ...] = ()) -> str:
        """A type and every type inside it as one text: two types are alike where their texts are equal."""
        label, kind, count, size = self._type(number)
        name = self._name(label)
        nested = partial(self.describe, inside=(*inside, number))
        if not number or number in inside:
            return name or "void"
        if kind in _MODIFIERS or kind == POINTER:
            return f"{'*' if kind == POINTER else ''}{nested(size)}"
        if kind == ARRAY:
            element, _, length = self._words(number, 3, 3)
            return f"{nested(element)}[{length}]"
        if kind == VARIABLE:
            return f"{name}:{nested(size)}"
        if kind == SECTION:
            parts = (self._words(number, 3 + 3 * n, 3) for n in range(count))
            return f"section {name}/{size}{{{','.join(f'{nested(part)}@{offset}' for part, offset, _ in parts)}}}"
        if kind in (STRUCT, UNION):
            members = (self._words(number, 3 + 3 * n, 3) for n in range(count))
            body = ",".join(f"{self._name(label)}@{offset}:{nested(type_)}" for label, type_, offset in members)
            return f"{'union' if kind == UNION else 'struct'} {name}/{size}{{{body}}}"
        return f"{name}/{size}"

    def _members(self, number: int, base: int) -> Iterator[tuple[str, Member]]:
        _, _, count, _ = self._type(number)
        has_bit_fields = self._words(number, 1, 1)[0] >> 31
        for n in range(count):
            label, type_, position = self._words(number, 3 + 3 * n, 3)
            bits, offset = (position >> 24, position & 0xFF_FFFF) if has_bit_fields else (0, position)
            if self._name(label):
                yield self._name(label), self._member(type_, base + offset // 8, bits)
            else:
                yield from self._members(type_, base + offset // 8)

    def _member(self, number: int, offset: int, bits: int) -> Member:
        size, count = self._size(number), 0
        number, network = self._resolve(number)
        while self._type(number)[1] == ARRAY:
            element, _, length = self._words(number, 3, 3)
            count = (count or 1) * length
            number, network = self._resolve(element)
        label, kind, _, _ = self._type(number)
        if kind in (STRUCT, UNION):
            return Member(offset, size, Content.STRUCT, count, self._name(label), bits)
        if network:
            return Member(offset, size, Content.NETWORK, count, "", bits)
        signed = kind == INT and self._words(number, 3, 1)[0] >> 24 & _SIGNED
        return Member(offset, size, Content.SIGNED if signed else Content.UNSIGNED, count, "", bits)

    def _resolve(self, number: int) -> tuple[int, bool]:
        """The type behind typedefs and qualifiers, and whether one of them says network byte order."""
        network = False
        label, kind, _, target = self._type(number)
        while kind in _MODIFIERS:
            network |= kind == TYPEDEF and self._name(label).startswith(_BIG_ENDIAN)
            number = target
            label, kind, _, target = self._type(number)
        return number, network

    def _find(self, name: str, *kinds: int) -> int:
        for kind in kinds:
            number = int(library().btf__find_by_name_kind(self._handle, name.encode(), kind))
            if number > 0:
                return number
        raise PlatformError(f"no {'enum' if ENUM in kinds else 'struct'} {name} in this object")

    def _size(self, number: int) -> int:
        return int(library().btf__resolve_size(self._handle, number))

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
