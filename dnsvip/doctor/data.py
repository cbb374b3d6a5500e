"""Judges the node's data: key file, database, key epochs. Pure: facts come from `dnsvip/store/examine.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.address.layout import EPOCH_SLOTS
from dnsvip.doctor.finding import Finding, failure, ok, unknown, warning
from dnsvip.site import ClassCluster, Cluster, Site
from dnsvip.site.epochs import DISPATCH, NodeReport, retires_at
from dnsvip.site.fleet import TroubleKind, troubles
from dnsvip.site.refreshes import RefreshState
from dnsvip.site.rotation import ExpiryField, expiry_field, full_at, in_words
from dnsvip.site.unreadable import Unreadable

KEY_FILE, DATABASE, EPOCHS, NODES, SECONDARIES = "key file", "database", "epochs", "nodes", "secondaries"

SLOW_SECONDS = 0.05
"""A round trip to the database above this is noticeable: a change takes several."""

OLD_EPOCH_SECONDS = 400 * 86_400
"""A key in use for longer than this is overdue for rotation."""

WAITING_SECONDS = 60
"""How long a published epoch may wait for dispatchers without a warning."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """`source` says where the key is, `error` why it cannot be used; a `missing` one will be created."""

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
            KEY_FILE, f"{key.source} does not exist", "nothing: it is created at the first start; then back it up"
        )
    else:
        yield ok(KEY_FILE, f"{key.source} exists, and others cannot read it")


_MENDS = {"cookies": "dnsvip keys roll-cookies", "key": "dnsvip keys rotate {}, with --emergency where it is a key"}
"""What mends secrets that cannot be read, by kind."""


def judge_unreadable(objects: Iterable[Unreadable]) -> Iterator[Finding]:
    """Each stored object that cannot be read."""
    default = "replace it (dnsvip apply, or PUT) or remove it; if a newer version stored it, upgrade this node"
    for one in objects:
        yield failure(DATABASE, one.why, _MENDS.get(one.kind, default).format(one.name.partition("/")[0]))


@dataclass(frozen=True, slots=True)
class Database:
    """The state of the database. `error` says why it cannot be used; `missing`: an SQLite file not yet created.

    `schema` is its version ("" before the first node), `wanted` this program's. `latency` is the median round trip in
    seconds. A `standby` accepts no writes. Its user `lacks` rights. `key_fits` is None where it was not tried.
    """

    label: str
    wanted: str
    error: str = ""
    missing: bool = False
    schema: str = ""
    usable: bool = True
    latency: float = 0.0
    standby: bool = False
    lacks: tuple[str, ...] = ()
    key_fits: bool | None = None


def judge_database(database: Database) -> Iterator[Finding]:
    """Whether the node can use it."""
    if database.missing:
        yield warning(
            DATABASE, f"{database.label} does not exist", "dnsvip apply SITE.toml --config NODE.toml creates it"
        )
        return
    if database.error:
        mend = "start it, or fix `database` in the node file; a running node keeps serving from its last good snapshot"
        yield failure(DATABASE, database.error, mend)
        return
    if database.lacks:
        mend = "GRANT them to the user of `database`, as the owner of the tables"
        yield failure(DATABASE, f"{database.label}: its user lacks {', '.join(database.lacks)}", mend)
    if not any(right.startswith("SELECT ") for right in database.lacks):
        yield from _judge_schema(database)
    if database.standby:
        mend = "name the primary too: postgresql://...?host=FIRST,SECOND&target_session_attrs=read-write"
        yield failure(DATABASE, f"{database.label} is a standby and takes no writes", mend)
    if database.key_fits is False:
        mend = "copy the key file of a node that uses this database, or set DNSVIP_KEY to its content"
        yield failure(KEY_FILE, "the key is not the one that the database's secrets are wrapped with", mend)
    if database.latency > SLOW_SECONDS:
        mend = "put the database nearer, or look at its load: every change takes several round trips"
        yield warning(DATABASE, f"a round trip takes {database.latency * 1000:.0f} ms", mend)
    else:
        yield ok(DATABASE, f"{database.label} answers in {database.latency * 1000:.1f} ms")


def _judge_schema(database: Database) -> Iterator[Finding]:
    if not database.schema:
        yield warning(
            DATABASE, f"{database.label} has no tables", "dnsvip apply SITE.toml --config NODE.toml creates them"
        )
    elif database.schema == database.wanted:
        yield ok(DATABASE, f"its tables have version {database.schema}, this program's own")
    elif database.usable:
        what = f"its tables have version {database.schema}, this program's is {database.wanted}"
        yield warning(DATABASE, what, "finish the upgrade: the first node of the newer version migrates the tables")
    else:
        what = f"its tables have version {database.schema}, which this program ({database.wanted}) cannot use"
        yield failure(DATABASE, what, "install the version of dnsvip that the other nodes run")


def judge_epochs(
    rings: Mapping[str, Iterable[Epoch]],
    nodes: Iterable[NodeReport],
    now: float,
    clusters: Mapping[str, Cluster | ClassCluster] = MappingProxyType({}),
) -> Iterator[Finding]:
    """Whether every cluster's keys are in order, by cluster; `now` in unix seconds."""
    dispatchers = [node for node in nodes if DISPATCH in node.roles and node.is_live(now)]
    for name, ring in rings.items():
        epochs = tuple(ring)
        active = [epoch for epoch in epochs if epoch.state is EpochState.ACTIVE]
        if not active:
            yield failure(
                EPOCHS, f"cluster {name} has no active key: its clients get the plain VIP", f"dnsvip keys rotate {name}"
            )
            continue
        yield from _judge_waiting(name, epochs, dispatchers, now)
        yield from _judge_field(clusters.get(name), active[0], now)
        age = now - active[0].activated_at
        if age > OLD_EPOCH_SECONDS:
            yield warning(
                EPOCHS, f"cluster {name} has used its key for {age / 86_400:.0f} days", f"dnsvip keys rotate {name}"
            )
        elif len(epochs) == EPOCH_SLOTS:
            until = min(retires_at(epoch) for epoch in epochs if epoch.state is EpochState.RETIRING) - now
            mend = f"wait {max(0.0, until):.0f} s for the oldest to retire before the next rotation"
            yield warning(EPOCHS, f"cluster {name} uses all {EPOCH_SLOTS} key slots", mend)
        else:
            yield ok(EPOCHS, f"cluster {name} has an active key in slot {active[0].slot}")


