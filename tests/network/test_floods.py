"""What goes through the kernel's programs beside floods: `tests/bench/floods.py` and `dns_floods.py`, for short."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from dnsvip.demo.netns import World
from dnsvip.xdp.build import compiler
from tests.bench import dns_floods
from tests.bench.floods import measure
from tests.network.dispatching import wait_until
from tests.network.field import kernel_world
from tests.network.hosted import DNSVIP
from tests.network.test_dns_xdp import FOUR, Pair

KINDS = ("none", "forged", "many addresses", "later fragments")


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_connections_beside_floods() -> None:
    """Nine of ten connections are answered at once beside a flood of forged addresses, valid ones, or fragments."""
    _needs_root()
    found = measure(1, 20_000, 4096, 1.0, KINDS)
    assert found.keys() == set(KINDS)
    assert all(each.in_time >= 90 for each in found.values()), found
    assert all(found[kind].rate > 1000 for kind in KINDS[1:]), found


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_questions_beside_a_flood() -> None:
    """Beside made-up names from forged sources, four of five questions are answered that the kernel knows, and of those
    that it does not know with a valid cookie."""
    _needs_root()
    found = dns_floods.measure(1, 100_000, 2.0, (dns_floods.NONE, dns_floods.FORGED))
    assert found[dns_floods.FORGED].rate > 10_000, found
    assert all(each.known >= 80 and each.proven >= 80 for each in found.values()), found


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_change_and_a_restart_beside_a_flood(tmp_path: Path) -> None:
    """Beside made-up names from forged sources the zone changes and the server is started again: no answer is wrong or
    of a version before, and of what the kernel knew not one question of a hundred is lost."""
    _needs_root()
    with kernel_world() as world:
        pair, said = Pair(world, tmp_path), tmp_path / "asked"
        flood = dns_floods.prepared(pair, (dns_floods.FORGED,))[dns_floods.FORGED]
        node = dns_floods.FLOODED.replace("PINS", str(pair.pins)).replace('"eth0",', '"eth0", keep = true,')
        pair.node.write_text(node)
        pair.serve()
        asker = pair.client.start(*DNSVIP[:1], "-m", "tests.network.dns_asker", FOUR, "example.test", log=said)
        wait_until(lambda: said.exists() and "asking" in said.read_text(), 30)
        with dns_floods.flooding(pair, flood, 100_000, 12.0) as flooded:
            time.sleep(2)
            pair.change(2)
            time.sleep(3)
            pair.stop()
            pair.serve()
            assert flooded()["per_second"] > 10_000
        asker.send_signal(signal.SIGTERM)
        asker.wait(20)
        result = json.loads(said.read_text().splitlines()[-1])
        pair.stop()
    assert (result["wrong"], result["version"]) == ([], 2)
    assert result["asked"] > 500
    assert result["lost"] * 100 <= result["asked"], result


def _needs_root() -> None:
    if reason := World.available(tun=True):
        pytest.skip(reason)
    if os.geteuid() != 0 or compiler() is None:
        pytest.skip("loading kernel programs needs root and clang")
