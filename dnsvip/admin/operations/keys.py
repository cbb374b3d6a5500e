"""/keys: the key epochs of each cluster, rotation, and emergency rotation. No key is ever shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web
from pydantic import ConfigDict, StrictBool

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.changing import GENERATION
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import ShortQuery, read_body, short_page
from dnsvip.admin.node import NODE
from dnsvip.site import STRICT, ClassCluster, Cluster, epochs, rotation
from dnsvip.site.epochs import NodeReport, Reserved
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import Action


@dataclass(frozen=True, slots=True)
class Rotation:
    """Whether all keys are to be destroyed and the new one is active at once, as one of them has leaked."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    emergency: StrictBool = False


async def list_all(request: web.Request) -> web.Response:
    """The epochs of every cluster."""
    store = request.app[NODE].store()
    seen = await _seen(request)
    epochs_of, rights = await store.keys.epochs(), request[CALLER].rights
    clusters = {*epochs_of, *(name for name, cluster in seen.clusters.items() if isinstance(cluster, Cluster))}
    names = [name for name in sorted(clusters) if rights.allow(Action.READ, "key", name)]
    items = [_cluster(name, epochs_of.get(name, ()), seen) for name in names]
    return short_page(request, items, "cluster")


async def get(request: web.Request) -> web.Response:
    """The epochs of one cluster."""
    name, epochs = await _epochs(request)
    return bodies.answer(_cluster(name, epochs, await _seen(request)))


async def rotate(request: web.Request) -> web.Response:
    """Publish a new epoch: it becomes active when every live dispatcher holds it, and the one before retires.

    `{"emergency": true}` makes it active at once and destroys all others.
    """
    name, _ = await _epochs(request)
    node = request.app[NODE]
    wanted = await read_body(request, "rotate", Rotation) if request.can_read_body else Rotation()
    keys = node.store().keys
    change = keys.rotate_at_once if wanted.emergency else keys.rotate
    epoch = await change(name, request[ACTOR], node.now())
    headers = {"Location": f"{ROOT}/keys/{name}", GENERATION: str(epoch.published_generation)}
    return bodies.answer(_shown(epoch, await _seen(request)), status=202, headers=headers)


async def roll_cookies(request: web.Request) -> web.Response:
    """Roll the secret of DNS cookies."""
    generation = await request.app[NODE].store().keys.roll_cookies(request[ACTOR])
    return bodies.answer({"generation": generation}, headers={GENERATION: str(generation)})


async def _epochs(request: web.Request) -> tuple[str, Sequence[Epoch]]:
    """The cluster that a request names, with its epochs: none where its keys were lost, which a rotation mends."""
    name, node = request.match_info["cluster"], request.app[NODE]
    epochs = (await node.store().keys.epochs(name)).get(name, ())
    if not epochs and not isinstance(node.snapshot().site.clusters.get(name), Cluster):
        raise Refusal("not-found", f"There is no IPv6 cluster {name!r}; GET {ROOT}/keys lists those with keys.")
    return name, epochs


@dataclass(frozen=True, slots=True)
class _Seen:
    """What epochs are shown beside: the clusters, the nodes' reports, the slots kept empty, and the time."""

    clusters: Mapping[str, Cluster | ClassCluster]
    nodes: Sequence[NodeReport]
    reserved: Sequence[Reserved]
    now: float


async def _seen(request: web.Request) -> _Seen:
    node = request.app[NODE]
    clusters = node.snapshot().site.clusters
    return _Seen(clusters, await node.store().nodes.all(), await node.store().keys.reserved(), node.now())


def _cluster(name: str, stored: Iterable[Epoch], seen: _Seen) -> JsonObject:
    """A cluster's epochs, its schedule, what is left of its expiry field ("fine", "near" its end, "full"; null without
    one), and the slots that stay empty until addresses of lost keys have died."""
    held, cluster = list(stored), seen.clusters.get(name)
    due = full = field = None
    if isinstance(cluster, Cluster):
        due = epochs.next_rotation(cluster, held)
        active = next((epoch for epoch in held if epoch.state is EpochState.ACTIVE), None)
        full = rotation.full_at(cluster, active) if active else None
        field = rotation.expiry_field(cluster, active, seen.now).value if active and full is not None else None
    kept = [each for each in seen.reserved if each.cluster == name and seen.now < each.until]
    return {
        "cluster": name,
        "rotates_at": due,
        "expiry_full_at": full,
        "expiry_field": field,
        "epochs": [_shown(epoch, seen) for epoch in held],
        "reserved": [{"slot": each.slot, "key_id": each.key_id, "until": each.until} for each in kept],
    }


def _shown(epoch: Epoch, seen: _Seen) -> JsonObject:
    """An epoch without its key. Times are unix seconds; `waiting_for` names the live dispatchers that do not hold it
    yet, `passed_over` the silent ones that did not when they were heard of last."""
    retiring, published = epoch.state is EpochState.RETIRING, epoch.state is EpochState.PUBLISHED
    return {
        "slot": epoch.slot,
        "key_id": epoch.key_id,
        "state": epoch.state.value,
        "generation": epoch.published_generation,
        "published_at": epoch.published_at,
        "activated_at": epoch.activated_at or None,
        "retiring_since": epoch.retiring_since or None,
        "retires_at": epochs.retires_at(epoch) if retiring else None,
        "waiting_for": epochs.waiting_for(epoch, seen.nodes, seen.now) if published else [],
        "passed_over": [] if retiring else epochs.passed_over(epoch, seen.nodes, seen.now),
        "held_by": sorted({node.name for node in seen.nodes if node.is_live(seen.now) and node.holds(epoch)}),
    }


ROUTES = [
    Operation("GET", f"{ROOT}/keys", list_all, "key", query=ShortQuery),
    Operation("GET", f"{ROOT}/keys/{{cluster}}", get, "key", name="cluster"),
    Operation(
        "POST",
        f"{ROOT}/keys/{{cluster}}/rotate",
        rotate,
        "key",
        name="cluster",
        does=Action.ROTATE,
        body=Rotation,
        status=202,
    ),
    Operation("POST", f"{ROOT}/cookies/roll", roll_cookies, "cookies", does=Action.ROTATE),
]
