"""Many followers in one process, for PostgreSQL: what nodes ask of it, without what nodes do with the answers.

    python -m tests.bench.followers SOCKET DATABASE USER NUMBER < SCRIPT

Each has the two connections of an idle node: one listens; when it is notified, the other reads the difference, with
the statements of a real follower, those of a transaction in one message. It reports once a second as well. For each
follower and generation a line says when it was read: "GENERATION SECONDS" (monotonic).
"""

from __future__ import annotations

import json
import random
import resource
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

REPORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Script:
    """What a follower says: once, to prepare its statements; to read a change, with {before} and {after} for the
    generations; and to report, with {name}."""

    prepare: str
    read: str
    report: str


def recorded(name: str, statements: Sequence[tuple[str, Sequence[Any]]], marks: Mapping[Any, str]) -> tuple[str, str]:
    """What prepares statements, and what executes them; a parameter in `marks` becomes a place to be filled."""
    prepare, execute = [], []
    for number, (statement, parameters) in enumerate(statements):
        if statement.startswith("SET"):
            execute.append(statement)
            continue
        prepare.append(f"PREPARE {name}{number} AS {statement}")
        values = ", ".join(f"'{{{marks[value]}}}'" if value in marks else _literal(value) for value in parameters)
        execute.append(f"EXECUTE {name}{number}" + (f"({values})" if values else ""))
    return "; ".join(prepare), "; ".join(execute)


def _literal(value: Any) -> str:
    text = str(value).replace("'", "''").replace("{", "{{").replace("}", "}}")
    return "NULL" if value is None else f"'{text}'"


class Connection:
    """One connection on a Unix socket, without a password; `ready` is called when a message has been answered."""

    def __init__(self, place: str, database: str, user: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(place)
        words = b"\0".join(word.encode() for word in ("user", user, "database", database, "application_name", "bench"))
        body = struct.pack("!I", 196608) + words + b"\0\0"
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self._rest = b""
        self.ready: Callable[[], None] = lambda: None
        self.notified: Callable[[int], None] = lambda _: None
        while not any(kind == b"Z" for kind, _ in self._messages(self.socket.recv(65536))):
            pass

    def send(self, text: str) -> None:
        """Send statements as one message."""
        body = text.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)

    def receive(self) -> None:
        """Take what has come."""
        for kind, body in self._messages(self.socket.recv(65536)):
            if kind == b"E":
                raise SystemExit(body.replace(b"\0", b" ").decode())
            if kind == b"A":
                self.notified(int(body[4:].split(b"\0")[1]))
            elif kind == b"Z":
                self.ready()

    def _messages(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        if not data:
            raise SystemExit("the server has closed a connection")
        data, at = self._rest + data, 0
        while at + 5 <= len(data) and at + 1 + (size := struct.unpack_from("!I", data, at + 1)[0]) <= len(data):
            yield data[at : at + 1], data[at + 5 : at + 1 + size]
            at += 1 + size
        self._rest = data[at:]


class Follower:
    """One simulated node."""

    def __init__(self, name: str, listening: Connection, working: Connection, script: Script) -> None:
        self._name, self._script, self._working = name, script, working
        self._have = self._wanted = self._reading = 0
        self._busy = self._due = False
        self.seen: list[tuple[int, float]] = []
        listening.notified, working.ready = self._notified, self._ready
        listening.send("LISTEN dnsvip")
        self._busy = True
        working.send(script.prepare)

    def report(self) -> None:
        """Report as soon as nothing else is under way."""
        self._due = True
        self._next()

    def _notified(self, generation: int) -> None:
        self._wanted = generation
        self._have = self._have or generation - 1
        self._next()

    def _ready(self) -> None:
        self._busy = False
        if self._reading:
            self.seen.append((self._reading, time.monotonic()))
            self._have, self._reading = self._reading, 0
        self._next()

    def _next(self) -> None:
        if self._busy:
            return
        if self._wanted > self._have:
            self._reading, self._busy = self._wanted, True
            text = self._script.read.format(before=self._have, after=self._wanted)
            self._working.send(f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {text}; COMMIT")
        elif self._due:
            self._due, self._busy = False, True
            self._working.send(f"BEGIN; {self._script.report.format(name=self._name)}; COMMIT")


def main() -> None:
    """Follow until standard input ends; it has the script, as a line of JSON."""
    place, database, user, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * number + 100,) * 2)
    script = Script(**json.loads(sys.stdin.readline()))
    chosen, followers = selectors.DefaultSelector(), []
    for each in range(number):
        listening, working = (Connection(place, database, user) for _ in range(2))
        followers.append(Follower(f"n{each}", listening, working, script))
        for connection in (listening, working):
            chosen.register(connection.socket, selectors.EVENT_READ, connection.receive)
    chosen.register(sys.stdin, selectors.EVENT_READ, None)
    due = [(time.monotonic() + random.random(), follower) for follower in followers]
    due.sort(key=lambda entry: entry[0])
    print("ready", flush=True)
    while _turn(chosen, due):
        pass
    for follower in followers:
        for generation, at in follower.seen:
            print(generation, at)


def _turn(chosen: selectors.BaseSelector, due: list[tuple[float, Follower]]) -> bool:
    for key, _ in chosen.select(max(0.0, due[0][0] - time.monotonic())):
        if key.data is None:
            return False
        key.data()
    while due[0][0] <= time.monotonic():
        at, follower = due.pop(0)
        follower.report()
        due.append((at + REPORT_SECONDS, follower))
    return True


def as_line(script: Script) -> str:
    """A script as a line for `main`."""
    return json.dumps(asdict(script)) + "\n"


if __name__ == "__main__":
    main()
