"""Structs packed by the names of their members, with a small program compiled here."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dnsvip.errors import PlatformError
from dnsvip.xdp import build, structs
from dnsvip.xdp.objects import Object
from dnsvip.xdp.structs import ObjectTypes, number_of, u32, u64

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct pair { __u32 left, right; };
struct record { __u8 small; __u64 large; __s16 signed_number; __be16 port; __be64 address[2]; struct pair pairs[2];
    struct pair one; __u8 unused[3]; __u8 last; };
struct bits { __u32 narrow : 3; };
enum colour { COLOUR_DARK_RED = 1, COLOUR_BLUE = 7, COLOURS = 0xffffffffu };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct record); }
    records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct bits); }
    narrow SEC(".maps");
const enum colour colour SEC("enums") = 0;
SEC("xdp") int judge(struct xdp_md *context) { return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
VALUES = {
    "small": 1,
    "large": 1 << 63,
    "signed_number": -2,
    "port": b"\x01\xbb",
    "address": bytes(range(16)),
    "pairs": struct.pack("=4I", 1, 2, 3, 4),
    "one": struct.pack("=2I", 5, 6),
    "last": True,
}


@pytest.fixture
def types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectTypes:
    """The types of SOURCE."""
    (tmp_path / "some.bpf.c").write_text(SOURCE)
    (path,) = build.compile_all(tmp_path, tmp_path)
    content = path.read_bytes()
    monkeypatch.setattr(structs, "Object", type("Some", (Object,), {"open": lambda name: Object.open(name, content)}))
    return ObjectTypes("some")


def test_packs_as_c_lays_out(types: ObjectTypes) -> None:
    """Members are where the compiler puts them, holes and padding are zero, and unpacking gives the values back."""
    record = types.struct("record")
    packed = record.pack(**VALUES)
    assert packed == struct.pack(
        "=B7xQh2s4x16s16s8s3xB4x", 1, 1 << 63, -2, b"\x01\xbb", VALUES["address"], VALUES["pairs"], VALUES["one"], 1
    )
    assert record.size == len(packed) == 72
    assert record.unpack(packed) == VALUES
    assert record.members["pairs"].count == 2
    assert record.members["pairs"].struct == "pair"


def test_members_that_are_not_given(types: ObjectTypes) -> None:
    """`pack_sparse` leaves other members zero; arrays take fewer elements than they have."""
    record = types.struct("record")
    assert record.pack_sparse() == bytes(72)
    assert record.unpack(record.pack_sparse(pairs=VALUES["one"]))["pairs"] == struct.pack("=4I", 5, 6, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nothing": 1}, "struct record: member nothing does not exist"),
        ({"unused": b""}, "struct record: member unused does not exist"),
        ({"small": 256}, "struct record: member small takes a number of 8 bits, not 256"),
        ({"large": "x"}, "struct record: member large takes a number of 64 bits, not 'x'"),
        ({"signed_number": 1 << 15}, "struct record: member signed_number takes a number of 16 bits"),
        ({"port": 443}, "struct record: member port takes bytes, not 443"),
        ({"port": b"\1"}, "struct record: member port takes 2 bytes in units of 2, not 1"),
        ({"address": bytes(24)}, "struct record: member address takes 16 bytes in units of 8, not 24"),
        ({"pairs": bytes(4)}, "struct record: member pairs takes 16 bytes in units of 8, not 4"),
    ],
)
def test_wrong_value_names_struct_and_member(types: ObjectTypes, changes: dict[str, object], message: str) -> None:
    """A value that does not fit, or of a member that C does not have, is refused by name."""
    with pytest.raises(PlatformError, match=message):
        types.struct("record").pack(**VALUES | changes)


def test_missing_value_names_struct_and_member(types: ObjectTypes) -> None:
    """A member without a value is refused by name, and so is a struct of another length."""
    without = {name: value for name, value in VALUES.items() if name != "large"}
    with pytest.raises(PlatformError, match="struct record: member large has no value"):
        types.struct("record").pack(**without)
    with pytest.raises(PlatformError, match="struct record has 72 bytes, not 1"):
        types.struct("record").unpack(b"x")


def test_types_that_cannot_be_packed(types: ObjectTypes) -> None:
    """Bit fields, and structs and enums that the object does not have, are refused by name."""
    with pytest.raises(PlatformError, match="struct bits: member narrow is a bit field"):
        types.struct("bits")
    with pytest.raises(PlatformError, match=r"some\.bpf\.o: no struct none in this object: compile it again"):
        types.struct("none")
    with pytest.raises(PlatformError, match="no enum none"):
        types.constants("none")


def test_enums(types: ObjectTypes) -> None:
    """Enumerators by their C names, and in words without those that lack the prefix."""
    assert types.constants("colour") == {"COLOUR_DARK_RED": 1, "COLOUR_BLUE": 7, "COLOURS": 0xFFFF_FFFF}
    assert types.words("colour", "COLOUR_") == {"dark-red": 1, "blue": 7}


def test_numbers_in_memory() -> None:
    """Numbers are in host byte order."""
    assert (u32(1), u64(2)) == ((1).to_bytes(4, sys.byteorder), (2).to_bytes(8, sys.byteorder))
    assert number_of(u64(1 << 40)) == 1 << 40


def test_namesakes_are_packed_by_themselves(types: ObjectTypes) -> None:
    """What an object has under a member's name, as a number or flag, needs no line in Python."""
    item = SimpleNamespace(small=True, large=7, port="http", other=3)
    assert types.struct("record").namesakes(item) == {"small": 1, "large": 7}
