"""The binding against the real kernel, with programs compiled here."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from dnsvip.errors import PlatformError
from dnsvip.xdp import build
from dnsvip.xdp.btf import FUNCTION, Btf, Member
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.maps import ARRAY_OF_MAPS, EXISTING, HASH, NEW, PERCPU_ARRAY, Map, RingBuffer
from dnsvip.xdp.objects import XDP_DROP, XDP_PASS, Object, object_file

pytestmark = pytest.mark.usefixtures("kernel")

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct pair { __u16 small; __u64 large; struct { __u8 left, right; }; __u32 bits : 3; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, struct pair); }
    pairs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
const volatile __u32 verdict = XDP_DROP;
struct pair alone SEC(".data.alone");
SEC("xdp") int judge(struct xdp_md *context)
{
    __u32 key = 7;
    struct pair *found = bpf_map_lookup_elem(&pairs, &key);
    alone.small++;
    if (found) {
        __u64 seen = found->large;
        bpf_ringbuf_output(&events, &seen, sizeof seen, 0);
    }
    return verdict;
}
struct argument { __u32 add; };
SEC("syscall") int add(struct argument *context)
{
    __u32 key = 7;
    struct pair value = { .large = context->add };
    return bpf_map_update_elem(&pairs, &key, &value, BPF_ANY) ?: 42;
}
char _license[] SEC("license") = "GPL";
"""
REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int reader(struct xdp_md *context) { return *(__u8 *)(long)context->data; }
char _license[] SEC("license") = "GPL";
"""


def compiled(source: str, folder: Path) -> bytes:
    """The object of a source."""
    (folder / "some.bpf.c").write_text(source)
    (opened,) = build.compile_all(folder, folder)
    return opened.read_bytes()


@pytest.fixture
def opened(tmp_path: Path) -> Object:
    """The object of SOURCE, open."""
    return Object.open("some", compiled(SOURCE, tmp_path))


def test_runs_a_program(opened: Object) -> None:
    """A program runs on a packet with its constants as they were set before loading."""
    opened.set_variable("verdict", struct.pack("<I", XDP_PASS))
    with opened:
        opened.load()
        program = opened.program("judge")
    run = program.run(bytes(64), repeat=10)
    assert (run.result, run.data) == (XDP_PASS, bytes(64))
    assert program.name == "judge"
    assert len(program.tag) == 16


def test_syscall_program_feeds_a_map_and_events_come_out(opened: Object) -> None:
    """A syscall program writes a map; an XDP program reads it and sends an event through the ring buffer."""
    with opened:
        opened.load()
        judge, add, events = (
            opened.program("judge"),
            opened.program("add"),
            opened.map("events"),
        )
    assert add.call(struct.pack("<I", 1234)) == 42
    got: list[bytes] = []
    with RingBuffer(events, got.append) as ring:
        assert judge.run(bytes(64)).result == XDP_DROP
        assert ring.consume(2) == 1
    assert got == [struct.pack("<Q", 1234)]


def test_only_chosen_programs_load(opened: Object) -> None:
    """A program that was not chosen is not loaded."""
    opened.only("add")
    with opened:
        opened.load()
        assert opened.program("add").call(bytes(4)) == 42
        with pytest.raises(KernelRefused):
            opened.program("judge")


def test_size_and_reuse(opened: Object, tmp_path: Path) -> None:
    """A map can be resized, and a second object takes over the existing map."""
    opened.resize("pairs", 100)
    with opened:
        opened.load()
        pairs = opened.map("pairs")
    assert pairs.max_entries == 100
    pairs.put(struct.pack("<I", 7), b"x" * pairs.value_size)
    second = Object.open("some", compiled(SOURCE, tmp_path))
    second.resize("pairs", 100)
    second.reuse("pairs", pairs)
    with second:
        second.load()
        assert second.map("pairs").id == pairs.id


def test_variable_with_a_section_of_its_own(opened: Object, tmp_path: Path) -> None:
    """It is a map with one entry, by the variable's name: it can be set before loading, read and taken over."""
    with opened:
        opened.set_variable("alone", struct.pack("<H22x", 5))
        opened.load()
        opened.program("judge").run(bytes(64))
        alone = opened.map("alone")
    second = Object.open("some", compiled(SOURCE, tmp_path))
    second.reuse("alone", alone)
    with second:
        second.load()
        second.program("judge").run(bytes(64))
    assert struct.unpack("<H22x", alone.get(bytes(4)) or b"") == (7,)


