"""/metrics, /healthz and /readyz of a real `dnsvip serve` with several workers, checked by promtool."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.serving import NODE, Node, node, within
from tests.node.test_workers import workers_of
from tests.ports import free_port

OBSERVED = NODE + '[dns]\nworkers = 2\n[metrics]\nlisten = "127.0.0.1:{metrics}"\n'


class Watched:
    """A node with two workers and a metrics listener."""

    def __init__(self, server: Node, text: str = OBSERVED) -> None:
        self.node, self.port = server, free_port()
        server.write_node(text.replace("{metrics}", str(self.port)))

    def get(self, path: str, *options: str, port: int | None = None) -> tuple[int, str]:
        """Status and body of a GET with curl."""
        argv = [
            "curl",
            "-sS",
            "-m",
            "10",
            "-w",
            "\n%{http_code}",
            *options,
            f"http://127.0.0.1:{port or self.port}{path}",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text

    def value(self, series: str) -> float:
        """The value of one sample."""
        lines = (line.rpartition(" ") for line in self.get("/metrics")[1].splitlines())
        return next((float(number) for name, _, number in lines if name == series), 0.0)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One running node, shared by the tests of this file."""
    with node(tmp_path_factory.mktemp("watched")) as server:
        server.apply()
        found = Watched(server)
        server.start("--token-file", "token")
        yield found


def test_workers_are_added_up(watched: Watched) -> None:
    """One counter sums the answers of both workers; the process metrics cover all three processes."""
    before = watched.value('dnsvip_dns_messages_total{outcome="service"}')
    for _ in range(20):
        watched.node.dig("AAAA", "www.example.test")
    within(5, lambda: watched.value('dnsvip_dns_messages_total{outcome="service"}') == before + 20)
    assert watched.value("dnsvip_processes") == 3
    assert watched.value("dnsvip_database_up") == 1
    assert watched.value("dnsvip_store_generation") == watched.value("dnsvip_node_generation") >= 1
    host = watched.value(f'dnsvip_nodes_live{{node="{os.uname().nodename}",role="dns"}}')
    assert host == 1


def test_promtool_accepts_the_metrics(watched: Watched) -> None:
    """`promtool check metrics` reports nothing for a scrape."""
    watched.node.curl("GET", "tiers")
    text = watched.get("/metrics")[1]
    assert 'dnsvip_api_requests_total{code="200",method="GET"}' in text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_no_client_in_a_label(watched: Watched) -> None:
    """A scrape contains no client names, addresses or query names; zones are the site's own."""
    for name in ("acme", "www"):
        watched.node.dig("AAAA", f"{name}.example.test")
    text = watched.get("/metrics")[1]
    assert not [word for word in ("acme", "newsreader", "127.0.0.1", "www.", "2001:db8") if word in text]


def test_beside_the_api_a_token_is_needed(watched: Watched) -> None:
    """On the API's listener /metrics needs an API token; the health endpoints need none."""
    api = watched.node.api
    assert watched.get("/metrics", port=api)[0] == 401
    status, text = watched.get("/metrics", "-H", f"Authorization: Bearer {watched.node.token}", port=api)
    assert (status, "dnsvip_build_info" in text) == (200, True)
    for kind, status in (("metrics", 200), ("zone", 403)):
        scope = {"actions": ["read"], "kinds": [kind]}
        created, answer = watched.node.curl("POST", "tokens", {"name": f"only-{kind}", "scopes": [scope]})
        assert created == 201, answer
        assert watched.get("/metrics", "-H", f"Authorization: Bearer {answer['token']}", port=api)[0] == status
    assert watched.get("/healthz", port=api) == (200, "ok\n")
    assert watched.get("/readyz", port=api)[0] == 200


def test_not_ready_without_a_worker(watched: Watched) -> None:
    """A node with a missing worker reports not ready, and ready again once the worker is replaced."""
    assert json.loads(watched.get("/readyz")[1]) == {"ready": True, "problems": [], "reasons": []}
    first, _ = workers_of(watched.node)
    os.kill(first, signal.SIGKILL)
    found: list[dict[str, str]] = []

    def missed() -> bool:
        status, text = watched.get("/readyz")
        found.extend(json.loads(text)["reasons"])
        return status == 503

    within(5, missed)
    assert found[0] == {"code": "workers", "message": "1 of 2 DNS workers do not run"}
    within(15, lambda: watched.get("/readyz")[0] == 200)


def test_only_from_allowed_networks(tmp_path: Path) -> None:
    """A requester outside `allow` gets 403 for the metrics but can still read the health endpoints."""
    with node(tmp_path) as server:
        server.apply()
        watched = Watched(server, NODE + '[metrics]\nlisten = "127.0.0.1:{metrics}"\nallow = ["192.0.2.0/24"]\n')
        server.start("--token-file", "token")
        assert watched.get("/metrics")[0] == 403
        assert watched.get("/healthz")[0] == 200


def test_not_ready_when_stale(tmp_path: Path) -> None:
    """A node without its database for longer than allowed still answers DNS but reports not ready, with the reason."""
    with node(tmp_path) as server:
        server.apply()
        watched = Watched(server, NODE + '[metrics]\nlisten = "127.0.0.1:{metrics}"\nstale_seconds = 1.5\n')
        server.start("--token-file", "token")
        assert watched.get("/readyz")[0] == 200
        for file in list(tmp_path.glob("dnsvip.db*")):
            file.rename(file.with_name(f"away-{file.name}"))
        within(10, lambda: watched.get("/readyz")[0] == 503)
        assert "the database has not answered for " in watched.get("/readyz")[1]
        assert server.dig("AAAA", "www.example.test")
        within(10, lambda: watched.value("dnsvip_database_up") == 0)
        assert watched.get("/metrics")[0] == 200


@pytest.mark.parametrize("listener", ["metrics", "api"])
@pytest.mark.parametrize("request_", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x01\x02 nonsense\r\n\r\n"])
def test_no_versions_in_server(watched: Watched, listener: str, request_: bytes) -> None:
    """The Server field names no software version, in answers and in errors alike."""
    port = watched.port if listener == "metrics" else watched.node.api
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(request_)
        head = sock.recv(65_536).partition(b"\r\n\r\n")[0].decode().lower()
    fields = [line for line in head.split("\r\n") if line.startswith("server:")]
    assert fields == ["server: dnsvip"]
    assert "aiohttp" not in head
