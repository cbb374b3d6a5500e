"""/explain: how a requester is identified, its answer, and where its addresses lead. It changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER, confirm, demand_seen
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.queries import AddressText, Port, Text, read_body
from dnsvip.admin.http.work import aside, small_turn
from dnsvip.admin.node import NODE
from dnsvip.admin.operations.deciders import DECIDERS
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.routes import rule_label
from dnsvip.dispatcher.simulate import SimulatedFlow, simulate
from dnsvip.dispatcher.verify.explain import verdict_json
from dnsvip.dns.explain import WHY, Answered, Explanation, Question, Trial, explain
from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.identity.identify import Ecs, Requester
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import STRICT, Client, DnsName, Site, Step
from dnsvip.site.plain import JsonObject, canonical_name
from dnsvip.site.references import closest
from dnsvip.site.rights import Action

FLOW_PORT, SERVICE_PORT = 50_000, 443
MANY = 1000
"""Servers in an answer that is written by a thread, where there are more."""

SOMEBODY = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8::1")}
"""Where the example connection comes from, where nothing of the question is of the answer's IP version."""


def _checked_ecs(text: str) -> str:
    read_ecs(text)
    return text


def read_ecs(text: str) -> Ecs:
    """ADDRESS/LENGTH as a claim of EDNS Client Subnet; without a length the whole address. Raises ValueError."""
    address, slash, length = text.partition("/")
    try:
        read = ip_address(address)
    except ValueError:
        raise ValueError("must be ADDRESS/LENGTH, such as 198.51.100.0/24") from None
    bits = read.max_prefixlen
    if slash and not (length.isascii() and length.isdigit() and len(length) < 4 and int(length) <= bits):
        raise ValueError(f"must end in a length from 0 to {bits}")
    source_prefix = int(length) if slash else bits
    return Ecs(type(read)(int(read) >> bits - source_prefix << bits - source_prefix), source_prefix)


