"""What signatures cost: the same queries with DO to this server unsigned, signed with each sort of denial, and to
PowerDNS with LUA records and live signing.

A part of `bench_dns`. PowerDNS gives each client an address of its own too, as otherwise it would sign nothing anew.
In a flood every name is new, and does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median

from tests.bench.load import Load, run_load, write_questions
from tests.bench.outcome import say
from tests.bench.questions import missing, new, plain
from tests.bench.servers import NET, OURS, PEERS, Recipe, Server

SCHEMA = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql"
_PDNSUTIL = "pdnsutil --config-dir=$dir"
_LUA = next(recipe for recipe in PEERS if recipe.name == "pdns")


LAYOUT = '["tier", 2], ["client", 14], ["expiry", 4], ["nonce", 17]'
"""Anonymous prefixes differ by their nonce: enough bits that each has an address of its own."""


def _ours(name: str, text: str, settings: str) -> Recipe:
    return replace(OURS, name=name, text=text, wait=120.0, values={"zone_settings": settings, "layout": LAYOUT})


UNSIGNED = _ours("unsigned", "dnsvip, not signed", "")
COMPACT = _ours("compact", "dnsvip, compact denial", "dnssec = { enabled = true }")
CHAIN = _ours("nsec", "dnsvip, NSEC chain", 'dnssec = { enabled = true, denial = "nsec" }')
POWERDNS = replace(
    _LUA,
    name="pdns-signed",
    text="PowerDNS, LUA, live signing",
    service=f"www 60 LUA AAAA \";local who = bestwho:toString():gsub('%.', ':') return '{NET[:-1]}' .. who\"",
    package="pdns-server pdns-backend-sqlite3 sqlite3",
    files={"pdns.conf": "pdns-signed.conf", "zone": "example.test.zone"},
    prepare=(
        ("sh", "-c", f"sqlite3 $dir/db/pdns.sqlite3 < {SCHEMA}"),
        ("sh", "-c", f"{_PDNSUTIL} load-zone example.test $dir/zone && {_PDNSUTIL} secure-zone example.test"),
        ("sh", "-c", f"{_PDNSUTIL} rectify-zone example.test"),
    ),
)
SERVERS = (UNSIGNED, COMPACT, CHAIN, POWERDNS)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of query: its title, how a round's queries are made, and how often each is sent."""

    title: str
    make: Callable[[int, Random], list[bytes]]
    times: int


AGAIN = 1_000_000
KINDS: Mapping[str, Kind] = {
    "repeated": Kind("the service's name with DO, again and again", lambda _number, _random: [plain(do=True)], AGAIN),
    "new": Kind("with DO and ECS of new prefixes", lambda number, _random: new(number, do=True), 1),
    "flood": Kind("names that do not exist, with DO", missing, 1),
}

SignedRounds = Mapping[str, Sequence[Mapping[str, Load]]]
"""By kind of query, for each round: by server."""


def side_by_side(rounds: int, queries: int, seconds: float, folder: Path) -> SignedRounds:
    """Measure all kinds on all servers, after one warm-up round of each."""
    random = Random(2)
    found: dict[str, list[Mapping[str, Load]]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(recipe, folder)) for recipe in SERVERS]
        for name, kind in KINDS.items():
            for number in range(-1, rounds):
                say(f"signed, {name}, round {number + 1} of {rounds}")
                file = write_questions(folder / f"signed-{name}", kind.make(queries, random))
                turn = [*servers[number % len(servers) :], *servers[: number % len(servers)]]
                loads = {
                    server.name: run_load(
                        server.pid, server.port, file, kind.times, seconds, expected=("NOERROR", "NXDOMAIN")
                    )
                    for server in turn
                }
                if number >= 0:
                    found[name].append(loads)
    say("")
    return found


def figures(rounds: SignedRounds) -> dict[str, float]:
    """Ratios of CPU a query, each the median of the rounds' ratios: `signed KIND, SERVER / OTHER`."""
    pairs = [(one.name, other.name) for one in (COMPACT, CHAIN) for other in (UNSIGNED, POWERDNS)]
    return {
        f"signed {kind}, {one} / {other}": median(loads[one].cpu_us / loads[other].cpu_us for loads in rows)
        for kind, rows in rounds.items()
        for one, other in pairs
    }


def rows_of(rows: Sequence[Mapping[str, Load]]) -> Iterator[tuple[str, ...]]:
    """A table's rows of one kind of query: server, CPU a query, by the unsigned server, by PowerDNS."""
    for recipe in SERVERS:
        cost = median(loads[recipe.name].cpu_us for loads in rows)
        ratios = (
            median(loads[recipe.name].cpu_us / loads[other.name].cpu_us for loads in rows)
            for other in (UNSIGNED, POWERDNS)
        )
        yield (recipe.text, f"{cost:.2f}", *(f"{ratio:.2f}" for ratio in ratios))
