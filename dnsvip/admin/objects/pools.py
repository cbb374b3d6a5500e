"""/pools, and /pools/POOL/servers: one server's weight and state can be changed without naming the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias, cast

from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies, standby
from dnsvip.admin.http.changing import Outcome, change
from dnsvip.admin.http.collection import routes
from dnsvip.admin.http.operation import ROOT, Operation, Page, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.resource import Resource, absent, name_of
from dnsvip.admin.http.shown import page_response, shown_response
from dnsvip.admin.http.work import aside
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import STRICT, Pool, Server, ServerState
from dnsvip.site.plain import JsonObject, SiteObject, check_counts, dump, merged, parse
from dnsvip.site.registry import KINDS
from dnsvip.site.size import is_large


@dataclass(frozen=True, slots=True)
class ServersQuery:
    """Those in a `state` only."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    state: ServerState | None = None


POOL = Resource(KINDS["pool"])

Edit: TypeAlias = Callable[[list[JsonObject], JsonObject | None], None]
"""Changes a pool's list of servers; the second argument is the named server in it, None where there is none."""


async def list_servers(request: web.Request) -> web.Response:
    """All servers of a pool, or those in a state."""
    state = query_of(request, ServersQuery).state
    pool = await _pool(request)

    def shown() -> web.Response:
        servers = [server for server in _servers(pool) if state in (None, server["state"])]
        return page_response(request, servers, None)

    return await aside(request, shown, large=is_large(pool))


async def get_server(request: web.Request) -> web.Response:
    """One server."""
    server = _server(await _pool(request), request.match_info["server"])
    if server is None:
        raise _absent(request)
    return shown_response(server)


async def put_server(request: web.Request) -> web.Response:
    """Add a server, or replace it; a state that the body does not name stays."""
    body = await _named_body(request)

    def edit(servers: list[JsonObject], stored: JsonObject | None) -> None:
        if stored is None:
            servers.append(body)
        else:
            servers[servers.index(stored)] = {"state": stored["state"], **body}

    return await _edit(request, edit)


async def patch_server(request: web.Request) -> web.Response:
    """Change what the body names of a server."""
    body = await _named_body(request)

    def edit(servers: list[JsonObject], stored: JsonObject | None) -> None:
        if stored is None:
            raise _absent(request)
        servers[servers.index(stored)] = merged(stored, body)

    return await _edit(request, edit)


async def delete_server(request: web.Request) -> web.Response:
    """Remove a server from its pool."""

    def edit(servers: list[JsonObject], stored: JsonObject | None) -> None:
        if stored is None:
            raise _absent(request)
        servers.remove(stored)

    return await _edit(request, edit)


async def _edit(request: web.Request, edit: Edit) -> web.Response:
    name, server = name_of(POOL, request), request.match_info["server"]

    def make(before: SiteObject | None) -> SiteObject:
        if before is None:
            raise absent(POOL, name)
        plain = dump(before)
        edit(plain["servers"], _find(plain["servers"], server))
        check_counts("pool", name, plain, before)
        return _parse_pool(name, plain)

    def seen(pool: SiteObject) -> JsonObject | None:
        return _server(cast("Pool", pool), server)

    return _answer(request, await change(POOL, request, name, make, seen))


def _answer(request: web.Request, outcome: Outcome) -> web.Response:
    server = request.match_info["server"]
    before, after = (_server(cast("Pool", pool), server) for pool in (outcome.before, outcome.after))
    if after is None:
        return web.Response(status=204, headers=outcome.headers)
    if before is not None:
        return shown_response(after, outcome.headers)
    return shown_response(after, {**outcome.headers, "Location": request.path}, status=201)


def _parse_pool(name: str, plain: JsonObject) -> SiteObject:
    try:
        return parse("pool", name, plain, counted=True)
    except InvalidSite as error:
        raise InvalidSite([_by_name(problem, plain["servers"]) for problem in error.problems]) from None


def _by_name(problem: Problem, servers: list[JsonObject]) -> Problem:
    """The problem with its server named instead of numbered, as the requester sees one server only."""
    for number, server in enumerate(servers):
        head, separator, tail = problem.where.partition(f".servers.{number}.")
        if separator:
            return Problem(f"{head}.servers.{server.get('name')}.{tail}", problem.message)
    return problem


async def _pool(request: web.Request) -> Pool:
    name = name_of(POOL, request)
    pool = await standby.stored(request, "pool", name)
    if pool is None:
        raise absent(POOL, name)
    return cast("Pool", pool)


def _servers(pool: Pool) -> list[JsonObject]:
    return cast("list[JsonObject]", dump(pool)["servers"])


def _server(pool: Pool, name: str) -> JsonObject | None:
    """One server as it is shown; the others are not written out."""
    found = next((server for server in pool.servers if server.name == name), None)
    return None if found is None else _servers(replace(pool, servers=(found,)))[0]


def _find(servers: list[JsonObject], name: str) -> JsonObject | None:
    return next((server for server in servers if server["name"] == name), None)


async def _named_body(request: web.Request) -> JsonObject:
    body, server = await bodies.read_object(request), request.match_info["server"]
    if body.get("name", server) != server:
        where = f"pool.{name_of(POOL, request)}.servers.{server}.name"
        raise InvalidSite([Problem(where, f"is {body['name']!r}, but the path says {server!r}; names do not change")])
    return {**body, "name": server}


def _absent(request: web.Request) -> Refusal:
    pool, server = request.match_info["name"], request.match_info["server"]
    return Refusal("not-found", f"Pool {pool!r} has no server {server!r}; GET {ROOT}/pools/{pool}/servers lists them.")


_SERVER = f"{ROOT}/pools/{{name}}/servers/{{server}}"

_LIST = f"{ROOT}/pools/{{name}}/servers"

ROUTES = [
    *routes(POOL),
    Operation("GET", _LIST, list_servers, "pool", query=ServersQuery, answer=Page[Server]),
    Operation("GET", _SERVER, get_server, "pool", answer=Server),
    Operation("PUT", _SERVER, put_server, "pool", body=Server, answer=Server),
    Operation("PATCH", _SERVER, patch_server, "pool", body=JsonObject, answer=Server),
    Operation("DELETE", _SERVER, delete_server, "pool", status=204),
]
