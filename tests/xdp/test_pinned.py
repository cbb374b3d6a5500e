"""Maps that outlive their process, with small programs compiled here."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsvip.xdp import build
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.objects import Object
from dnsvip.xdp.pinned import Loaded, load, remove_folder

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct flow { __u32 server; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ENTRIES); __type(key, __u32);
    __type(value, struct flow); } flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
    counters SEC(".maps");
SEC("xdp") int judge(struct xdp_md *context)
{
    __u32 key = 0;
    __u64 *counter = bpf_map_lookup_elem(&counters, &key);
    if (counter)
        __sync_fetch_and_add(counter, 1);
    return bpf_map_lookup_elem(&flows, &key) ? XDP_TX : XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""


def loaded(folder: Path, pins: Path, source: str = SOURCE, entries: int = 8, together: tuple[str, ...] = ()) -> Loaded:
    """The program of a source, loaded with its maps pinned."""
    (folder / "some.bpf.c").write_text(source.replace("ENTRIES", str(entries)))
    (made,) = build.compile_all(folder, folder)
    with Object.open("some", made.read_bytes()) as some:
        return load(some, pins, together)


def test_maps_are_taken_over(bpffs: Path, tmp_path: Path) -> None:
    """A second load takes over the maps of the first, with their contents, after the first was closed."""
    first = loaded(tmp_path, bpffs / "plane")
    assert not first.taken
    first.maps["flows"].put(b"flow", b"srv1")
    first.tidy()
    first.close()
    second = loaded(tmp_path, bpffs / "plane")
    assert second.unchanged
    assert second.maps["flows"].get(b"flow") == b"srv1"
    assert (bpffs / "plane").stat().st_mode & 0o777 == 0o700


def test_other_layout_is_a_new_map(bpffs: Path, tmp_path: Path) -> None:
    """A map whose value type has changed is created again, the others stay, and `tidy` removes the old one."""
    first = loaded(tmp_path, bpffs / "plane")
    first.maps["flows"].put(b"flow", b"srv1")
    first.tidy()
    second = loaded(tmp_path, bpffs / "plane", SOURCE.replace("__u32 server", "__u32 server, port"))
    assert second.taken == {"counters"}
    assert second.carry("flows") == 0
    assert first.paths["flows"].exists()
    second.tidy()
    assert not first.paths["flows"].exists()
    assert second.paths["flows"].exists()


def test_other_size_carries_over(bpffs: Path, tmp_path: Path) -> None:
    """A map of which only the size has changed gets the contents of the old one."""
    first = loaded(tmp_path, bpffs / "plane")
    first.maps["flows"].put(b"flow", b"srv1")
    first.tidy()
    larger = loaded(tmp_path, bpffs / "plane", entries=16)
    assert larger.carry("flows") == 1
    assert larger.maps["flows"].get(b"flow") == b"srv1"


def test_what_a_killed_load_has_left_is_not_taken_over(bpffs: Path, tmp_path: Path) -> None:
    """Maps whose program has never been in place hold nothing: those of the attached program are carried over. Once
    the program that uses them is in place, they stay."""
    first = loaded(tmp_path, bpffs / "plane")
    first.maps["flows"].put(b"flow", b"srv1")
    first.tidy()
    loaded(tmp_path, bpffs / "plane", entries=16).close()
    again = loaded(tmp_path, bpffs / "plane", entries=16)
    assert again.taken == {"counters"}
    assert again.carry("flows") == 1
    again.tidy()
    assert sorted(path.name for path in (bpffs / "plane").iterdir()) == sorted(
        path.name for path in again.paths.values()
    )
    assert loaded(tmp_path, bpffs / "plane", entries=16).unchanged


def test_killed_once_the_program_is_in_place(bpffs: Path, tmp_path: Path) -> None:
    """The maps that the attached program uses stay, although its process did not come to its end."""
    (tmp_path / "some.bpf.c").write_text(SOURCE.replace("ENTRIES", "8"))
    (made,) = build.compile_all(tmp_path, tmp_path)
    with Object.open("some", made.read_bytes()) as some:
        load(some, bpffs / "plane")
        some.program("judge").pin(bpffs / "plane" / "program")
    assert loaded(tmp_path, bpffs / "plane").unchanged


def test_maps_that_hang_together(bpffs: Path, tmp_path: Path) -> None:
    """Maps that only make sense together are all created again where one has another size."""
    group = ("flows", "counters")
    loaded(tmp_path, bpffs / "plane", together=group).tidy()
    assert loaded(tmp_path, bpffs / "plane", together=group).unchanged
    assert not loaded(tmp_path, bpffs / "plane", entries=16, together=group).taken


def test_refused_program_changes_nothing(bpffs: Path, tmp_path: Path) -> None:
    """A rejection by the verifier leaves the pins as they were."""
    loaded(tmp_path, bpffs / "plane").tidy()
    before = sorted((bpffs / "plane").iterdir())
    wrong = SOURCE.replace("__u32 key = 0;", "__u32 key = *(__u32 *)(long)context->data;").replace(
        "__u32 server", "int x"
    )
    with pytest.raises(KernelRefused):
        loaded(tmp_path, bpffs / "plane", wrong)
    assert sorted((bpffs / "plane").iterdir()) == before


def test_remove(bpffs: Path, tmp_path: Path) -> None:
    """Removing a folder removes its pins; there is none to remove a second time."""
    loaded(tmp_path, bpffs / "plane")
    assert remove_folder(bpffs / "plane")
    assert not remove_folder(bpffs / "plane")