def test_layout_of_a_map(opened: Object, tmp_path: Path) -> None:
    """Two maps have the same layout exactly where every field of key and value is the same."""
    other = Object.open("some", compiled(SOURCE.replace("__u8 left, right", "__u8 right, left"), tmp_path))
    same = Object.open("some", compiled(SOURCE, tmp_path))
    for name in ("pairs", "alone"):
        assert opened.layout(name) == same.layout(name) != other.layout(name)
    for each_object in (opened, other, same):
        each_object.close()


def test_structs_by_btf(opened: Object) -> None:
    """BTF gives size and members of a struct, those of an anonymous struct inside it included."""
    with opened:
        assert opened.btf.size("pair") == 24
        assert opened.btf.struct("pair") == {
            "small": Member(0, 2),
            "large": Member(8, 8),
            "left": Member(16, 1),
            "right": Member(17, 1),
            "bits": Member(18, 4, bits=3),
        }
        with pytest.raises(PlatformError, match="no struct none"):
            opened.btf.struct("none")


def test_kernel_types() -> None:
    """The running kernel's types are known, functions among them."""
    kernel = Btf.of_kernel()
    assert kernel.size("sk_buff") > 100
    assert kernel.has("bpf_obj_get_user", FUNCTION)
    assert not kernel.has("no_such_function", FUNCTION)
    kernel.close()


def test_verifier_says_why(tmp_path: Path) -> None:
    """A rejection by the verifier is one error with the end of its log."""
    with Object.open("some", compiled(REFUSED, tmp_path)) as wrong, pytest.raises(KernelRefused) as raised:
        wrong.load()
    assert raised.value.errno == errno.EACCES
    assert "some.bpf.o" in str(raised.value)
    assert "R1" in str(raised.value) or "r1" in str(raised.value)
    assert len(str(raised.value).splitlines()) < 40


def test_missing_object() -> None:
    """A program that was not built says what to install."""
    with pytest.raises(PlatformError, match="apt-get install clang-19"):
        object_file("absent")
    with pytest.raises(PlatformError, match="not a proper ELF"):
        Object.open("wrong", b"no object")


def test_map_one_by_one() -> None:
    """Values are put, read, replaced on condition and removed."""
    with Map.create(HASH, "words", 4, 8, 10) as words:
        words.put(b"key1", b"value--1", NEW)
        assert words.get(b"key1") == b"value--1"
        assert words.get(b"none") is None
        with pytest.raises(KernelRefused) as raised:
            words.put(b"key1", b"value--2", NEW)
        assert raised.value.errno == errno.EEXIST
        with pytest.raises(KernelRefused):
            words.put(b"none", b"value--2", EXISTING)
        assert words.delete(b"key1")
        assert not words.delete(b"key1")
        with pytest.raises(ValueError, match="a key has 4 bytes"):
            words.get(b"toolong")


def test_map_in_batches() -> None:
    """Thousands of values are written and read in a few calls, each once."""
    with Map.create(HASH, "many", 4, 4, 20_000) as many:
        keys = [struct.pack(">I", n) for n in range(10_000)]
        many.put_many(b"".join(keys), b"".join(keys))
        assert sorted(key for key, _ in many.items()) == keys
        assert all(values == [key] for key, values in many.items())
        assert many.count() == 10_000
        many.clear()
        assert many.count() == 0
        assert many.memory > 10_000


def test_map_of_each_processor() -> None:
    """A per-CPU value is read as one value per processor, without padding."""
    with Map.create(PERCPU_ARRAY, "each", 4, 12, 2) as values:
        values.put(bytes(4), b"x" * 12)
        assert values.get_each(bytes(4)) == [b"x" * 12] * values.cpus
        assert len(list(values.items())) == 2


def test_map_of_maps(tmp_path: Path) -> None:
    """A map put into a map of maps is found there by its number."""
    source = SOURCE.replace(
        "const volatile",
        """struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32);
        __type(value, __u32); };
        struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32);
        __array(values, struct inner); } outer SEC(".maps"); const volatile""",
    )
    with Object.open("some", compiled(source, tmp_path)) as some:
        some.load()
        outer = some.map("outer")
    assert outer.type == ARRAY_OF_MAPS
    with Map.create(2, "inner", 4, 4, 4) as inner:
        outer.put_map(bytes(4), inner)
        assert int.from_bytes(outer.get(bytes(4)) or b"", "little") == inner.id
