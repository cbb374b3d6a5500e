"""One measurement: dnsperf sends the same prepared queries to a server, and /proc gives the server's cost.

dnsperf reads queries as bytes (-B), so each may have its own ECS. It sends from one or more sockets and keeps
100 queries in flight; its own CPU time is not counted.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import cpu_seconds
from tests.bench.servers import BenchError

MOST_LOST = 0.001
"""The share of queries that may stay unanswered."""

_PATTERNS = {
    "asked": re.compile(r"Queries sent: +(\d+)"),
    "answered": re.compile(r"Queries completed: +(\d+)"),
    "seconds": re.compile(r"Run time \(s\): +([\d.]+)"),
}
_CODES = re.compile(r"Response codes: +(.*)")
_CODE = re.compile(r"([A-Z]+) (\d+) ")


@dataclass(frozen=True, slots=True)
class Load:
    """The cost of a run: CPU microseconds of the server per answer, and answers per second."""

    cpu_us: float
    rate: float


def write_questions(path: Path, questions: Sequence[bytes]) -> Path:
    """A file for dnsperf -B: each message preceded by its length, as on TCP (RFC 1035 section 4.2.2)."""
    path.write_bytes(b"".join(len(question).to_bytes(2, "big") + question for question in questions))
    return path


def run_load(
    pid: int,
    port: int,
    questions: Path,
    times: int,
    seconds: float,
    sockets: int = 1,
    expected: Sequence[str] = ("NOERROR",),
) -> Load:
    """Ask the questions of a file, all of them at most so many times, and stop after so many seconds.

    Raises BenchError where an answer is missing, or its rcode is not an `expected` one.
    """
    argv = ["dnsperf", "-B", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions)]
    argv += ["-n", str(times), "-l", str(seconds), "-c", str(sockets)]
    before = cpu_seconds(pid)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    used = cpu_seconds(pid) - before
    figures = {name: match[1] for name, pattern in _PATTERNS.items() if (match := pattern.search(done.stdout))}
    if len(figures) < len(_PATTERNS):
        raise BenchError(f"dnsperf does not say what it did:\n{done.stdout}{done.stderr}")
    asked, answered = (int(figures[name]) for name in ("asked", "answered"))
    codes = _CODE.findall(match[1]) if (match := _CODES.search(done.stdout)) else []
    good = sum(int(number) for code, number in codes if code in expected)
    if asked - answered > MOST_LOST * asked or good != answered:
        raise BenchError(
            f"of {asked} questions to port {port} {answered} were answered, {good} of them with {' or '.join(expected)}"
        )
    return Load(1e6 * used / answered, answered / float(figures["seconds"]))
