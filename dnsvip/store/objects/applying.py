"""Applies changes inside one write transaction: read, write, check; raises, and the caller rolls back.

The rules are checked against the database *after* the changes, so that two operators who change different objects
cannot break a rule together. The cost follows the number of changed objects; only a changed cluster has every client
checked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar, cast

from sqlalchemy import bindparam, delete, insert, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site import OBJECT_STEPS, Classify, Client, DnsToken, Pool, Site, Step, TsigKey, Zone
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change, Origin, keep_runtime
from dnsvip.site.registry import SINGLE
from dnsvip.site.rules import check_one, check_site, transfer_key
from dnsvip.site.size import is_large
from dnsvip.site.uniqueness import taken
from dnsvip.site.unreadable import Unreadable
from dnsvip.site.zone_changes import ZoneChange
from dnsvip.store.access.audit import AuditEntry, record
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import is_text, place, shown
from dnsvip.store.database.database import BATCH, ROWS, in_batches
from dnsvip.store.database.tables import KINDS, client, client_match, dns_token, read_field, tsig, zone
from dnsvip.store.objects.deleted import Succession, settle, succession
from dnsvip.store.objects.key_floor import given, needed, raised
from dnsvip.store.objects.reading import load_pages, load_site, read_large, with_stand_in
from dnsvip.store.objects.referred import with_referred
from dnsvip.store.objects.routed import check_mentions, displaced, with_mentioned
from dnsvip.store.objects.rows import audit_form, match_rows, read_row, to_row
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.zones.journal import write_journals

ZoneCheck: TypeAlias = Callable[[Zone], Iterable[Problem]]
"""The problems of a zone's text; `dns.zones` knows them, the store does not."""

FollowKeys: TypeAlias = Mapping[
    str, Callable[[AsyncConnection, KeyEncryptionKey, Change, float, int], Awaitable[list[AuditEntry]]]
]
"""Kind -> what makes, keeps or destroys the keys of a changed object, at (unix seconds) and in a generation; its audit
entries."""

Stored: TypeAlias = dict[tuple[str, str], tuple[SiteObject | Unreadable, Origin]]

MATCHES = 256
"""Rows of matches in one statement: SQLAlchemy takes a millisecond for them."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes the site, by which way, when (unix seconds), and the generation that the change makes."""

    actor: str
    origin: Origin
    at: float
    generation: int
    source: str | None = None
    """The address of who asks for it."""


async def apply_changes(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    changes: Sequence[Change],
    author: Author,
    follow_keys: FollowKeys,
    check_zone: ZoneCheck | None,
    differences: Mapping[str, ZoneChange],
) -> Sequence[Change]:
    """Write every change and its audit row, and `differences` of zones to their journals; the changes as they are
    stored, clients with the key generations that they get. Raises Conflict or InvalidSite, and the caller rolls back.
    """
    stored = await _read(connection, kek, changes)
    await aside(_are_large(changes), _check_unchanged, changes, stored)
    ids = _succession(changes, stored)
    changes = await _with_key_generations(connection, changes, stored, ids)
    await _write(connection, kek, changes, stored, author)
    await write_journals(connection, changes, differences, author.generation)
    problems = await _check(connection, kek, changes, stored)
    remaining = {change.name for change in changes if change.kind == "client" and change.after is not None}
    problems += await settle(connection, ids, remaining, author.generation)
    problems += [problem for zone in _after(changes, Zone) for problem in (check_zone(zone) if check_zone else ())]
    if problems:
        raise InvalidSite(problems)
    entries = []
    for change in changes:
        if follow := follow_keys.get(change.kind):
            entries += await follow(connection, kek, change, author.at, author.generation)
    await record(connection, author.actor, author.at, author.generation, entries, author.source)
    return changes


async def _read(connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change]) -> Stored:
    stored: Stored = {(SINGLE, ""): (Classify(), "site")}
    for kind, table in KINDS.items():
        names = [change.name for change in changes if change.kind == kind and change.action != "+"]
        for some in in_batches(names, BATCH):
            for row in await connection.execute(select(table).where(table.c.name.in_([*map(place, some)]))):
                stored[kind, shown(row.name)] = (await read_large(kind, row, kek), row.origin)
    for key, (thing, origin) in stored.items():
        if isinstance(thing, Unreadable):
            stored[key] = await with_stand_in(connection, thing), origin
    return stored


