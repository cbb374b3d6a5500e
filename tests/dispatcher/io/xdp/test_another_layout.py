"""A program of another version, whose connection key table has another layout, is replaced without losing a flow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.io.xdp.pinned_program import PinnedProgram
from dnsvip.dispatcher.io.xdp.table import records
from dnsvip.site.node_file import DispatchSettings
from dnsvip.xdp import objects
from dnsvip.xdp.build import HERE, compile_all, compiler
from tests.dispatcher.build import ACK, address, segment, snapshot
from tests.dispatcher.io.xdp.kernel import frame_of
from tests.xdp.conftest import bpffs, kernel

__all__ = ["bpffs", "kernel"]


def other_layout(folder: Path) -> bytes:
    """The program with another struct of the whole table, as a version before or after may have it."""
    shutil.copytree(HERE, folder)
    header = folder / "flow_types.h"
    text, padding = header.read_text(), "__u32 padding[6];"
    assert text.count(padding) == 1
    header.write_text(text.replace(padding, "__u32 padding[2];\n\t__u32 unused[4];"))
    compile_all(folder, folder)
    return (folder / "dispatch.bpf.o").read_bytes()


@pytest.mark.slow
def test_flows_outlive_a_layout(bpffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Established flows and new ones are taken over; what they have counted is too."""
    if compiler() is None:
        pytest.skip("no clang")
    settings = DispatchSettings(mode="xdp", interface="lo", pins=bpffs, flows=1024)
    other, own = other_layout(tmp_path / "programs"), objects.object_file("dispatch")
    frames = [frame_of(segment(address("gold", 1001), ACK, port=port)) for port in range(1024, 1054)]
    counted = []
    for data in (other, own):
        monkeypatch.setattr(objects, "object_file", lambda _, data=data: data)
        program = PinnedProgram.open(settings, snapshot())
        writer = MapWriter(program.maps, program.programs)
        writer.apply(DispatchTables(snapshot()))
        if data is other:
            for frame in (*frames, *frames[:20]):
                program.programs["dispatch"].run(frame)
        counted.append((len([*records(program.maps["flows"])]), writer.usage()[1001]))
        if data is own:
            assert "flows" not in program._loaded.taken
        program._loaded.tidy()
        program.close()
    assert counted[0][0] == 30
    assert counted[1] == counted[0]
