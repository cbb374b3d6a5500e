"""/status: generation, nodes and counters of the running site, for people and for monitoring."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from dnsvip import __version__
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.narrowing import narrowed
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.slices import batch_of, in_slices
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.operations import nodes
from dnsvip.site import Snapshot, Zone
from dnsvip.site.plain import JsonObject, collection
from dnsvip.site.refreshes import RefreshState
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rights import Action, Rights, fits_any

log = structlog.get_logger(__name__)

LONGEST = 16 << 20
SECONDS = 1.0


async def get(request: web.Request) -> web.Response:
    """The status as this node and the database know it."""
    node, rights = request.app[NODE], request[CALLER].rights
    snapshot, seen, fleet = node.snapshot(), narrowed(rights, "status"), await nodes.fleet(node)
    dispatcher = await ask_dispatcher(node.dispatcher)
    return bodies.answer(
        {
            "version": __version__,
            "generation": fleet.generation,
            "served_generation": snapshot.generation,
            "objects": {**sizes(snapshot), **await narrowed_sizes(node, rights)},
            "troubles": fleet.troubles,
            "nodes": [nodes.as_seen(process, seen) for process in fleet.processes],
            "secondaries": await secondaries(node, rights),
            "dns": shown_or_named("dns", lambda: seen.document(dict(node.dns()))),
            "dispatcher": shown_or_named("dispatcher", lambda: seen.document(dispatcher)),
        }
    )


async def secondaries(node: Node, rights: Rights) -> list[JsonObject]:
    """The secondary zones that a caller may see: what is stored of each, when it was last found to be the newest, and
    what is wrong."""
    patterns = rights.patterns(Action.READ, "zone", _look(rights))
    zones, states = node.snapshot().site.zones, await node.store().refreshes.all()
    return [
        _secondary(states.get(name) or RefreshState(name), zone)
        async for batch in in_slices(sorted(zones.items()), batch_of(patterns))
        for name, zone in batch
        if zone.is_secondary and (patterns is None or fits_any("zone", name, patterns))
    ]


def _secondary(state: RefreshState, zone: Zone) -> JsonObject:
    return {
        "zone": zone.name,
        "serial": state.serial,
        "primary": state.primary or None,
        "checked_at": state.checked_at if state.serial is not None else None,
        "next_at": state.next_at or None,
        "expires_at": state.expires_at,
        "error": state.error or None,
    }


def shown_or_named(part: str, show: Callable[[], Any]) -> Any:
    """A part of the status; {"error": ...} where that cannot be shown, so that the other parts are."""
    try:
        return show()
    except Exception as error:  # noqa: BLE001 - whatever a part counts or tells, the others must be shown
        log.error("a part of the status cannot be shown", part=part, error=repr(error))
        return {"error": f"cannot be shown: {type(error).__name__}; the node's log has more"}


async def ask_dispatcher(path: Path) -> Any:
    """The status of this machine's dispatcher; None where none runs, {"error": ...} where it does not answer.

    One of version 0.1 answers with the document alone; later ones put a line with their protocol's version before it.
    """
    try:
        async with asyncio.timeout(SECONDS):
            lines = (await _asked(path)).splitlines()
        return json.loads(lines[1] if len(lines) > 1 else b"".join(lines))
    except (FileNotFoundError, ConnectionRefusedError):  # a socket file nobody listens on is left by a killed one
        return None
    except (OSError, TimeoutError, ValueError, RecursionError) as error:
        return {"error": str(error) or f"no answer within {SECONDS} s"}


async def _asked(path: Path) -> bytes:
    """All that is answered. One of version 0.1 closes without having read the request, which resets the connection."""
    loop = asyncio.get_running_loop()
    document = bytearray()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, str(path))
        with suppress(ConnectionError):
            await loop.sock_sendall(connection, b'{"do": "status"}\n')
        with suppress(ConnectionResetError):
            while chunk := await loop.sock_recv(connection, 1 << 16):
                document += chunk
                if len(document) > LONGEST:
                    raise ValueError(f"more than {LONGEST} bytes")
    return bytes(document)


def seen_kinds(rights: Rights) -> list[str]:
    """The kinds of objects whose number a caller sees: with a right to the status all, else those it may read."""
    return [kind for kind in COLLECTIONS if _look(rights) or rights.allow(Action.READ, kind)]


async def narrowed_sizes(node: Node, rights: Rights) -> dict[str, int]:
    """How many objects there are of the kinds that a caller's scopes are narrowed in: those that fit them."""
    narrow = {kind: rights.patterns(Action.READ, kind, _look(rights)) for kind in seen_kinds(rights)}
    store = node.store()
    return {
        COLLECTIONS[kind]: await store.objects.count(kind, patterns)
        for kind, patterns in narrow.items()
        if patterns is not None
    }


def _look(rights: Rights) -> str | None:
    return "status" if rights.allow(Action.READ, "status") else None


def sizes(snapshot: Snapshot) -> dict[str, int]:
    """How many objects of each kind a snapshot holds."""
    return {attribute: len(collection(snapshot.site, kind)) for kind, attribute in COLLECTIONS.items()}


ROUTES = [Operation("GET", f"{ROOT}/status", get, "status")]