def _check_unchanged(changes: Sequence[Change], stored: Stored) -> None:
    problems, seen = [], set()
    for change in changes:
        key = (change.kind, change.name)
        if key in seen:
            problems.append(Problem(change.where, "is changed twice at once"))
        elif change.action != "+" and key not in stored:
            problems.append(Problem(change.where, "does not exist (any more)"))
        elif change.action != "+" and not _is_as_planned(change, stored[key][0]):
            problems.append(Problem(change.where, "has been changed meanwhile; look at it again"))
        seen.add(key)
    if problems:
        raise Conflict(problems)


def _is_as_planned(change: Change, stored: SiteObject | Unreadable) -> bool:
    """Whether a stored object is what the change was planned for; one without `before` is for whatever there is."""
    if change.unreadable is not None:
        return isinstance(stored, Unreadable) and stored.digest == change.unreadable.digest
    return change.before in (None, stored)


async def _write(
    connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change], stored: Stored, author: Author
) -> None:
    for kind, table in KINDS.items():
        # Changed rows are deleted and inserted again, so that two objects can swap a unique number.
        names = [change.name for change in changes if change.kind == kind and change.action != "+"]
        old = [{"old": name} for name in names if place(name) is name]
        if old:
            await connection.execute(delete(table).where(table.c.name == bindparam("old")), old)
        for name in (name for name in names if place(name) is not name):
            await connection.execute(delete(table).where(table.c.name == place(name)))
    for kind, table in KINDS.items():
        new = [change for change in changes if change.kind == kind and change.after is not None]
        for some in in_batches(new, ROWS):
            rows = await aside(_are_large(some), lambda some=some: [_row(c, kek, stored, author) for c in some])  # type: ignore[misc]
            await connection.execute(insert(table), rows)
        for matches in in_batches((row for item in _after(new, Client) for row in match_rows(item)), MATCHES):
            await connection.execute(insert(client_match), matches)
    for some in in_batches(changes, ROWS):
        entries = await aside(_are_large(some), lambda some=some: [_entry(c, stored) for c in some])  # type: ignore[misc]
        await record(connection, author.actor, author.at, author.generation, entries, author.source)


def _are_large(changes: Iterable[Change]) -> bool:
    return is_large([(change.before, change.after) for change in changes])


def _row(change: Change, kek: KeyEncryptionKey, stored: Stored, author: Author) -> dict[str, Any]:
    assert change.after is not None  # noqa: S101 - for mypy; the caller passes no removals
    made_by = stored[change.kind, change.name][1] if change.action == "~" else author.origin
    origin = "site" if "site" in (made_by, author.origin) else "api"
    row = to_row(change.kind, change.name, change.after, kek)
    return row | {"origin": origin, "generation": author.generation}


def _entry(change: Change, stored: Stored) -> AuditEntry:
    before = stored[change.kind, change.name][0] if change.action != "+" else None
    return AuditEntry(change.action, change.kind, change.name, audit_form(before), audit_form(change.after))


async def _check(
    connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change], stored: Stored
) -> list[Problem]:
    kinds = {change.kind for change in changes}
    everyone = any(change.kind == "cluster" and change.after is not None for change in changes)
    checked = [*_after(changes, Zone), *await _zones_of_removed_keys(connection, kek, changes)]
    ruled = [change for change in changes if not _keeps_its_rules(change, stored)]
    clients = [] if everyone else [*_after(ruled, Client), *await _orphans(connection, kek, changes)]
    clients += [] if everyone else await displaced(connection, _changed_pools(changes, stored))
    broken: list[Unreadable] = []
    site = await load_site(connection, kek, ("cluster", "tier", "pool", "service", "dns_group", SINGLE), broken)
    site = await with_referred(connection, site, broken)
    keys = await _names(connection, tsig, None if everyone else _mentioned_keys(clients, checked))
    tokens = await _names(connection, dns_token, None if everyone else _mentioned(Step.TOKEN, clients))
    zones = await _names(connection, zone, None) if kinds - {"client"} else ()
    site = replace(
        site,
        tsig_keys={name: TsigKey(name, "") for name in keys},
        dns_tokens={name: DnsToken(name, name) for name in tokens},
        zones={name: Zone(name, "") for name in zones},
    )
    site = await with_mentioned(connection, site)
    if kinds - {"client"}:
        problems = await asyncio.to_thread(check_site, site)  # all of it, however little is changed
    else:
        problems = check_mentions(site, ruled)
    for item in clients:
        problems += await aside(is_large(item), check_one, "client", item.name, item, site)
    for served in checked:
        problems += check_one("zone", served.name, served, site)
    if everyone:
        async for page in load_pages(connection, kek, "client"):
            for name, one in page:
                problems += [] if isinstance(one, Unreadable) else check_one("client", name, one, site)
    problems += await _check_keys(connection, changes)
    problems += await _check_tokens(connection, changes)
    without_stand_ins = {(one.kind, one.name) for one in broken}
    return list(dict.fromkeys(problem for problem in problems if problem.about not in without_stand_ins))


