"""Judging what the node works with: key file, database, key epochs. Pure: facts come from `probe_data`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.address.layout import EPOCH_SLOTS
from dnsvip.doctor.finding import Finding, failure, ok, unknown, warning
from dnsvip.site.epochs import DISPATCH, NodeReport, retires_at

KEY_FILE, DATABASE, EPOCHS, NODES = "key file", "database", "epochs", "nodes"

SLOW_SECONDS = 0.05
"""A round trip to the database that makes itself felt: a change takes several."""

OLD_EPOCH_SECONDS = 400 * 86_400
"""A key in use for longer than this was forgotten."""

WAITING_SECONDS = 60
"""How long a published epoch may wait for dispatchers before it is worth a word."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """`source` where the key is; `error` what keeps it from being used, `missing` where it will be made."""

    source: str
    missing: bool = False
    error: str = ""


def judge_key_file(key: KeyFile, *, shared: bool) -> Iterator[Finding]:
    """Whether the key-encryption key can be used; `shared`: the database holds secrets under one already."""
    if key.error:
        yield failure(
            KEY_FILE, key.error.partition(": ")[0], key.error.partition(": ")[2] or "see dnsvip/store/README.md"
        )
    elif key.missing and shared:
        mend = "copy the key file of a node that uses this database, mode 0600, or set DNSVIP_KEY"
        yield failure(KEY_FILE, f"{key.source} does not exist, and the database has secrets under a key already", mend)
    elif key.missing:
        yield warning(
            KEY_FILE, f"{key.source} does not exist", "nothing: it is made at the first start; then back it up"
        )
    else:
        yield ok(KEY_FILE, f"{key.source} is there, and closed to others")


@dataclass(frozen=True, slots=True)
class Database:
    """What was found of it. `error` keeps it from being used; `missing`: a SQLite file that is yet to be made.

    `schema` is its version ("" before the first node), `wanted` this program's. `latency` is the median round trip in
    seconds. `standby`: it takes no writes. `key_fits` is None where it was not tried.
    """

    label: str
    wanted: str
    error: str = ""
    missing: bool = False
    schema: str = ""
    usable: bool = True
    latency: float = 0.0
    standby: bool = False
    key_fits: bool | None = None


def judge_database(found: Database) -> Iterator[Finding]:
    """Whether the node can work with it."""
    if found.missing:
        yield warning(DATABASE, f"{found.label} does not exist", "dnsvip apply SITE.toml --config NODE.toml makes it")
        return
    if found.error:
        mend = "start it, or mend `database` in the node file; a running node serves on from its last good snapshot"
        yield failure(DATABASE, found.error, mend)
        return
    yield from _judge_schema(found)
    if found.standby:
        mend = "name the primary too: postgresql://...?host=FIRST,SECOND&target_session_attrs=read-write"
        yield failure(DATABASE, f"{found.label} is a standby and takes no writes", mend)
    if found.key_fits is False:
        mend = "copy the key file of a node that uses this database, or set DNSVIP_KEY to its content"
        yield failure(KEY_FILE, "the key is not the one that the database's secrets are wrapped with", mend)
    if found.latency > SLOW_SECONDS:
        mend = "put the database nearer, or look at its load: every change takes several round trips"
        yield warning(DATABASE, f"a round trip takes {found.latency * 1000:.0f} ms", mend)
    else:
        yield ok(DATABASE, f"{found.label} answers in {found.latency * 1000:.1f} ms")


def _judge_schema(found: Database) -> Iterator[Finding]:
    if not found.schema:
        yield warning(DATABASE, f"{found.label} is empty", "dnsvip apply SITE.toml --config NODE.toml makes its tables")
    elif found.schema == found.wanted:
        yield ok(DATABASE, f"its tables are of version {found.schema}, this program's own")
    elif found.usable:
        what = f"its tables are of version {found.schema}, this program's own is {found.wanted}"
        yield warning(DATABASE, what, "finish the upgrade: the first node of the newer version brings the tables along")
    else:
        what = f"its tables are of version {found.schema}, which this program ({found.wanted}) cannot use"
        yield failure(DATABASE, what, "install the version of dnsvip that the other nodes run")


def judge_epochs(rings: Mapping[str, Iterable[Epoch]], nodes: Iterable[NodeReport], now: float) -> Iterator[Finding]:
    """Whether every cluster's keys are in order, by cluster; `now` in unix seconds."""
    dispatchers = [node for node in nodes if DISPATCH in node.roles and node.is_live(now)]
    for name, ring in rings.items():
        epochs = tuple(ring)
        active = [each for each in epochs if each.state is EpochState.ACTIVE]
        if not active:
            yield failure(
                EPOCHS, f"cluster {name} has no active key: its clients get the plain VIP", f"dnsvip keys rotate {name}"
            )
            continue
        yield from _judge_waiting(name, epochs, dispatchers, now)
        age = now - active[0].activated_at
        if age > OLD_EPOCH_SECONDS:
            yield warning(
                EPOCHS, f"cluster {name} uses its key for {age / 86_400:.0f} days", f"dnsvip keys rotate {name}"
            )
        elif len(epochs) == EPOCH_SLOTS:
            until = min(retires_at(each) for each in epochs if each.state is EpochState.RETIRING) - now
            mend = f"wait {max(0.0, until):.0f} s for the oldest to retire before the next rotation"
            yield warning(EPOCHS, f"cluster {name} uses all {EPOCH_SLOTS} key slots", mend)
        else:
            yield ok(EPOCHS, f"cluster {name} has an active key in slot {active[0].slot}")


def _judge_waiting(
    name: str, epochs: Iterable[Epoch], dispatchers: Iterable[NodeReport], now: float
) -> Iterator[Finding]:
    for each in epochs:
        if each.state is EpochState.PUBLISHED and now - each.published_at > WAITING_SECONDS:
            behind = sorted({one.name for one in dispatchers if one.generation < each.published_generation})
            what = f"cluster {name}: the key in slot {each.slot} waits for {', '.join(behind) or 'a DNS node'}"
            yield warning(EPOCHS, what, "look at that node: its log, `dnsvip status`; stop it, and it holds up nothing")


def judge_nodes(nodes: Iterable[NodeReport], generation: int, now: float) -> Iterator[Finding]:
    """Whether the nodes that report are up to date."""
    for node in nodes:
        if node.is_live(now) and node.generation < generation:
            what = f"{node.name} ({', '.join(sorted(node.roles))}) is {generation - node.generation} generations behind"
            yield warning(NODES, what, "look at its log, should it not catch up within seconds")


def judge_snapshot(error: str | None, *, database_down: bool) -> Iterator[Finding]:
    """Whether there is a last good snapshot to start from; `error` says why not, None: there is one."""
    if error is None:
        yield ok("snapshot", "the last good snapshot can be read: the node starts with the database down")
    elif database_down:
        yield failure(
            "snapshot", f"nothing to start from while the database is down: {error}", "bring the database back"
        )
    else:
        yield unknown("snapshot", "no last good snapshot yet", "nothing: it is made when the node first runs")
