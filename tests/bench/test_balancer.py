"""The balancer that the dispatcher is compared with does all that it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.xdp.build import compile_all, compiler
from dnsvip.xdp.objects import XDP_PASS, XDP_TX, Object
from dnsvip.xdp.structs import u32
from tests.bench.program import PROGRAMS, add_servers
from tests.dispatcher.build import PLAIN, PLAIN4, datagram, segment
from tests.dispatcher.io.xdp.kernel import OUR_LINK, SERVER_LINK, frame_of
from tests.xdp.conftest import kernel

__all__ = ["kernel"]

LINK = SERVER_LINK[:6] + OUR_LINK[:6] + b"\x86\xdd"


@pytest.fixture
def balancer(kernel: None, tmp_path: Path) -> Iterator[Object]:
    """The program with its servers, loaded."""
    if compiler() is None:
        pytest.skip("no clang")
    compile_all(PROGRAMS, tmp_path)
    with Object.open("balancer", (tmp_path / "balancer.bpf.o").read_bytes()) as opened:
        opened.load()
        add_servers(opened.map("servers"))
        yield opened


def counted(balancer: Object, name: str) -> tuple[int, int]:
    """The packets and bytes that a map of counters has in all."""
    table, packets, octets = balancer.map(name), 0, 0
    for number in range(table.max_entries):
        for value in table.get_each(u32(number)):
            packets += int.from_bytes(value[:8], "little")
            octets += int.from_bytes(value[8:16], "little")
    return packets, octets


@pytest.mark.parametrize(
    ("packet", "inner"),
    [
        pytest.param(segment(PLAIN), 41, id="tcp"),
        pytest.param(datagram(PLAIN), 41, id="udp"),
        pytest.param(segment(PLAIN4), 4, id="tcp4"),
        pytest.param(datagram(PLAIN4), 4, id="udp4"),
    ],
)
def test_a_flow_is_encapsulated(balancer: Object, packet: bytes, inner: int) -> None:
    """Each packet of a flow goes to the same server in an outer header of the flow's own, and is counted twice."""
    program = balancer.program("balance")
    first, second = (program.run(frame_of(packet)) for _ in range(2))
    assert first.result == second.result == XDP_TX
    assert first.data == second.data
    out = first.data
    assert (out[:14], out[54:]) == (LINK, packet)
    assert (out[14] >> 4, out[18:20], out[20], out[21]) == (6, len(packet).to_bytes(2, "big"), inner, 64)
    assert int.from_bytes(out[14:18], "big") & 0xFFFFF, "no flow label"
    assert counted(balancer, "counts") == counted(balancer, "services") == (2, 2 * len(packet))
    assert balancer.map("connections").count() == 1


def test_what_is_no_flow_passes(balancer: Object) -> None:
    """Other protocols, packets without ports and those whose hop limit is over are left to the kernel."""
    program = balancer.program("balance")
    whole = segment(PLAIN)
    for packet in (whole[:6] + b"\x3a" + whole[7:], whole[:44], whole[:7] + b"\x01" + whole[8:], b"\0" * 60):
        assert program.run(frame_of(packet)).result == XDP_PASS