def _keeps_its_rules(change: Change, stored: Stored) -> bool:
    return keeps_its_rules(stored[change.kind, change.name][0] if change.action == "~" else None, change.after)


def keeps_its_rules(before: SiteObject | Unreadable | None, after: SiteObject | None) -> bool:
    """Whether nothing of a client changes but what is set while the site runs. It is stored already, whatever rules say
    of it now: also one that refers to what has been lost can be revoked."""
    if not isinstance(before, Client) or not isinstance(after, Client):
        return False
    return keep_runtime("client", before, after) == before


def _changed_pools(changes: Sequence[Change], stored: Stored) -> Iterator[tuple[str, Pool | None, Pool | None]]:
    """Name, pool before and pool after of each that changes; None where there is none, or it cannot be read."""
    for change in changes:
        if change.kind == "pool":
            before = stored[change.kind, change.name][0] if change.action != "+" else None
            yield change.name, _pool(before), _pool(change.after)


def _pool(thing: SiteObject | Unreadable | None) -> Pool | None:
    pool = thing.stand_in if isinstance(thing, Unreadable) else thing
    return pool if isinstance(pool, Pool) else None


def _succession(changes: Sequence[Change], stored: Stored) -> Succession:
    """The ids that clients give up and take."""
    clients = [change for change in changes if change.kind == "client"]
    return succession((_given_up(change, stored), cast("Client | None", change.after)) for change in clients)


def _given_up(change: Change, stored: Stored) -> Client | None:
    """A client as it was, None where there was none; its flows end where the change says so."""
    client = _client_before(change, stored)
    return replace(client, end_flows=True) if client and change.end_flows else client


def _client_before(change: Change, stored: Stored) -> Client | None:
    if change.action == "+":
        return None
    thing = stored["client", change.name][0]
    return cast("Client", thing.stand_in if isinstance(thing, Unreadable) else thing)


async def _with_key_generations(
    connection: AsyncConnection, changes: Sequence[Change], stored: Stored, ids: Succession
) -> Sequence[Change]:
    """The changes, with key generations that nobody has had for clients that get an id or a new key; the floor rises
    above those of clients that give up theirs."""
    if not any(change.kind == "client" for change in changes):
        return changes
    floor = await raised(connection, needed(ids.gave.values()))
    problems: list[Problem] = []
    settled = []
    for change in changes:
        if isinstance(change.after, Client):
            try:
                after = given(_client_before(change, stored), change.after, floor)
            except InvalidSite as error:
                problems += error.problems
            else:
                settled.append(change if after is change.after else replace(change, after=after))
        else:
            settled.append(change)
    if problems:
        raise InvalidSite(problems)
    return settled


async def _check_keys(connection: AsyncConnection, changes: Sequence[Change]) -> list[Problem]:
    """No key of a zone transfer or update becomes one that identifies a client, nor the reverse.

    What is stored since before this rule stays, so such a client can still be revoked.
    """
    users = [(change.name, key) for change in changes for key in sorted(_keys(change.after) - _keys(change.before))]
    transfers = await transfer_keys(connection) if users else frozenset()
    problems = [transfer_key(name, key) for name, key in users if key in transfers]
    new = sorted({key for change in changes for key in _transfer(change.after) - _transfer(change.before)})
    for some in in_batches(new, BATCH):
        rows = select(client_match).where(client_match.c.step == Step.TSIG.value, client_match.c.value.in_(some))
        problems += [transfer_key(row.client, row.value) for row in await connection.execute(rows.limit(20))]
    return problems


