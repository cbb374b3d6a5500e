"""/apply: a whole site in one call, planned against what is stored and put in its place in one transaction.

It is `dnsvip apply` over HTTP: the body is the site file as JSON, its zones with their `text`. What a site file made
and the body does not name is removed; what the API made, and what is set at run time, stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import structlog
from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR
from dnsvip.admin.http.collection import GENERATION, TRIES
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.queries import Flag
from dnsvip.admin.node import NODE
from dnsvip.dns.zones.catalog import check_services
from dnsvip.dns.zones.zone import check_zone, serial_warnings
from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site import STRICT, Site, Zone
from dnsvip.site.changes import describe
from dnsvip.site.plain import JsonObject
from dnsvip.site.plan import Change, effects, plan
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.rules import warnings
from dnsvip.site.site_file import build_site

LIMIT = 256 << 20
SHOWN = 1000

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


async def apply(request: web.Request) -> web.Response:
    """Make the stored site match the body, in one transaction; with dry_run only report the changes."""
    dry_run = query_of(request, ApplyQuery).dry_run
    body = await bodies.read_object(request, LIMIT)
    wanted = await asyncio.to_thread(_checked, body)
    store = request.app[NODE].store()
    for attempt in range(TRIES):
        stored = await store.objects.stored()
        changes = await asyncio.to_thread(plan, stored.site, wanted, stored.origins)
        try:
            generation = await store.objects.apply(
                changes, request[ACTOR], "site", expected=stored.generation, dry_run=dry_run
            )
            break
        except Conflict:
            if attempt + 1 == TRIES or await store.generation() == stored.generation:
                raise
    applied = bool(changes) and not dry_run
    if applied:
        log.info("site applied", actor=request[ACTOR], changes=len(changes), generation=generation)
    headers = {GENERATION: str(generation)} if applied else {}
    return bodies.answer(_outcome(wanted, changes, generation, applied=applied), headers=headers)


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
