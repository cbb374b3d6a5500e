"""/usage and /clients/NAME/usage: what clients have used, summed over the dispatchers of the site."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlencode

from aiohttp import web
from pydantic import ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.operation import ROOT, Operation, Page, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import BIGGEST, PAGE, Limit, number
from dnsvip.admin.node import NODE
from dnsvip.site import STRICT
from dnsvip.site.rights import Action
from dnsvip.store.usage import AMOUNTS, ORDERS, AtNode, InAll


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """At most `limit` clients after the first `after`, in the order `sort` (a leading `-` reverses it)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Limit = PAGE
    after: Annotated[int, *number(0, BIGGEST)] = 0
    sort: Annotated[str, Field(pattern=rf"^-?({'|'.join(ORDERS)})$")] = "-bytes"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one client has used: packets and bytes that were forwarded to servers, flows that it opened, and packets
    that were dropped or answered; in all and at each node. Times in unix seconds."""

    name: str
    packets: int
    bytes: int
    flows: int
    drops: int
    nodes: list[AtNode]


async def list_all(request: web.Request) -> web.Response:
    """What each client has used; clients that have used nothing are left out."""
    query = query_of(request, UsageQuery)
    visible = request[CALLER].rights.patterns(Action.READ, "client")
    items = await request.app[NODE].store().usage.page(query.sort, query.limit + 1, query.after, visible)
    following = {**request.query, "limit": query.limit, "after": query.after + query.limit}
    more = f"{request.path}?{urlencode(following)}" if len(items) > query.limit else None
    return bodies.answer({"items": [asdict(item) for item in items[: query.limit]], "next": more})


async def get(request: web.Request) -> web.Response:
    """What one client has used."""
    name, store = request.match_info["name"], request.app[NODE].store()
    if await store.objects.find("client", name) is None:
        raise Refusal("not-found", f"There is no client {name!r}; GET {ROOT}/clients lists them.")
    nodes = await store.usage.of(name)
    sums = {field: sum(getattr(node, field) for node in nodes) for field in AMOUNTS}
    return bodies.answer(asdict(Usage(name, **sums, nodes=list(nodes))))


ROUTES = [
    Operation("GET", f"{ROOT}/usage", list_all, "client", query=UsageQuery, answer=Page[InAll]),
    Operation("GET", f"{ROOT}/clients/{{name}}/usage", get, "client", answer=Usage),
]
