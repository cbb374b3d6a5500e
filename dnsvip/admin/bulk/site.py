"""/apply: a whole site in one call, planned against what is stored and put in its place in one transaction.

It is `dnsvip apply` over HTTP: the body is the site file as JSON, its zones with their `text`. What a site file made
and the body does not name is removed; what the API made, and what is set at run time, stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any, ClassVar, cast

import structlog
from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR
from dnsvip.admin.http.changing import GENERATION, TRIES
from dnsvip.admin.http.json_objects import parse_object
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import Flag
from dnsvip.admin.http.work import run, turn
from dnsvip.admin.node import NODE
from dnsvip.dns.zones.catalog import check_services
from dnsvip.dns.zones.delta import zone_change
from dnsvip.dns.zones.zone import check_zone, serial_warnings
from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site import STRICT, Site, Zone
from dnsvip.site.changes import describe
from dnsvip.site.plain import JsonObject
from dnsvip.site.plan import Change, effects, plan
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.rules import warnings
from dnsvip.site.site_file import build_site
from dnsvip.store import Store
from dnsvip.store.store import StoreAccess
from dnsvip.store.zones.journal import in_thread

SHOWN = 1000

SMALL, SMALL_SITE = 1 << 14, 1000
"""Bytes of a body, and clients of the stored site, that are worked on by a thread."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ApplyQuery:
    """With `dry_run` all is checked and shown, and nothing changed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    dry_run: Flag = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What changed, or would: at most the first 1000 `changes` with their fields, old and new; `number` counts all."""

    generation: int
    applied: bool
    number: int
    changes: list[dict[str, Any]]
    warnings: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply answers, how many changes it made, and the generation that has them."""

    outcome: JsonObject
    changes: int
    generation: int


async def apply(request: web.Request) -> web.Response:
    """Make the stored site match the body, in one transaction; with dry_run only report the changes."""
    dry_run, limits = query_of(request, ApplyQuery).dry_run, limits_of(request)
    if request.content_type not in bodies.JSON_TYPES:
        raise Refusal("unsupported-media-type", f"Content-Type must be {bodies.JSON_TYPES[0]}.")
    store, clients = request.app[NODE].store(), request.app[NODE].snapshot().site.clients
    async with turn(request), bodies.spooled(request, limits.apply_bytes) as (file, size):
        if size <= SMALL and len(clients) <= SMALL_SITE:
            done = await applied(store, request[ACTOR], dry_run, file)
        else:
            seconds = limits.transfer_seconds
            wanted = store.access, request[ACTOR], dry_run
            done = await run(request, applied_apart, *wanted, seconds=seconds, files=(file,))
    if done.changes and not dry_run:
        log.info("site applied", actor=request[ACTOR], changes=done.changes, generation=done.generation)
    headers = {GENERATION: str(done.generation)} if done.changes and not dry_run else {}
    return bodies.answer(done.outcome, headers=headers)


async def applied_apart(access: StoreAccess, actor: str, dry_run: bool, file: IO[bytes]) -> Applied:
    """`applied` in a process of its own."""
    async with Store.joined(access, in_thread(zone_change)) as store:
        return await applied(store, actor, dry_run, file)


async def applied(store: Store, actor: str, dry_run: bool, file: IO[bytes]) -> Applied:
    """Read the site in a file, and make the stored site match it. Raises Refusal and InvalidSite."""
    wanted = await asyncio.to_thread(lambda: _checked(parse_object(file.read())))
    for attempt in range(TRIES):
        stored = await store.objects.stored()
        changes = await asyncio.to_thread(plan, stored.site, wanted, stored.origins, stored.unreadable)
        try:
            made = await store.objects.make(changes, actor, "site", expected=stored.generation, dry_run=dry_run)
            break
        except Conflict:
            if attempt + 1 == TRIES or await store.generation() == stored.generation:
                raise
    changes = tuple(made.changes)
    outcome = await asyncio.to_thread(_outcome, wanted, changes, made.generation, applied=bool(changes) and not dry_run)
    return Applied(outcome, len(changes), made.generation)


def _checked(body: JsonObject) -> Site:
    site = build_site(body)
    problems = [problem for zone in site.zones.values() for problem in check_zone(zone)] or check_services(site)
    if problems:
        raise InvalidSite(problems)
    return site


def _outcome(site: Site, changes: tuple[Change, ...], generation: int, *, applied: bool) -> JsonObject:
    remarks = [*warnings(site), *effects(changes), *_serials(changes)]
    return {
        "generation": generation,
        "applied": applied,
        "number": len(changes),
        "changes": [describe(change) for change in changes[:SHOWN]],
        "warnings": [{"where": remark.where, "message": remark.message} for remark in remarks],
    }


def _serials(changes: Iterable[Change]) -> list[Problem]:
    zones = (change for change in changes if change.kind == "zone")
    return serial_warnings((cast("Zone | None", change.before), cast("Zone | None", change.after)) for change in zones)


_TABLE = {"type": "object", "additionalProperties": {"type": "object"}}
FORM = {
    "application/json": {
        "type": "object",
        "description": "The tables of a site file as JSON; zones have `text` in place of `file`.",
        "properties": {**dict.fromkeys(COLLECTIONS, _TABLE), SINGLE: {"type": "object"}},
        "additionalProperties": False,
    }
}

ROUTES = [Operation("POST", f"{ROOT}/apply", apply, "site", query=ApplyQuery, body=FORM, answer=Outcome)]
