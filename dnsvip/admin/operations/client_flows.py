"""/clients/NAME/flows: the flows of a client in the table of this machine's dispatcher.

A dispatcher may have a million flows, each of which is decoded: one question at a time, of a second, asks for the first
flows that match.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER, demand, demand_seen
from dnsvip.admin.http.narrowing import narrowed
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.queries import number
from dnsvip.admin.http.work import locked, turn
from dnsvip.admin.node import NODE
from dnsvip.errors import PlatformError
from dnsvip.site import STRICT
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import Action

MOST = 100
SECONDS, PATIENCE = 1, 2.5
"""Seconds that the dispatcher looks, and that it is waited for."""

LONGEST_LINE = 1 << 16
ASKING = web.AppKey("asking for flows", asyncio.Lock)


@dataclass(frozen=True, slots=True)
class FlowsQuery:
    """At most `limit` flows."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Annotated[int, *number(1, MOST)] = 20


@dataclass(slots=True)
class ClientFlows:
    """The first flows that were found, and how many there are; more where the table was not read to its end (`whole`).
    `error`: why the dispatcher does not tell, "none" where there is none on this machine."""

    items: list[JsonObject] = field(default_factory=list)
    flows: int = 0
    whole: bool = False
    error: str | None = None


async def get(request: web.Request) -> web.Response:
    """The flows of a client at this machine's dispatcher, with their true sources: it takes a right to the client and
    one to the status."""
    name, limit = request.match_info["name"], query_of(request, FlowsQuery).limit
    demand(request, Action.READ, "status")
    demand_seen(request, "status", "client", name, must=True)
    asked = {"do": "flows", "match": {"client": name}, "limit": limit, "seconds": SECONDS}
    async with turn(request), locked(request, request.app[ASKING], "the flow table"):
        found = await _found(request.app[NODE].dispatcher, asked)
    found.items = narrowed(request[CALLER].rights, "status").document(found.items)
    return bodies.answer(asdict(found))


async def _found(path: Path, asked: JsonObject) -> ClientFlows:
    found = ClientFlows()
    try:
        async with asyncio.timeout(PATIENCE):
            await _read(path, asked, found)
    except (FileNotFoundError, ConnectionRefusedError):  # a socket file nobody listens on is left by a killed one
        found.error = "none"
    except PlatformError as error:
        found.error = str(error)
    except (OSError, TimeoutError, ValueError) as error:
        found.error = str(error) or f"no answer within {PATIENCE} s"
    return found


async def _read(path: Path, asked: JsonObject, found: ClientFlows) -> None:
    """Read an answer line by line; raises PlatformError where the dispatcher refuses."""
    reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
    try:
        writer.write(json.dumps(asked).encode() + b"\n")
        while line := await reader.readline():
            document: dict[str, Any] = json.loads(line)
            if "error" in document:
                raise PlatformError(str(document["error"]))
            if "flow" in document and len(found.items) < asked["limit"]:
                found.items.append(document["flow"])
            if "end" in document:
                found.flows, found.whole = int(document["flows"]), not document.get("cut")
                return
    finally:
        writer.close()


def prepare(app: web.Application) -> None:
    """Give an application the lock that questions wait for."""
    app[ASKING] = asyncio.Lock()


ROUTES = [Operation("GET", f"{ROOT}/clients/{{name}}/flows", get, "client", query=FlowsQuery, answer=ClientFlows)]
