"""`dnsvip flows` and `dnsvip watch` beside no dispatcher, a wrong one, and one that tells what a test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dnsvip.cli import root
from dnsvip.cli.machine.dispatching import ends, matching
from dnsvip.cli.machine.watch import line_of
from dnsvip.errors import PlatformError

PACKET = {
    "at": 1_000_000.25, "protocol": "tcp", "source": "2001:db8::1", "source_port": 4000, "vip": "192.0.2.1", "port": 80,
    "size": 60, "action": "forward", "reason": "held", "words": "forwarded: over its tier's rate", "pool": "fast",
    "server": "fast-1", "server_address": "fd00::1", "dscp": 0, "delay": 0.25, "cluster": "web", "tier": "gold",
    "client": None,
}  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node file; its dispatcher would listen in state/."""
    (tmp_path / "state").mkdir()
    (tmp_path / "node.toml").write_text('database = "sqlite:///x.db"\nstate_dir = "state"\n')
    return tmp_path / "node.toml"


def dispatcher(node: Path, *documents: Any) -> threading.Thread:
    """Answers one connection with these documents."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(node.parent / "state" / "dispatch.sock"))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"".join(json.dumps(document).encode() + b"\n" for document in documents))

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def run(node: Path, argv: Sequence[str]) -> Result:
    return CliRunner().invoke(root, [*argv, "--config", str(node)])


@pytest.mark.parametrize("argv", [["watch"], ["flows", "search"], ["flows", "top"], ["flows", "purge", "--all"]])
def test_no_dispatcher(node: Path, argv: list[str]) -> None:
    """Where none runs, that is said."""
    failed = run(node, argv)
    assert isinstance(failed.exception, PlatformError)
    assert "no dispatcher runs here" in str(failed.exception)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([{"packets": 1}], "of another version"),
        ([{"dispatch": 2}], "of another version"),
        ([{"dispatch": 1}, {"error": "'x' is not a client"}], "'x' is not a client"),
        ([], "is no dispatcher, or it has stopped"),
        ([{"dispatch": 1}, {"watching": True}], "the dispatcher has stopped"),
    ],
)
def test_a_wrong_answer(node: Path, documents: list[Any], message: str) -> None:
    """One of another version, one that refuses and one that stops are each told as that."""
    thread = dispatcher(node, *documents)
    failed = run(node, ["watch", "x"])
    thread.join(10)
    assert isinstance(failed.exception, PlatformError)
    assert message in str(failed.exception)


def test_packets_in_lines(node: Path) -> None:
    """A packet is one line, and what is not shown is said."""
    thread = dispatcher(
        node, {"dispatch": 1}, {"watching": True}, {"lost": 3, "unseen": 4}, {"packet": PACKET}
    )  # fmt: skip
    done = run(node, ["watch", "--count", "1"])
    thread.join(10)
    assert done.exit_code == 0
    assert "(7 packets not shown)" in done.stderr
    line = (
        "13:46:40.250, tcp [2001:db8::1]:4000 > 192.0.2.1:80, 60 bytes, held: forwarded: over its tier's rate, "
        "tier gold, to fast/fast-1, dscp 0, held 250 ms\n"
    )
    assert done.stdout == line == line_of(PACKET) + "\n"


def test_flows_beyond_the_limit_are_counted(node: Path) -> None:
    """Where there are more than were told, that is said beside the table."""
    flow = {
        name: PACKET[name] for name in ("protocol", "source", "source_port", "vip", "port", "pool", "tier", "client")
    }
    shown = {**flow, "state": "new", "idle": 3, "server": None}
    thread = dispatcher(node, {"dispatch": 1}, {"flow": shown}, {"end": True, "flows": 5})
    done = run(node, ["flows", "search"])
    thread.join(10)
    assert "1 of 5 flows" in done.stderr
    assert done.stdout.splitlines()[1].split("\t")[:4] == [ends(PACKET), "new", "3 s", "fast/(gone)"]


def test_what_is_asked_for() -> None:
    """An address or a prefix is told from a client's name."""
    assert matching("2001:db8::/32", tier=None) == {"address": "2001:db8::/32"}
    assert matching("acme", tier="gold") == {"tier": "gold", "client": "acme"}
    assert matching(None, server="a") == {"server": "a"}
    assert ends({"protocol": None}) == "unreadable"
