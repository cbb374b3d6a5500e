"""The program on servers removes the outer header of `forward = "encap"`, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dnsvip.dispatcher.egress.encap import DISCARD, encapsulate
from dnsvip.xdp.objects import XDP_DROP, XDP_PASS, Object, Program, Run
from tests.dispatcher.build import PLAIN, PLAIN4, segment
from tests.dispatcher.io.xdp.kernel import LINK, frame_of

SERVER = bytes.fromhex("fd000000000000000000000000000011")
TAG = bytes.fromhex("81000064")


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Object.open("decap") as opened:
        opened.load()
        decap, own = opened.program("decap"), opened.map("own")
    own.put(SERVER, DISCARD)
    yield decap
    own.close()
    decap.close()


def wrapped(inner: bytes, server: bytes = SERVER, source: bytes = DISCARD, congested: bool = False) -> bytes:
    outer = encapsulate(inner, server, None, 0x1234_5678_9ABC_DEF0, source)
    return outer[:1] + bytes([outer[1] | 0x30]) + outer[2:] if congested else outer


def sent(program: Program, data: bytes, tags: bytes = b"") -> Run:
    return program.run(frame_of(data, tags))


@pytest.mark.parametrize("tags", [b"", TAG, TAG * 2], ids=["untagged", "one tag", "two tags"])
@pytest.mark.parametrize("vip", [PLAIN, PLAIN4], ids=["IPv6", "IPv4"])
def test_unwraps(kernel: None, program: Program, vip: int, tags: bytes) -> None:
    """The packet inside comes out as it went in, behind the same link header."""
    inner = segment(vip, data=b"x" * 50)
    kind = b"\x86\xdd" if vip == PLAIN else b"\x08\x00"
    run = sent(program, wrapped(inner), tags)
    assert (run.result, run.data) == (XDP_PASS, LINK + tags + kind + inner)


@pytest.mark.parametrize(
    "data",
    [
        segment(PLAIN),
        segment(PLAIN4),
        wrapped(segment(PLAIN), server=SERVER[:15] + b"\x12"),
        wrapped(segment(PLAIN), source=b"\x20" * 8),
        b"",
    ],
    ids=["no tunnel", "IPv4", "another server", "not from a dispatcher", "nothing"],
)
def test_passes_what_is_not_for_it(kernel: None, program: Program, data: bytes) -> None:
    """Packets that no dispatcher sent to one of the server's own addresses pass unchanged."""
    run = sent(program, data)
    assert (run.result, run.data) == (XDP_PASS, frame_of(data))


def test_drops_what_has_no_packet_inside(kernel: None, program: Program) -> None:
    """A tunnel packet with a truncated inner header, or one of another IP version, is dropped."""
    whole = wrapped(segment(PLAIN))
    assert sent(program, whole[:60]).result == XDP_DROP
    assert sent(program, whole[:40] + b"\x40" + whole[41:]).result == XDP_DROP


def test_congestion_comes_through(kernel: None, program: Program) -> None:
    """A congestion mark is copied to a packet whose sender supports ECN; another packet is dropped (RFC 6040)."""
    able = segment(PLAIN)
    able = able[:1] + bytes([able[1] | 0x20]) + able[2:]
    run = sent(program, wrapped(able, congested=True))
    assert run.result == XDP_PASS
    assert run.data[15] >> 4 & 3 == 3
    assert sent(program, wrapped(segment(PLAIN), congested=True)).result == XDP_DROP
