"""The DNS part of `make bench`: the cost of an answer here and on other servers, side by side, in one run.

    python -m tests.bench.bench_dns [--json PATH] [--quick] [--record]

Every server has one worker and answers the same queries from dnsperf on loopback. Each round of a workload queries
all servers in turn, starting with a different one. The tables give medians of the rounds; a ratio is the median of
the rounds' ratios. Exits with 1 if a goal (`goals`) is missed, and with 2 if it cannot measure here. dns.md
says how to read it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.bench import signed
from tests.bench.load import Load, run_load, write_questions
from tests.bench.outcome import Result, conclude, parser_of, say
from tests.bench.processes import memory_bytes
from tests.bench.questions import anywhere, known, new, plain
from tests.bench.report import Report, machine, tables
from tests.bench.servers import OURS, PEERS, BenchError, Recipe, Server, missing_packages
from tests.bench.signed import SignedRounds

PAGE = "dns.md"


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of query: how a round's queries are made, how often each may be sent in it, and from how many sockets."""

    make: Callable[[int, Random], list[bytes]]
    times: int
    sockets: int = 1


AGAIN = 1_000_000
"""No limit but the time."""

WORKLOADS: Mapping[str, Workload] = {
    "plain": Workload(lambda _number, _random: [plain()], AGAIN),
    "ecs": Workload(known, AGAIN),
    "new": Workload(lambda number, _random: new(number), 1),
    "spread": Workload(lambda _number, _random: [plain()], AGAIN, sockets=100),
}
"""The service's name without EDNS; with ECS of known prefixes; with ECS of unseen prefixes; without EDNS, as from many
resolvers."""

FLAT: Mapping[str, Workload] = {"anywhere": Workload(anywhere, 1)}
"""With ECS of any address in a space that is divided into more or fewer client prefixes."""

SIZES = (10, 10_240, 10_485_760)
"""Numbers of client prefixes, 10 * 2 ** n, over which the cost should be flat."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: a round sends each server `queries` different queries of a kind, for at most `seconds`.

    `classify` are options of bench_classify.
    """

    rounds: int
    queries: int
    seconds: float
    sizes: Sequence[int]
    classify: tuple[str, ...] = ()


FULL = Effort(7, 40_000, 1.0, SIZES)
QUICK = Effort(3, 10_000, 0.2, SIZES[:2], ("--largest", "100000", "--clients", "20000"))
"""Shows that the bench works; its figures mean nothing and its goals are not judged."""

Rounds = dict[str, list[dict[str, Load]]]
"""By kind of query, for each round: by server."""


def main() -> None:
    """Measure, print, write JSON, judge."""
    options = parser_of(__doc__, "dns").parse_args()
    try:
        raise SystemExit(run(QUICK if options.quick else FULL, options.json, record=options.record))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def run(effort: Effort, path: Path, *, record: bool) -> int:
    """Run the whole bench and return the exit code. Raises BenchError."""
    if missing := missing_packages():
        raise BenchError(f"needs the Debian packages {' '.join(missing)}: run deploy/bench-packages.sh as root")
    where = machine()
    rounds, memory = side_by_side(effort)
    report = Report(where, effort.rounds, rounds, memory, flatness(effort), classification(effort), signatures(effort))
    result = Result("dns", "\n".join(tables(report)), report.figures, report.as_json(), PAGE, where)
    return conclude(result, path, quick=effort is QUICK, record=record)


def side_by_side(effort: Effort) -> tuple[Rounds, dict[str, int]]:
    """Measure all workloads on all servers, and then the servers' memory in bytes."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        servers = [stack.enter_context(Server(recipe, folder)) for recipe in (OURS, *PEERS)]
        rounds = interleaved(effort, servers, WORKLOADS, folder)
        return rounds, {server.name: memory_bytes(server.pid) for server in servers}


def flatness(effort: Effort) -> dict[int, list[Load]]:
    """The cost of queries from anywhere in one space, by the number of client prefixes that divide it."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, ExitStack() as stack:
        servers = [stack.enter_context(Server(_flat(size), Path(name))) for size in effort.sizes]
        rounds = interleaved(effort, servers, FLAT, Path(name))["anywhere"]
        return {
            size: [turn[server.name] for turn in rounds] for size, server in zip(effort.sizes, servers, strict=True)
        }


def signatures(effort: Effort) -> SignedRounds:
    """What signatures cost."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name:
        return signed.side_by_side(effort.rounds, effort.queries, effort.seconds, Path(name))


def interleaved(
    effort: Effort,
    servers: Sequence[Server],
    workloads: Mapping[str, Workload],
    folder: Path,
) -> Rounds:
    """The rounds of each workload in sequence, after one warm-up round."""
    random = Random(1)
    rounds: Rounds = {name: [] for name in workloads}
    for name, work in workloads.items():
        for number in range(-1, effort.rounds):
            say(f"{name}, round {number + 1} of {effort.rounds}")
            file = write_questions(folder / name, work.make(effort.queries, random))
            turn = [*servers[number % len(servers) :], *servers[: number % len(servers)]]
            loads = {
                workload.name: run_load(workload.pid, workload.port, file, work.times, effort.seconds, work.sockets)
                for workload in turn
            }
            if number >= 0:
                rounds[name].append(loads)
    say("")
    return rounds


def classification(effort: Effort) -> dict[str, Any]:
    """The figures of `bench_classify`, run in a process of its own."""
    say("classification")
    argv = [sys.executable, "-m", "tests.bench.bench_classify", "--json", *effort.classify]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError("bench_classify failed; its output is above")
    say("")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _flat(prefixes: int) -> Recipe:
    argv = (sys.executable, "-m", "tests.bench.flat_server", "$port", str(prefixes))
    return Recipe(f"{prefixes}", "", "", argv, {}, by_prefix=True, wait=300.0)


if __name__ == "__main__":
    main()
