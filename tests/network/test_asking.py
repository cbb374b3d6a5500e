"""The measure of questions by `tests/bench/asking.py`: what it sends comes back, and is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnsvip.xdp.build import compiler
from tests.bench.asking import BESIDE, BURST, NOBODY, Sender, lay_cable
from tests.network.field import kernel_world
from tests.network.test_dns_xdp import Pair

RATE = 2000


@pytest.mark.network
@pytest.mark.timeout(120)
def test_all_frames_come_back(tmp_path: Path) -> None:
    """By the cable whose frames return every one does, at the rate that was asked for, and that costs this machine."""
    if compiler() is None:
        pytest.skip("no clang, which compiles the sender")
    with kernel_world() as world:
        pair = Pair(world, tmp_path)
        lay_cable(world, pair)
        head = bytes(12) + b"\x08\0\x45" + bytes(8) + b"\x11" + bytes(12) + (53).to_bytes(2, "big") * 2
        with Sender(pair.client, tmp_path / "heads", [head, head], RATE) as sender:
            turn = sender.turn(BESIDE, NOBODY)
    assert 0 < turn.sent <= RATE + BURST
    assert turn.answered == turn.sent
    assert turn.kernel > 0
    assert turn.server == 0
