"""Three PostgreSQL under Patroni, two nodes with an API, and a leader that is paused, killed, or loses its etcd.

A stream of changes goes to both APIs, and DNS is asked all the time: nothing that was acknowledged is lost, and answers
never stop.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import dns.message
import pytest

from tests.node.serving import NAME, NODE, Node, within
from tests.patroni import QUICK, START_SECONDS, Databases, Machine, databases, wait_until

pytestmark = [pytest.mark.release, pytest.mark.slow, pytest.mark.timeout(300)]

WRITABLE_SECONDS = 45.0
"""Far more than it takes with the settings of the test (a ttl of 6 s), for a busy machine; `-s` shows what it took."""

SILENCE_SECONDS = 2.0
"""The longest that an answer may take, on a busy machine."""


@dataclass
class Site:
    """The databases and the nodes on them."""

    databases: Databases
    nodes: list[Node]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two nodes on three database machines."""
    with databases() as made:
        nodes = [Node(tmp_path_factory.mktemp(name)) for name in ("a", "b")]
        try:
            for number, node in enumerate(nodes):
                node.write_node(NODE.replace("sqlite:///dnsvip.db", made.url))
                if number:
                    shutil.copy(nodes[0].folder / "dnsvip.key", node.folder)
                    node.start()
                else:
                    node.apply()
                    node.start("--token-file", "token")
            shutil.copy(nodes[0].folder / "token", nodes[1].folder)
            yield Site(made, nodes)
        finally:
            for node in nodes:
                if node.process is not None:
                    node.process.kill()
                    node.process.wait()


