"""The query log of a real node: off by default, anonymised, over both transports and all workers."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.node.serving import NODE, Node, within
from tests.node.test_health_endpoints import Watched

LOGGING = NODE + '[metrics]\nlisten = "127.0.0.1:{metrics}"\n[log.queries]\none_in = 1\nfile = "queries.log"\n'


def lines(server: Node, file: str = "queries.log") -> list[dict[str, Any]]:
    path = server.folder / file
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("workers", [1, 2])
def test_every_question_is_logged(made: Node, workers: int) -> None:
    """With one_in = 1 every query is logged, without requester or answer addresses."""
    watched = Watched(made, LOGGING + f"[dns]\nworkers = {workers}\n")
    made.start("--token-file", "token")
    for _ in range(5):
        assert made.dig("+subnet=198.51.100.7/32", "AAAA", "www.example.test")
    made.dig("+tcp", "NS", "example.test")
    within(10, lambda: len(lines(made)) == 6)
    udp = [line for line in lines(made) if line["socket_protocol"] == "UDP"]
    assert {line["ecs"] for line in udp} == {"198.51.100.0/24"}
    assert {(line["qname"], line["rcode"], line["listener"]) for line in udp} == {
        ("www.example.test.", "NOERROR", "public")
    }
    (tcp,) = (line for line in lines(made) if line["socket_protocol"] == "TCP")
    assert (tcp["qtype"], tcp["query_address"]) == ("NS", "127.0.0.0/24")
    assert not any("2001:db8" in json.dumps(line) for line in lines(made))
    within(10, lambda: watched.value('dnsvip_dns_query_log_lines_total{result="written"}') == 6)


def test_off_unless_asked_for_and_live(made: Node) -> None:
    """Without [log.queries] nothing is written; SIGHUP turns the log on, reopens the file, and turns it off."""
    watched = Watched(made, LOGGING.partition("[log.queries]")[0])
    made.start("--token-file", "token")
    made.dig("NS", "example.test")
    assert lines(made) == []
    made.write_node(LOGGING.replace("{metrics}", str(watched.port)))
    hangup(made, 1)
    made.dig("NS", "example.test")
    within(10, lambda: len(lines(made)) == 1)
    (made.folder / "queries.log").rename(made.folder / "queries.log.1")
    hangup(made, 2)
    made.dig("NS", "example.test")
    within(10, lambda: len(lines(made)) == 1)
    made.write_node(LOGGING.partition("[log.queries]")[0].replace("{metrics}", str(watched.port)))
    hangup(made, 3)
    made.dig("NS", "example.test")
    made.stop()
    assert len(lines(made)) == len(lines(made, "queries.log.1")) == 1


def hangup(server: Node, times: int) -> None:
    assert server.process
    server.process.send_signal(signal.SIGHUP)
    within(10, lambda: server.log.count("node file reloaded") == times)