@dataclass(frozen=True, slots=True)
class Explain:
    """What is asked and by whom. `source` is who sends the query, mostly a resolver; `ecs` what it says of its client;
    `tsig` (a key's name), `tls` (a name in a certificate) and `token` (a DNS token's name) are taken for verified; the
    last two come over an encrypted `transport`, by default tls. An example connection to each address of the answer
    comes from `flow_source` (by default the ECS address, else the source) and `flow_port` to `service_port`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    qname: DnsName
    source: AddressText
    qtype: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,32}$")] = "AAAA"
    ecs: Annotated[str, Field(max_length=64, examples=["198.51.100.0/24"]), AfterValidator(_checked_ecs)] | None = None
    tsig: Text | None = None
    tls: Text | None = None
    token: Text | None = None
    transport: Transport | None = None
    listener: Text = "default"
    flow_source: AddressText | None = None
    flow_port: Port = FLOW_PORT
    service_port: Port = SERVICE_PORT


async def by_query(request: web.Request) -> web.Response:
    """How a requester is identified and why, its answer, and where that leads."""
    return await _explained(request, query_of(request, Explain))


async def by_body(request: web.Request) -> web.Response:
    """How a requester is identified and why, its answer, and where that leads."""
    asked = await read_body(request, "explain", Explain)
    await confirm(request)
    return await _explained(request, asked)


async def _explained(request: web.Request, asked: Explain) -> web.Response:
    node, deciders = request.app[NODE], request.app[DECIDERS]
    engine, tables = await deciders.engine(), await deciders.tables()
    ecs, names = read_ecs(asked.ecs) if asked.ecs else None, (asked.tls.lower(),) if asked.tls else ()
    transport = asked.transport or (Transport.TLS if asked.tls or asked.token else Transport.UDP)
    requester = Requester(asked.source, asked.listener, ecs, asked.tsig, names, asked.token, transport=transport)
    demand_seen(request, "explain", "tsig", asked.tsig and canonical_name("tsig", asked.tsig))
    demand_seen(request, "explain", "dns_token", asked.token)
    if (asked.tls or asked.token) and not transport.encrypted:
        text = f"neither a certificate nor a DNS token comes over {transport}; use tls, https, quic or h3"
        raise InvalidSite([Problem("explain.transport", text)])
    if asked.token and asked.token not in tables.snapshot.site.dns_tokens:
        text = f"there is no DNS token of the name {asked.token!r}; GET {ROOT}/dns-tokens lists them"
        raise InvalidSite([Problem("explain.token", text)])
    if asked.tsig and asked.tsig.lower().rstrip(".") not in tables.snapshot.site.tsig_keys:
        raise InvalidSite([Problem("explain.tsig", f"there is no TSIG key {asked.tsig!r}; GET {ROOT}/tsig lists them")])
    now = node.now()
    explanation = explain(engine, Question(asked.qname, asked.qtype.upper(), requester), now)
    idle = await _claimants(request, explanation.trials) if explanation.who.step and not explanation.who.client else []
    for name in (explanation.who.client.name if explanation.who.client else None, *idle):
        demand_seen(request, "explain", "client", name)
    _demand_seen(request, asked.qname, explanation, tables.snapshot.site)
    flows = []
    async with small_turn(request):
        for answered in explanation.addresses:  # some milliseconds each: others have their turn between two
            flows.append(_flow(tables, asked, answered, now))
            await asyncio.sleep(0)
    for flow in flows:  # its source may identify another client than its question
        demand_seen(request, "explain", "client", flow["judgement"]["client"])
        demand_seen(request, "explain", "tier", flow["tier"])
    document = {
        "generation": engine.generation,
        "judged_at": now,
        "question": {"qname": asked.qname, "qtype": asked.qtype.upper(), "transport": transport.value},
        "client": _client(explanation.who.client),
        "rule": _rule(explanation, idle),
        "steps": [_step(trial, idle) for trial in explanation.trials],
        "answer": _answer(explanation),
        "flows": flows,
        "drained_nodes": _drained(request),
    }
    large = sum(len(flow["candidates"]) for flow in flows) > MANY
    return await aside(request, bodies.answer, document, large=large)


def _drained(request: web.Request) -> list[str]:
    """The nodes that get none of this traffic, where the caller may see nodes."""
    seen = request[CALLER].rights.allow(Action.READ, "node")
    return sorted(request.app[NODE].snapshot().drained) if seen else []


def _demand_seen(request: web.Request, qname: str, explanation: Explanation, site: Site) -> None:
    """Raise Refusal where the answer tells of a zone, service, cluster or tier that the caller may not see."""
    owners = {line.partition(" ")[0].lower().rstrip(".") or "." for line in explanation.records}
    for name in sorted(owners | {qname}):
        demand_seen(request, "explain", "zone", closest(name, site.zones))
    for name in sorted(owners & site.services.keys()):
        demand_seen(request, "explain", "service", name)
    for answered in explanation.addresses:
        demand_seen(request, "explain", "service", answered.service)
        demand_seen(request, "explain", "cluster", answered.cluster)
        cluster = site.clusters.get(answered.cluster or "")
        who = explanation.who.client
        demand_seen(request, "explain", "tier", who.tier if who else cluster.default_tier if cluster else None)


async def _claimants(request: web.Request, trials: tuple[Trial, ...]) -> list[str]:
    """Whose claim decided, where that client is not enabled: the engine does not tell them apart, the store does."""
    (trial,) = [trial for trial in trials if trial.decided]
    if trial.asked is None or trial.step is Step.GEO:
        return []
    return (await request.app[NODE].store().objects.claimants(trial.step.value, trial.asked))[:1]


def _client(client: Client | None) -> JsonObject | None:
    if client is None:
        return None
    return {"name": client.name, "id": client.id, "tier": client.tier, "state": client.state.value}


def _rule(explanation: Explanation, idle: list[str]) -> JsonObject | None:
    """The step that decided and the matching claim; None for an unidentified requester."""
    trial = next((trial for trial in explanation.trials if trial.decided), None)
    if trial is None:
        return None
    client = explanation.who.client.name if explanation.who.client else next(iter(idle), None)
    return {
        "step": trial.step.value,
        "value": trial.value,
        "client": client,
        "in_use": explanation.who.client is not None,
    }


def _step(trial: Trial, idle: list[str]) -> JsonObject:
    detail = trial.detail.replace("a client that", f"{idle[0]}, which") if trial.decided and idle else trial.detail
    return {
        "step": trial.step.value,
        "asked": trial.asked,
        "decided": trial.decided,
        "value": trial.value,
        "detail": detail,
    }


def _answer(explanation: Explanation) -> JsonObject:
    return {
        "rcode": explanation.rcode,
        "outcome": explanation.outcome,
        "kind": explanation.kind.value if explanation.kind else None,
        "why": WHY[explanation.kind] if explanation.kind else None,
        "ecs_scope": explanation.scope,
        "records": list(explanation.records),
        "left_out": explanation.left_out,
        "addresses": [
            {"address": str(one.address), "ttl": one.ttl, "service": one.service, "cluster": one.cluster}
            for one in explanation.addresses
        ],
    }


def _flow(tables: DispatchTables, asked: Explain, answered: Answered, now: float) -> JsonObject:
    """Where a connection to an address of the answer would go."""
    address = answered.address
    given = [asked.flow_source, read_ecs(asked.ecs).address if asked.ecs else None, asked.source]
    source: Any = next(
        (one for one in given if one is not None and one.version == address.version), SOMEBODY[address.version]
    )
    simulated = simulate(tables, source, asked.flow_port, address, asked.service_port, now)
    verdict = simulated.verdict
    return {
        "address": str(address),
        "source": str(source),
        "port": asked.flow_port,
        "service_port": asked.service_port,
        "action": verdict.action.value,
        "reason": verdict.reason,
        "tier": simulated.address_verdict.tier.name if simulated.address_verdict.tier else None,
        "pool": verdict.server.pool if verdict.server else simulated.route.pool if simulated.route else None,
        "rule": rule_label(simulated.route.rule) if simulated.route else None,
        "server": verdict.server.name if verdict.server else None,
        "dscp": verdict.dscp,
        "priority": simulated.route.priority if simulated.route else None,
        "forward": verdict.mode.value,
        "judgement": verdict_json(address, simulated.address_verdict, simulated.steps),
        "candidates": _candidates(simulated),
    }


def _candidates(simulated: SimulatedFlow) -> list[JsonObject]:
    return [
        {
            "server": one.server.name,
            "address": str(one.server.address),
            "weight": one.server.weight,
            "state": one.server.state.value,
            "share": round(one.share, 4),
        }
        for one in simulated.candidates
    ]


ROUTES = [
    Operation("GET", f"{ROOT}/explain", by_query, "explain", query=Explain),
    Operation("POST", f"{ROOT}/explain", by_body, "explain", does=Action.READ, body=Explain),
]
