"""SIGHUP applies live settings and names those that need a restart; systemd is notified of each step."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dnsvip.node.reload import LIVE, differences, is_live
from dnsvip.node.sd_notify import Notifier
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig
from tests.node.serving import DNSVIP, NODE, Node, within
from tests.ports import free_port


def reload(server: Node) -> dict[str, Any]:
    """Reload the node and return what it logs."""
    assert server.process
    before = len(server.events())
    server.process.send_signal(signal.SIGHUP)
    within(10, lambda: len(server.events()) > before)
    return server.events()[before]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_changes_and_what_waits(made: Node, workers: int) -> None:
    """Identity, limits and log level change at once in all workers; a port is reported as needing a restart."""
    text = NODE + f"[dns]\nworkers = {workers}\n"
    made.write_node(text)
    made.start("--token-file", "token")
    assert made.dig("CH", "TXT", "id.server") == ""
    made.write_node(
        text.replace("{api}", str(free_port())) + 'identity = "renamed"\nrate_limit.responses_per_second = 1\n'
    )
    logged = reload(made)
    assert logged["changed"] == ["dns.identity", "dns.rate_limit"]
    assert logged["only_after_a_restart"] == ["admin.listen"]
    within(10, lambda: made.dig("CH", "TXT", "id.server") == '"renamed"')
    processes = 1 if workers == 1 else 1 + workers
    within(10, lambda: made.log.count("node file reloaded") == processes)
    if workers == 1:
        answers = [made.dig("+tries=1", "+time=1", "+notcp", "+ignore", "AAAA", "www.example.test") for _ in range(8)]
        assert "" in answers, "the rate limit holds"
    made.write_node(text.replace('format = "json"', 'format = "json"\nlevel = "error"'))
    assert made.process
    lines = len(made.events())
    made.process.send_signal(signal.SIGHUP)
    within(10, lambda: made.dig("CH", "TXT", "id.server") == "")
    assert made.stop() == 0
    assert [event["event"] for event in made.events()[lines:]] == []


def test_a_wrong_node_file_changes_nothing(made: Node) -> None:
    """An invalid node file is named in the log, and the node keeps its settings."""
    made.start("--token-file", "token")
    made.write_node(NODE + "[dns]\nworkers = 0\n")
    logged = reload(made)
    assert logged["event"] == "the node file is invalid, keeping the previous one"
    assert "dns.workers" in logged["error"]
    assert made.dig("AAAA", "www.example.test") == "2001:db8:a:1::1"


def test_every_live_key_exists(tmp_path: Path) -> None:
    """Every live setting is a key of the node file."""
    (tmp_path / "node.toml").write_text('database = "sqlite:///x"\n')
    config = load_node(tmp_path / "node.toml")
    for key in LIVE:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
    assert not is_live("dns.listen")
    assert is_live("dns.tcp.idle_seconds")


def test_differences(tmp_path: Path) -> None:
    """Differences name the keys inside a table, not only the table."""

    def read(text: str) -> NodeConfig:
        (tmp_path / "node.toml").write_text(f'database = "sqlite:///x"\n{text}')
        return load_node(tmp_path / "node.toml")

    changed = differences(read(""), read('[dns.tcp]\nconnections = 7\n[admin]\nlisten = "[::1]:1"\n'))
    assert list(changed) == ["dns.tcp.connections", "admin"]
    assert list(differences(read(""), read(""))) == []


def notify_socket(path: Path) -> tuple[socket.socket, dict[str, str]]:
    """A socket in place of the service manager's, and the environment that names it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(20)
    return sock, {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}


def test_a_service_manager_is_notified(made: Node) -> None:
    """READY=1 follows the first answer, WATCHDOG=1 repeats, RELOADING=1 surrounds SIGHUP, STOPPING=1 comes last."""
    sock, environ = notify_socket(made.folder / "notify")
    with sock, (made.folder / "log").open("wb") as log:
        argv = [DNSVIP, "serve", "node.toml", "--token-file", "token"]
        with subprocess.Popen(argv, cwd=made.folder, env={**os.environ, **environ}, stderr=log) as process:
            try:
                first = sock.recv(4096).decode()
                assert first.startswith("READY=1\nSTATUS=answering on 127.0.0.1:")
                assert made.dig("AAAA", "www.example.test") == "2001:db8:a:1::1"
                assert [sock.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
                process.send_signal(signal.SIGHUP)
                after = _until(sock, "READY=1")
                assert any(each.startswith("RELOADING=1\nMONOTONIC_USEC=") for each in after)
                process.send_signal(signal.SIGTERM)
                _until(sock, "STOPPING=1")
                assert process.wait(20) == 0
            finally:
                process.kill()


def _until(sock: socket.socket, word: str) -> list[str]:
    heard = []
    while not heard or not heard[-1].startswith(word):
        heard.append(sock.recv(4096).decode())
    return heard


def test_no_service_manager(tmp_path: Path) -> None:
    """With no service manager, a dead one, or another process's watchdog, nothing is sent and nothing fails."""
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")
    sock, environ = notify_socket(tmp_path / "notify")
    with sock:
        Notifier({**environ, "WATCHDOG_PID": "1"}).stopping()
        assert sock.recv(100) == b"STOPPING=1"
    abstract = f"\0dnsvip-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hidden:
        hidden.bind(abstract)
        hidden.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{abstract[1:]}"}).stopping()
        assert hidden.recv(100) == b"STOPPING=1"