async def _check_tokens(connection: AsyncConnection, changes: Sequence[Change]) -> list[Problem]:
    """Each changed DNS token keeps its rules, and has no digest of another one: a text identifies one client."""
    problems: list[Problem] = []
    for token in _after(changes, DnsToken):
        problems += check_one("dns_token", token.name, token, Site())
        digests = [digest for digest in (token.digest, token.previous) if digest]
        others = or_(dns_token.c.digest.in_(digests), dns_token.c.previous.in_(digests))
        query = select(dns_token.c.name).where(others, dns_token.c.name != token.name).limit(1)
        for owner in (await connection.execute(query)).scalars():
            problems.append(taken("dns_token", token.name, "digest", "it", f"dns_token.{shown(owner)}", shown(owner)))
    return problems


async def transfer_keys(connection: AsyncConnection) -> frozenset[str]:
    """The TSIG keys that zones are transferred or updated with."""
    keys: set[str] = set()
    for field, begins in (("transfer", '"transfer":{'), ("update", '"update":[')):
        fields = select(read_field(field)).where(zone.c.spec.contains(begins, autoescape=True))
        for text in (await connection.execute(fields)).scalars():
            keys.update(_named_keys(text) if text else ())
    inbound = select(read_field("primaries_tsig")).where(zone.c.spec.contains('"primaries_tsig":', autoescape=True))
    keys.update(key for key in (await connection.execute(inbound)).scalars() if is_text(key))
    return frozenset(keys)


def _named_keys(text: str) -> Iterator[str]:
    """The keys in the JSON of a transfer or of update rules; none of what cannot be read."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        value = json.loads(text)
        for entry in value if isinstance(value, list) else [value]:
            if is_text(key := entry["tsig"]):
                yield key


def keys_of(item: Client) -> Iterator[str]:
    """The TSIG keys that identify a client."""
    return (match.value for match in item.match if match.step is Step.TSIG)


def _keys(item: SiteObject | None) -> frozenset[str]:
    return frozenset(keys_of(item)) if isinstance(item, Client) else frozenset()


def _transfer(item: SiteObject | None) -> frozenset[str]:
    return item.tsig_keys if isinstance(item, Zone) else frozenset()


def _mentioned_keys(clients: Iterable[Client], zones: Iterable[Zone]) -> list[str]:
    return sorted({*_mentioned(Step.TSIG, clients)}.union(*(served.tsig_keys for served in zones)))


def _mentioned(step: Step, clients: Iterable[Client]) -> list[str]:
    return sorted({match.value for item in clients for match in item.match if match.step is step})


async def _zones_of_removed_keys(
    connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change]
) -> list[Zone]:
    """Some of the zones whose transfers or updates use a TSIG key that these changes remove."""
    zones: dict[str, Zone] = {}
    for name in (change.name for change in changes if change.kind == "tsig" and change.action == "-"):
        users = select(zone).where(zone.c.spec.contains(f'tsig":"{name}"', autoescape=True)).limit(20)
        for row in await connection.execute(users):
            user = read_row("zone", row, kek)
            if isinstance(user, Zone):
                zones[user.name] = user
    return list(zones.values())


async def _names(connection: AsyncConnection, table: Any, wanted: Sequence[str] | None) -> list[str]:
    if wanted is None:
        return list((await connection.execute(select(table.c.name))).scalars())
    names: list[str] = []
    for some in in_batches(wanted, BATCH):
        names += (await connection.execute(select(table.c.name).where(table.c.name.in_(some)))).scalars()
    return names


async def _orphans(connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change]) -> list[Client]:
    """Some of the clients that refer to a tier, TSIG key or DNS token which these changes remove."""
    removed = [change for change in changes if change.action == "-"]
    tiers = [change.name for change in removed if change.kind == "tier"]
    steps = {kind: step.value for step, kind in OBJECT_STEPS.items()}
    keys = [(steps[change.kind], change.name) for change in removed if change.kind in steps]
    pair = tuple_(client_match.c.step, client_match.c.value)
    queries = [select(client).where(client.c.tier.in_(some)) for some in in_batches(sorted(tiers), BATCH)]
    for some in in_batches(sorted(keys), BATCH):
        users = select(client_match.c.client).where(pair.in_(some))
        queries.append(select(client).where(client.c.name.in_(users)))
    orphans: dict[str, Client] = {}
    for query in (query.limit(20) for query in queries):
        for row in await connection.execute(query):
            orphan = read_row("client", row, kek)
            if isinstance(orphan, Client):
                orphans[orphan.name] = orphan
    return list(orphans.values())


def _after(changes: Iterable[Change], kind: type[T]) -> Iterator[T]:
    return (change.after for change in changes if isinstance(change.after, kind))
