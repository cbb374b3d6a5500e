"""`dnsvip serve` with several workers: one port, shared load, crash recovery, clean exit."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.serving import NAME, NODE, PLAIN, PROPAGATION, Node, node, within


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Node]:
    """A node with two workers and the example site, not yet started."""
    with node(tmp_path) as one:
        one.apply()
        one.write_node(NODE + "[dns]\nworkers = 2\n")
        yield one


def workers_of(server: Node) -> list[int]:
    """The pids of the workers."""
    assert server.process is not None
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in children if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def services(server: Node) -> int:
    return int(server.curl("GET", "status")[1]["dns"]["outcomes"]["service"])


def test_workers_share_the_work(made: Node) -> None:
    """Two processes answer on the same ports, a change reaches both, and the status sums their counters."""
    made.start("--token-file", "token")
    assert len(workers_of(made)) == 2
    assert {made.dig(*NAME) for _ in range(20)} == {PLAIN}
    assert made.dig("+tcp", *NAME) == PLAIN
    within(2, lambda: services(made) == 21)
    assert made.curl("PATCH", "clients/newsreader", {"match": [{"source": "127.0.0.0/8"}]})[0] == 200
    time.sleep(PROPAGATION)
    answers = {made.dig(*NAME) for _ in range(10)}
    assert len(answers) == 1
    assert PLAIN not in answers
    left = workers_of(made)
    assert made.stop() == 0
    assert not any(map(alive, left))


def test_a_crashed_worker_is_replaced(made: Node) -> None:
    """When a worker crashes, queries are still answered, a new worker starts, and the old counts are kept."""
    made.start("--token-file", "token")
    assert {made.dig(*NAME) for _ in range(10)} == {PLAIN}
    within(2, lambda: services(made) == 10)
    first, second = workers_of(made)
    os.kill(first, signal.SIGKILL)
    within(5, lambda: "a DNS worker has ended" in made.log)  # it keeps half the port until its last thread exits
    assert {made.dig(*NAME) for _ in range(5)} == {PLAIN}
    within(15, lambda: len(workers_of(made)) == 2)
    assert second in workers_of(made)
    within(2, lambda: services(made) == 15)


def test_workers_end_with_their_parent(made: Node) -> None:
    """When the node is killed without cleanup its workers exit too."""
    made.start("--token-file", "token")
    left = workers_of(made)
    made.stop(signal.SIGKILL)
    within(3, lambda: not any(map(alive, left)))


def test_a_worker_that_cannot_listen(made: Node) -> None:
    """A worker that cannot listen gives the same error as a single process, and no process stays behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", made.dns))
        taken.listen()
        done = made.dnsvip("serve", "node.toml")
    assert done.returncode == 3
    assert f"node.toml: dns.listen 'public': 127.0.0.1:{made.dns}: cannot listen there: " in done.stderr
