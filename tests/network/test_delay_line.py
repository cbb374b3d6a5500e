"""A cable that takes time takes as long as it says, in both directions, and loses nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dnsvip.demo.netns import World
from dnsvip.demo.programs import wait_ready

pytestmark = pytest.mark.network

MILLISECONDS = 15


def test_it_delays_both_ways(tmp_path: Path) -> None:
    """A ping takes twice the delay, and every one comes back in its order."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    log = tmp_path / "wire.log"
    with World() as world:
        a, wire, b = (world.host(name) for name in ("a", "wire", "b"))
        world.link(a, wire, a_addrs=["2001:db8::1/64"], a_name="eth0", b_name="left")
        world.link(wire, b, b_addrs=["2001:db8::2/64"], a_name="right", b_name="eth0")
        argv = (sys.executable, "-m", "dnsvip.demo.delay_line", str(MILLISECONDS), "left", "right")
        wait_ready(wire.start(*argv, log=log), log, lambda: "passing" in log.read_text())
        said = a.run("ping", "-c", "6", "-i", "0.05", "2001:db8::2").stdout
    assert "6 received" in said
    assert re.findall(r"icmp_seq=(\d+)", said) == list("123456")
    fastest = float(re.findall(r"min/avg/max/mdev = ([0-9.]+)/", said)[0])
    assert 2 * MILLISECONDS <= fastest < 4 * MILLISECONDS
