"""/decode: what an address carries and whether it may open a flow, by this node's snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import ClassVar

from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import confirm, demand_seen
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.queries import AddressText, FlowLabel, Port, read_body
from dnsvip.admin.node import NODE
from dnsvip.admin.operations.deciders import DECIDERS
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.explain import verdict_json
from dnsvip.site import STRICT, Tier
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import Action


@dataclass(frozen=True, slots=True)
class Decode:
    """The address to decode, where the packet comes from, which matters for a proven one, and its flow label."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    address: AddressText
    source: AddressText = field(default=IPv6Address(0))
    port: Port = 0
    label: FlowLabel = 0


async def by_query(request: web.Request) -> web.Response:
    """What an address carries, step by step, and whether it may open a flow."""
    return await _decoded(request, query_of(request, Decode))


async def by_body(request: web.Request) -> web.Response:
    """What an address carries, step by step, and whether it may open a flow."""
    asked = await read_body(request, "decode", Decode)
    await confirm(request)
    return await _decoded(request, asked)


async def _decoded(request: web.Request, asked: Decode) -> web.Response:
    return bodies.answer(await told(request, asked))


async def told(request: web.Request, asked: Decode) -> JsonObject:
    """What an address carries; raises Refusal where that tells of what the caller may not see."""
    verifier = (await request.app[DECIDERS].tables()).verifier
    node, address = request.app[NODE], asked.address
    now = node.now()
    verdict = verifier.verify(int(address), int(asked.source), asked.port, now, label=asked.label)
    demand_seen(request, "decode", "cluster", verdict.cluster.name if verdict.cluster else None, must=True)
    demand_seen(request, "decode", "client", verdict.record.name if verdict.record else None)
    for tier in _tiers(node.snapshot().site.tiers.values(), verdict):
        demand_seen(request, "decode", "tier", tier)
    answer = verdict_json(address, verdict, verifier.explain(verdict, int(address), now))
    return {**answer, "generation": node.snapshot().generation}


def _tiers(tiers: Iterable[Tier], verdict: AddressVerdict) -> set[str]:
    """The tier of a verdict, and the one whose code the address carries."""
    carried = verdict.values.get("tier")
    names = {tier.name for tier in tiers if tier.code == carried}
    return names | ({verdict.tier.name} if verdict.tier else set())


ROUTES = [
    Operation("GET", f"{ROOT}/decode", by_query, "decode", query=Decode),
    Operation("POST", f"{ROOT}/decode", by_body, "decode", does=Action.READ, body=Decode),
]
