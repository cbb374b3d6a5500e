"""/keys: the key epochs of each cluster, and rotating them. No key is ever shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aiohttp import web

from dnsvip import epochs
from dnsvip.admin import bodies
from dnsvip.admin.auth import ACTOR
from dnsvip.admin.collection import GENERATION, ROOT
from dnsvip.admin.node import NODE
from dnsvip.admin.problems import Refusal
from dnsvip.codec.keyring import Epoch, EpochState
from dnsvip.epochs import NodeReport
from dnsvip.spec import Plain


async def list_all(request: web.Request) -> web.Response:
    """The epochs of every cluster."""
    node = request.app[NODE]
    held, nodes = await node.store().epochs(), await node.store().nodes()
    items = [_cluster(name, found, nodes, node.now()) for name, found in sorted(held.items())]
    return bodies.answer({"items": items, "next": None})


async def get(request: web.Request) -> web.Response:
    """The epochs of one cluster."""
    name, found = await _epochs(request)
    node = request.app[NODE]
    return bodies.answer(_cluster(name, found, await node.store().nodes(), node.now()))


async def rotate(request: web.Request) -> web.Response:
    """Publish a new epoch: it becomes active when every live dispatcher holds it, and the one before retires."""
    name, _ = await _epochs(request)
    node = request.app[NODE]
    made = await node.store().rotate(name, request[ACTOR], node.now())
    headers = {"Location": f"{ROOT}/keys/{name}", GENERATION: str(made.published_generation)}
    shown = _shown(made, await node.store().nodes(), node.now())
    return bodies.answer(shown, status=202, headers=headers)


async def roll_cookies(request: web.Request) -> web.Response:
    """Make DNS cookies with the next secret."""
    generation = await request.app[NODE].store().roll_cookies(request[ACTOR])
    return bodies.answer({"generation": generation}, headers={GENERATION: str(generation)})


async def _epochs(request: web.Request) -> tuple[str, Sequence[Epoch]]:
    name = request.match_info["cluster"]
    found = (await request.app[NODE].store().epochs(name)).get(name)
    if not found:
        raise Refusal("not-found", f"There is no IPv6 cluster {name!r}; GET {ROOT}/keys lists those with keys.")
    return name, found


def _cluster(name: str, found: Iterable[Epoch], nodes: Sequence[NodeReport], now: float) -> Plain:
    return {"cluster": name, "epochs": [_shown(epoch, nodes, now) for epoch in found]}


def _shown(epoch: Epoch, nodes: Sequence[NodeReport], now: float) -> Plain:
    """An epoch without its key. Times are unix seconds; `waiting_for` names dispatchers that do not hold it yet."""
    retiring, published = epoch.state is EpochState.RETIRING, epoch.state is EpochState.PUBLISHED
    return {
        "slot": epoch.slot,
        "state": epoch.state.value,
        "generation": epoch.published_generation,
        "published_at": epoch.published_at,
        "activated_at": epoch.activated_at or None,
        "retiring_since": epoch.retiring_since or None,
        "retires_at": epochs.retires_at(epoch) if retiring else None,
        "waiting_for": epochs.waiting_for(epoch, nodes, now) if published else [],
    }


ROUTES = [
    web.get(f"{ROOT}/keys", list_all),
    web.get(f"{ROOT}/keys/{{cluster}}", get),
    web.post(f"{ROOT}/keys/{{cluster}}/rotate", rotate),
    web.post(f"{ROOT}/cookies/roll", roll_cookies),
]
