"""Which rules the site breaks after changes, inside their transaction.

The rules are checked against the database *after* the changes, so that two operators who change different objects
cannot break a rule together. The cost follows the number of changed objects; only a changed cluster has every client
checked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import OBJECT_STEPS, Client, DnsToken, Pool, Site, Step, TsigKey, Zone
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change, Origin, keep_runtime
from dnsvip.site.registry import SINGLE
from dnsvip.site.rules import check_one, check_site, transfer_key
from dnsvip.site.size import is_large
from dnsvip.site.uniqueness import taken
from dnsvip.site.unreadable import Unreadable
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import is_text, shown
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import client, client_match, dns_token, read_field, tsig, zone
from dnsvip.store.objects.reading import load_pages, load_site
from dnsvip.store.objects.referred import with_referred
from dnsvip.store.objects.routed import check_mentions, displaced, with_mentioned
from dnsvip.store.objects.rows import read_row
from dnsvip.store.secrets.kek import KeyEncryptionKey

T = TypeVar("T")

Stored: TypeAlias = dict[tuple[str, str], tuple[SiteObject | Unreadable, Origin]]


async def broken_rules(
    connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change], stored: Stored
) -> list[Problem]:
    """The problems that the site has, as far as these changes, which are written, may have made them."""
    kinds = {change.kind for change in changes}
    everyone = any(change.kind == "cluster" and change.after is not None for change in changes)
    checked = [*after_of(changes, Zone), *await _zones_of_removed_keys(connection, kek, changes)]
    ruled = [change for change in changes if not _keeps_its_rules(change, stored)]
    clients = [] if everyone else [*after_of(ruled, Client), *await _orphans(connection, kek, changes)]
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
    for token in after_of(changes, DnsToken):
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


def after_of(changes: Iterable[Change], kind: type[T]) -> Iterator[T]:
    """The changed objects of a kind, as they are to be."""
    return (change.after for change in changes if isinstance(change.after, kind))
