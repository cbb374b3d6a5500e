"""Packs and unpacks C structs by the names of their members, as the compiled object lays them out (BTF).

    types = ObjectTypes("dispatch")                    # nothing is read before the first use
    types.struct("client").pack(tier=3, enabled=True, ...)
    types.words("action", "ACTION_")                   # {"forward": 0, "drop": 1, ...}

The C is the only declaration. What a member takes follows from its type:

    __u8 ... __u64, __s64, an enum     a number in host byte order
    __be16, __be32, __be64             bytes, as they are in a packet
    an array, a struct                 bytes; fewer than it has leave the rest zero
    named `unused`, `zero`, `padding`  nothing: always zero
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, TypeVar

from dnsvip.errors import PlatformError
from dnsvip.xdp.btf import Btf, Content, Member
from dnsvip.xdp.objects import Object

Result = TypeVar("Result")

PADDING = frozenset({"unused", "zero", "padding"})
_ORDER = "<" if sys.byteorder == "little" else ">"
_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class StructType:
    """One struct. Its members are compiled into one `struct.Struct`, so packing costs what a hand-written one does."""

    def __init__(self, name: str, size: int, members: Mapping[str, Member]) -> None:
        self.name, self.size, self.members = name, size, members
        self._names = tuple(label for label in members if label not in PADDING)
        self._blank: dict[str, Any] = {label: b"" if _is_bytes(members[label]) else 0 for label in self._names}
        self._packer = struct.Struct(_ORDER + self._format())
        self._pick = itemgetter(*self._names, self._names[0])  # one more, so that it is always a tuple
        self._bytes = [
            (label, members[label].size, _unit(members[label])) for label in self._names if _is_bytes(members[label])
        ]

    def namesakes(self, item: object) -> dict[str, int]:
        """The members that `item` has under the same name, as a number or flag; the caller gives the others."""
        values = {label: getattr(item, label, None) for label in self._names}
        return {label: int(value) for label, value in values.items() if isinstance(value, int)}

    def pack(self, /, **values: Any) -> bytes:
        """The struct with these values. Raises PlatformError that names struct and member where one is missing,
        unknown, or does not fit."""
        try:
            for label, size, unit in self._bytes:
                length = len(values[label])
                if length > size or length % unit:
                    raise self._fault(label, f"takes {size} bytes in units of {unit}, not {length}")
            if len(values) == len(self._names):
                return self._packer.pack(*self._pick(values)[:-1])
        except (KeyError, TypeError, struct.error):
            pass
        raise self._explain(values)

    def pack_sparse(self, /, **values: Any) -> bytes:
        """As `pack`, with zero in every member that is not given."""
        return self.pack(**self._blank | values)

    def unpack(self, data: bytes) -> dict[str, Any]:
        """The values by member name; raises PlatformError where the data is not as long as the struct."""
        if len(data) != self.size:
            raise PlatformError(f"struct {self.name} has {self.size} bytes, not {len(data)}")
        return dict(zip(self._names, self._packer.unpack(data), strict=True))

    def _format(self) -> str:
        """For the `struct` module, with pad bytes wherever there is no member with a name of its own."""
        parts, end = [], 0
        for label in self._names:
            member = self.members[label]
            if member.bits:
                raise self._fault(label, "is a bit field, which Python does not pack")
            parts += [f"{member.offset - end}x", f"{member.size}s" if _is_bytes(member) else _number_format(member)]
            end = member.offset + member.size
        return "".join([*parts, f"{self.size - end}x"])

    def _explain(self, values: Mapping[str, Any]) -> PlatformError:
        """What is wrong with values that were not packed."""
        for label in values.keys() - set(self._names):
            return self._fault(label, "does not exist in the compiled object")
        for label in self._names:
            if label not in values:
                return self._fault(label, "has no value")
        for label in self._names:
            member, value = self.members[label], values[label]
            if _is_bytes(member):
                fits = isinstance(value, bytes | bytearray)
            else:
                low = -(1 << 8 * member.size - 1) if member.content is Content.SIGNED else 0
                fits = isinstance(value, int) and low <= value < low + (1 << 8 * member.size)
            if not fits:
                return self._fault(
                    label,
                    f"takes {'bytes' if _is_bytes(member) else f'a number of {8 * member.size} bits'}, not {value!r}",
                )
        raise AssertionError(self.name)

    def _fault(self, label: str, what: str) -> PlatformError:
        return PlatformError(f"struct {self.name}: member {label} {what}")


class ObjectTypes:
    """The structs and enums of one compiled object by their C names, read on first use. Every look-up raises
    PlatformError where the object is missing or has no such type."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._structs: dict[str, StructType] = {}
        self._enums: dict[str, Mapping[str, int]] = {}

    def struct(self, name: str) -> StructType:
        """A struct."""
        known = self._structs.get(name)
        if known is None:
            size, members = self._read(lambda btf: (btf.size(name), btf.struct(name)))
            known = self._structs[name] = StructType(name, size, members)
        return known

    def constants(self, enum: str) -> Mapping[str, int]:
        """The enumerators of an enum, by their C names."""
        known = self._enums.get(enum)
        if known is None:
            known = self._enums[enum] = self._read(lambda btf: btf.enum(enum))
        return known

    def words(self, enum: str, prefix: str) -> dict[str, int]:
        """The enumerators that begin with `prefix`, in words: with SIDE_, SIDE_TO_USER_SPACE is `to-user-space`."""
        return {
            label.removeprefix(prefix).lower().replace("_", "-"): value
            for label, value in self.constants(enum).items()
            if label.startswith(prefix)
        }

    def _read(self, read: Callable[[Btf], Result]) -> Result:
        with Object.open(self._name) as opened:
            try:
                return read(opened.btf)
            except PlatformError as error:
                advice = "compile it again (python -m dnsvip.xdp.build)"
                raise PlatformError(f"{self._name}.bpf.o: {error}: {advice}") from None


def u32(number: int) -> bytes:
    """A `__u32` as it is in memory."""
    return number.to_bytes(4, sys.byteorder)


def u64(number: int) -> bytes:
    """A `__u64` as it is in memory."""
    return number.to_bytes(8, sys.byteorder)


def number_of(data: bytes) -> int:
    """An unsigned number as it is in memory."""
    return int.from_bytes(data, sys.byteorder)


def _is_bytes(member: Member) -> bool:
    return bool(member.count) or member.content in (Content.NETWORK, Content.STRUCT)


def _unit(member: Member) -> int:
    """Bytes of an element, or of the whole where it is no array."""
    return member.size // (member.count or 1)


def _number_format(member: Member) -> str:
    letter = _FORMATS[member.size]
    return letter.lower() if member.content is Content.SIGNED else letter