def _judge_field(cluster: Cluster | ClassCluster | None, active: Epoch, now: float) -> Iterator[Finding]:
    """Whether new addresses of a cluster still expire by themselves."""
    if not isinstance(cluster, Cluster) or (full := full_at(cluster, active)) is None:
        return
    state, what = expiry_field(cluster, active, now), f"cluster {cluster.name}: its expiry field"
    mend = f"dnsvip keys rotate {cluster.name}; a scheduled rotation waits for what `dnsvip keys list` names"
    if state is ExpiryField.FULL:
        text = f"has been full for {in_words(now - full)}: addresses are good as long as their key"
        yield failure(EPOCHS, f"{what} {text}", mend)
    elif state is ExpiryField.NEAR:
        yield warning(EPOCHS, f"{what} is full in {in_words(full - now)}", mend)


def _judge_waiting(
    name: str, epochs: Iterable[Epoch], dispatchers: Iterable[NodeReport], now: float
) -> Iterator[Finding]:
    for epoch in epochs:
        if epoch.state is EpochState.PUBLISHED and now - epoch.published_at > WAITING_SECONDS:
            behind = sorted({node.name for node in dispatchers if node.generation < epoch.published_generation})
            what = f"cluster {name}: the key in slot {epoch.slot} waits for {', '.join(behind) or 'a DNS node'}"
            yield warning(EPOCHS, what, "check that node: its log, `dnsvip status`; once stopped, it delays nothing")


def judge_reports(nodes: Iterable[NodeReport], now: float) -> Iterator[Finding]:
    """What the live nodes warn of themselves: zones they cannot serve, generations they could not take."""
    for node in nodes:
        texts = node.detail.get("warnings") if node.is_live(now) else None
        for text in texts if isinstance(texts, list) else ():
            yield warning(NODES, f"{node.name}: {text}", "change what it names; `dnsvip status` shows when it is taken")


def judge_secondaries(site: Site, states: Mapping[str, RefreshState], now: float) -> Iterator[Finding]:
    """Whether the secondary zones are current, and when the first of them expires."""
    current: list[tuple[float, str]] = []
    for name, zone in site.zones.items():
        if not zone.is_secondary:
            continue
        state = states.get(name, RefreshState(name))
        if state.error or state.expires_at is None:
            end = (
                "is not served"
                if state.expires_at is None
                else f"expires in {in_words(max(state.expires_at - now, 0))}"
            )
            what = f"zone {name} {end}: {state.error or 'no node has asked for it yet'}"
            yield warning(SECONDARIES, what, "dig SOA at its primaries from a node; dnsvip status shows the next check")
        else:
            current.append((state.expires_at, f"zone {name} has serial {state.serial}"))
    if current:
        at, first = min(current)
        yield ok(
            SECONDARIES, f"{len(current)} current; {first} and is the first to expire, in {in_words(max(at - now, 0))}"
        )


def judge_nodes(
    site: Site, nodes: Iterable[NodeReport], generation: int, now: float, drained: Mapping[str, float] | None = None
) -> Iterator[Finding]:
    """Whether the nodes report, are up to date, and do all that the site needs."""
    reports = tuple(nodes)
    if not reports:
        yield unknown(NODES, "no node reports", "nothing, before the first one has been started")
        return
    for trouble in troubles(site, reports, generation, now, drained):
        since = f" ({now - trouble.since:.0f} s ago)" if trouble.since else ""
        yield warning(NODES, f"{trouble.text.removesuffix('.')}{since}", _MENDS[trouble.kind])


_MENDS = {
    TroubleKind.IDLE: "start one: systemctl start dnsvip-dispatch, or dnsvip-serve, where it should run",
    TroubleKind.GONE: "start it again, or dnsvip nodes forget NAME",
    TroubleKind.DRAINED: "dnsvip nodes undrain NAME once it may have traffic again",
    TroubleKind.BEHIND: "check its log if it does not catch up within seconds",
}


def judge_snapshot(error: str | None, *, database_down: bool) -> Iterator[Finding]:
    """Whether there is a last good snapshot to start from; `error` says why not, None where there is one."""
    if error is None:
        yield ok("snapshot", "the last good snapshot can be read: the node starts with the database down")
    elif database_down:
        yield failure(
            "snapshot", f"nothing to start from while the database is down: {error}", "bring the database back"
        )
    else:
        yield unknown("snapshot", "no last good snapshot yet", "nothing: it is created when the node first runs")
