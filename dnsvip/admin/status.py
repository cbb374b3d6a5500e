"""/status: generation, nodes and counters of the running whole, for people and for scripts that watch it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from dnsvip import __version__
from dnsvip.admin import bodies, nodes
from dnsvip.admin.node import NODE
from dnsvip.admin.operation import ROOT, Operation
from dnsvip.model import Snapshot
from dnsvip.spec import COLLECTIONS, collection

LONGEST = 16 << 20
SECONDS = 1.0


async def get(request: web.Request) -> web.Response:
    """The status as this node and the database know it."""
    node = request.app[NODE]
    snapshot, store = node.snapshot(), node.store()
    return bodies.answer(
        {
            "version": __version__,
            "generation": await store.generation(),
            "served_generation": snapshot.generation,
            "objects": sizes(snapshot),
            "nodes": await nodes.shown(node),
            "dns": dict(node.dns()),
            "dispatcher": await ask_dispatcher(node.dispatcher),
        }
    )


async def ask_dispatcher(path: Path) -> Any:
    """What this machine's dispatcher tells of itself; None where none runs, {"error": ...} where it does not answer.

    One of version 0.1 answers with the document alone; later ones put a line with their protocol's version before it.
    """
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LONGEST)
            try:
                with suppress(ConnectionError):  # one of version 0.1 may have closed already
                    writer.write(b'{"do": "status"}\n')
                lines = (await _read_all(reader)).splitlines()
                return json.loads(lines[1] if len(lines) > 1 else b"".join(lines))
            finally:
                writer.close()
    except (FileNotFoundError, ConnectionRefusedError):  # a socket file nobody listens on is left by a killed one
        return None
    except (OSError, TimeoutError, ValueError) as error:
        return {"error": str(error) or f"no answer within {SECONDS} s"}


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    document = bytearray()
    while chunk := await reader.read(1 << 16):
        document += chunk
        if len(document) > LONGEST:
            raise ValueError(f"more than {LONGEST} bytes")
    return bytes(document)


def sizes(snapshot: Snapshot) -> dict[str, int]:
    """How many objects of each kind a snapshot holds."""
    return {attribute: len(collection(snapshot.site, kind)) for kind, attribute in COLLECTIONS.items()}


ROUTES = [Operation("GET", f"{ROOT}/status", get, "status")]
