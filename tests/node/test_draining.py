"""A real `dnsvip serve` that should get no traffic: drained by the command line, or about to stop."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from tests.node.serving import NAME, NODE, PLAIN, Node, node, within
from tests.node.test_health_endpoints import Watched

GRACE = 2.0
OBSERVED = f'node = "n1"\ngrace_seconds = {GRACE}\n' + NODE + '[metrics]\nlisten = "127.0.0.1:{metrics}"\n'


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A running node with a grace."""
    with node(tmp_path_factory.mktemp("draining")) as server:
        server.apply()
        made = Watched(server, OBSERVED)
        server.start("--token-file", "token")
        yield made


def codes(watched: Watched, query: str = "?role=dns") -> tuple[int, list[str]]:
    """Status of /readyz, and the codes of its reasons."""
    status, text = watched.get(f"/readyz{query}")
    return status, [reason["code"] for reason in json.loads(text)["reasons"]]


def drain(server: Node, verb: str) -> None:
    """Drain or undrain the node by the command line, once it is listed."""
    within(10, lambda: server.noun("nodes", verb, "n1").returncode == 0)


def test_drained_until_it_is_undrained(watched: Watched) -> None:
    """A drained node says so within a second, goes on answering, and stays drained over a restart without its
    database; what cannot be asked is refused."""
    server = watched.node
    assert codes(watched) == (200, [])
    assert codes(watched, "?role=dispatch&cluster=web") == (503, ["role"])
    assert codes(watched, "?cluster=web") == (503, ["role"])
    for query in ("?role=x", "?clustr=web", "?role=dns&cluster=web"):
        assert codes(watched, query)[0] == 400
    drain(server, "drain")
    within(2, lambda: codes(watched) == (503, ["drained"]))
    assert codes(watched, "") == (503, ["drained"])
    assert server.dig(*NAME) == PLAIN
    assert "live, drained" in server.noun("nodes", "list").stdout
    assert "Node n1 is drained" in server.noun("status").stdout
    assert "dnsvip nodes undrain" in server.dnsvip("doctor", "node.toml").stdout
    assert "without traffic: n1" in server.noun("explain", "www.example.test", "--source", "192.0.2.9").stdout
    server.stop()
    away = [file.rename(file.with_name(f"away-{file.name}")) for file in server.folder.glob("dnsvip.db*")]
    (server.folder / "dnsvip.db").mkdir()  # so that none is made there
    server.start()
    assert codes(watched) == (503, ["drained"])
    (server.folder / "dnsvip.db").rmdir()
    for file in away:
        file.rename(file.with_name(file.name.removeprefix("away-")))
    drain(server, "undrain")
    within(5, lambda: codes(watched) == (200, []))


def test_it_answers_while_it_stops(watched: Watched) -> None:
    """After SIGTERM it is not ready and answers for its grace, then it stops; a second signal ends that."""
    server = watched.node
    assert server.process is not None
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    within(1, lambda: codes(watched) == (503, ["stopping"]))
    assert server.dig(*NAME) == PLAIN
    assert server.process.wait(30) == 0
    assert GRACE < time.monotonic() - begun < GRACE + 10
    server.write_node((server.folder / "node.toml").read_text().replace(f"= {GRACE}", "= 600"))
    server.start()
    server.process.send_signal(signal.SIGTERM)
    within(1, lambda: codes(watched) == (503, ["stopping"]))
    assert server.stop() == 0
