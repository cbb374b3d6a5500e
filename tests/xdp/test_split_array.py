"""Arrays in a map of maps, written as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import Object
from dnsvip.xdp.split_array import SplitArray
from dnsvip.xdp.structs import u32, u64
from tests.xdp.test_libbpf import compiled

pytestmark = pytest.mark.usefixtures("kernel")

EACH, ARRAYS = 4, 3
SOURCE = f"""
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct inner {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, {EACH}); __type(key, __u32);
                __type(value, __u64); }} first SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, {ARRAYS}); __type(key, __u32);
         __array(values, struct inner); }} outer SEC(".maps");
"""


@pytest.fixture
def outer(tmp_path: Path) -> Iterator[Map]:
    """A map of maps that a program may have."""
    with Object.open("some", compiled(SOURCE, tmp_path)) as some:
        some.load()
        with some.map("outer") as outer:
            yield outer


def inner_of(outer: Map, at: int) -> Map:
    """An array as the kernel has it."""
    return Map.by_id(int.from_bytes(outer.get(u32(at)) or b"", "little"))


def values_in(outer: Map, arrays: int) -> list[int]:
    """All values, as the kernel has them."""
    return [
        int.from_bytes(value, "little")
        for at in range(arrays)
        for inner in [inner_of(outer, at)]
        for _, [value] in inner.items()
    ]


def test_values_across_arrays(outer: Map) -> None:
    """Values that follow one another are in the arrays where they belong, and nothing else is written."""
    array = SplitArray(outer, 8, EACH, ARRAYS)
    assert array.max_entries == EACH * ARRAYS
    array.put(2, b"".join(map(u64, range(100, 107))))
    array.put(11, u64(1))
    array.put(4, u64(2))
    assert values_in(outer, ARRAYS) == [0, 0, 100, 101, 2, 103, 104, 105, 106, 0, 0, 1]
    assert array.memory >= 8 * EACH * ARRAYS


def test_no_arrays(outer: Map) -> None:
    """Where none are wanted none are made."""
    assert SplitArray(outer, 8, EACH, 0).max_entries == 0
    assert outer.get(u32(0)) is None


def test_beyond_the_end(outer: Map) -> None:
    """What is behind the last value is refused, not put elsewhere."""
    array = SplitArray(outer, 8, EACH, ARRAYS)
    with pytest.raises(IndexError):
        array.put(EACH * ARRAYS, u64(1))
    assert not any(values_in(outer, ARRAYS))
