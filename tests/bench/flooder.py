"""The program that sends frames from the kernel, for processes that run it (`programs/flood.bpf.c`)."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

from dnsvip.xdp.build import compile_all
from dnsvip.xdp.libbpf_structs import TestRunOptions
from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import Object, Program
from dnsvip.xdp.structs import u32
from tests.bench.program import LEAST, PROGRAMS

LIVE_FRAMES = 1 << 1
"""BPF_F_TEST_XDP_LIVE_FRAMES: packets are really sent."""


def loaded(heads: bytes) -> tuple[Program, Map]:
    """The program with these heads of LEAST bytes each, and its map of orders."""
    count = len(heads) // LEAST
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name:
        compile_all(PROGRAMS, Path(name))
        with Object.open("flood", (Path(name) / "flood.bpf.o").read_bytes()) as opened:
            opened.resize("heads", count)
            opened.load()
            opened.map("heads").put_many(b"".join(map(u32, range(count))), heads)
            return opened.program("flood"), opened.map("orders")


def sending(frame: ctypes.Array[ctypes.c_char], repeat: int) -> TestRunOptions:
    """Options of a run that sends so many frames of this length; the frame must live as long."""
    options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=repeat, flags=LIVE_FRAMES)
    options.data_in, options.data_size_in = ctypes.cast(frame, ctypes.c_void_p), len(frame)
    return options