@dataclass
class Changes:
    """A stream of new clients, each by the API of another node, repeated until it is acknowledged."""

    nodes: list[Node]
    acknowledged: dict[int, float] = field(default_factory=dict)
    uncertain: set[int] = field(default_factory=set)
    found: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Make changes until `end`."""
        number = 0
        while not self._ended.is_set():
            number += 1
            turn = number
            while not self._stored(number, self.nodes[turn % len(self.nodes)]) and not self._ended.wait(0.1):
                turn += 1
            self._ended.wait(0.02)

    def end(self) -> None:
        """Make no more."""
        self._ended.set()

    def writable_after(self, moment: float) -> Callable[[], bool]:
        """Whether a change was acknowledged that was asked for after a moment."""
        return lambda: any(at > moment for at in list(self.acknowledged.values()))

    def longest_pause(self) -> float:
        """The longest time between two changes that were acknowledged one after the other, in seconds."""
        asked = sorted(self.acknowledged.values())
        return max(later - before for before, later in pairwise(asked))

    def _stored(self, number: int, node: Node) -> bool:
        asked = time.monotonic()
        try:
            status, problem = self._put(number, node)
        except (OSError, http.client.HTTPException) as error:
            self.problems.append(f"{number}: {error!r}")
            return False
        if status == 412:  # it is there: a call before has made it, and had said that it might have
            assert number in self.uncertain, number
            self.found.add(number)
        elif status != 201:
            if problem.endswith(":uncertain"):
                self.uncertain.add(number)
            self.problems.append(f"{number}: {status} {problem}")
            return False
        self.acknowledged[number] = asked
        return True

    def _put(self, number: int, node: Node) -> tuple[int, str]:
        body = json.dumps({"id": 2000 + number, "tier": "gold"})
        headers = {"Authorization": f"Bearer {node.token}", "Content-Type": "application/json", "If-None-Match": "*"}
        connection = http.client.HTTPConnection("127.0.0.1", node.api, timeout=60)
        try:
            connection.request("PUT", f"/api/v1/clients/c{number}", body, headers)
            answer = connection.getresponse()
            return answer.status, str(json.loads(answer.read()).get("type", ""))
        finally:
            connection.close()


@dataclass
class Questions:
    """DNS of one node, asked again and again; what went wrong, and how long the slowest answer took."""

    node: Node
    count: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until `ended`."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(5)
            one.connect(("127.0.0.1", self.node.dns))
            while not self.ended.wait(0.02):
                query, start = dns.message.make_query(NAME[1], NAME[0]), time.monotonic()
                one.send(query.to_wire())
                try:
                    answer = dns.message.from_wire(one.recv(4096))
                    if answer.id != query.id or len(answer.answer) != 1:
                        self.wrong.append(answer.to_text())
                except OSError as error:
                    self.wrong.append(repr(error))
                self.slowest = max(self.slowest, time.monotonic() - start)
                self.count += 1


@contextmanager
def under_changes(site: Site, *, whole: bool = True) -> Iterator[Changes]:
    """Changes and questions while a test does harm, with `whole` to three machines that are well; afterwards everything
    acknowledged is in the database and at each node, and every question was answered."""
    if whole:
        wait_until(site.databases.is_whole, START_SECONDS)
    changes, questions = Changes(site.nodes), [Questions(node) for node in site.nodes]
    running: list[Changes | Questions] = [changes, *questions]
    threads = [threading.Thread(target=each.run) for each in running]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(changes.acknowledged) >= 5, 60)
        yield changes
        wait_until(changes.writable_after(time.monotonic()), WRITABLE_SECONDS)
    except AssertionError:
        _explain(site, changes)
        raise
    finally:
        changes.end()
        for each in questions:
            each.ended.set()
        for thread in threads:
            thread.join()
    _judge(site, changes, questions)


def _explain(site: Site, changes: Changes) -> None:
    """Print what may say why changes are not taken."""
    print(site.databases.members(), changes.problems[-3:])  # noqa: T201
    for machine in site.databases.machines:
        print(machine.name, (site.databases.folder / f"{machine.name}.patroni").read_text()[-3000:])  # noqa: T201
    if leader := site.databases.leader():
        query = "SELECT pid, application_name, state, wait_event, left(query, 60) FROM pg_stat_activity"
        print(site.databases.sql_at(leader, "SHOW synchronous_standby_names", query))  # noqa: T201
    for node in site.nodes:
        print(node.log[-2000:])  # noqa: T201


def _judge(site: Site, changes: Changes, questions: list[Questions]) -> None:
    for each in questions:
        assert not each.wrong
        assert each.slowest < SILENCE_SECONDS
        assert each.count > 50
    names = {f"c{number}" for number in changes.acknowledged}
    stored = set(site.databases.sql("SELECT name FROM client WHERE name LIKE 'c%'", database="dnsvip").split())
    assert names <= stored
    assert len(stored - names - {f"c{number}" for number in changes.uncertain}) <= 1  # the last, asked for at the end
    generation = int(site.databases.sql("SELECT generation FROM state", database="dnsvip"))
    within(20, lambda: all(_generation(node) >= generation for node in site.nodes))
    assert not any("older state" in node.log for node in site.nodes)
    site.databases.sql("DELETE FROM client WHERE name LIKE 'c%'", database="dnsvip")
    slowest = max(each.slowest for each in questions)
    counts = len(changes.acknowledged), len(changes.uncertain), len(changes.found)
    said = "acknowledged {}, uncertain {}, of them made {}".format(*counts)
    print(f"{said}, slowest answer {slowest:.3f} s", changes.problems[:5])  # noqa: T201 - the figures, with -s


def _generation(node: Node) -> int:
    status, document = node.curl("GET", "status")
    return int(document["generation"]) if status == 200 else -1


def _another_leads(databases: Databases, before: Machine) -> Callable[[], bool]:
    return lambda: databases.leader() not in (None, before)


def _lose_leader(databases: Databases, changes: Changes, how: signal.Signals) -> Machine:
    """Send a signal to the leader and wait until another leads and changes are made; the machine that led."""
    leader = databases.leader()
    assert leader is not None
    start = time.monotonic()
    databases.send(leader, how)
    wait_until(_another_leads(databases, leader), WRITABLE_SECONDS)
    elected = time.monotonic()
    wait_until(changes.writable_after(elected), WRITABLE_SECONDS)
    took = time.monotonic() - start
    print(f"{how.name}: elected {elected - start:.1f} s, writable {took:.1f} s")  # noqa: T201 - the figures, with -s
    return leader


def test_a_leader_that_is_paused(site: Site) -> None:
    """Of a leader that stops answering nobody waits for long, and when it goes on nobody believes it."""
    with under_changes(site) as changes:
        leader = _lose_leader(site.databases, changes, signal.SIGSTOP)
        site.databases.send(leader, signal.SIGCONT)


def test_the_leader_of_etcd_is_killed(site: Site) -> None:
    """Without the leader of etcd changes go on; meanwhile the leader of before finds that it is one no more."""
    with under_changes(site, whole=False) as changes:
        machine = site.databases.etcd_leader()
        site.databases.send_etcd(machine, signal.SIGKILL)
        time.sleep(QUICK["ttl"] + 1)
    print(f"etcd: longest pause between changes {changes.longest_pause():.1f} s")  # noqa: T201 - the figure, with -s
    site.databases.start_etcd(machine)


def test_a_leader_that_is_killed(site: Site) -> None:
    """A leader that is gone with its Patroni is replaced; what it has acknowledged is there."""
    with under_changes(site) as changes:
        _lose_leader(site.databases, changes, signal.SIGKILL)
