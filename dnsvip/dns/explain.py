"""An answer explained: which steps tried to identify the requester, which one did, what was answered and why.

Nothing is decided here. The serving engine is asked, with its own tables; the message is the answer section of the one
it would send, read back. Of a large set it is some records: who asks has the process that answers DNS wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice

import dns.edns
import dns.exception
import dns.message
import dns.rdata
import dns.rdatatype
import dns.rdtypes.svcbbase

from dnsvip.dns.asked import ecs_of
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.identify import Address, Classified, Ecs, Requester
from dnsvip.dns.protocol.builder import build
from dnsvip.dns.protocol.message import Malformed, Query, Response, Type
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.dns.zones.record import labels_of
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Client, Match, Step

WHOLE = 65_535
"""Bytes that an answer may have, so that none is cut here."""

PAYLOAD = 1232

MOST_RECORDS, MOST_ADDRESSES = 100, 16
"""Records of each set that are shown, and addresses of the answer that are led on."""

WHY: Mapping[Kind, str] = {
    Kind.ENCODED: "an encoded VIP of its own",
    Kind.CLASS: "an IPv4 address of its tier's class",
    Kind.PLAIN: "the plain VIP: nobody is known here, or the tier has no class",
    Kind.NO_EPOCH: "the plain VIP: the cluster has no active key yet",
    Kind.NO_NONCE: "the plain VIP: every nonce gives an address that must never be issued",
    Kind.UNFIT: "the plain VIP: the client's id, tier or an attribute does not fit the cluster's layout",
}
"""What sort of address was made."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and by whom; `requester` holds identities as if they had been verified."""

    qname: str
    qtype: str
    requester: Requester


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of classification: what was looked at, whether it decided, and why (not). `value` is the client's
    match that fitted, None where none did or its client is not enabled."""

    step: Step
    asked: str | None
    decided: bool
    value: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Answered:
    """One address of the answer. `service` is its name where it was made per client, `cluster` what it is from."""

    address: Address
    ttl: int
    service: str | None
    cluster: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer and how it came about. `left_out` is how many records are not among `records`; `addresses` are the
    first of these. `scope` is the ECS scope prefix length (RFC 7871), None without ECS."""

    trials: tuple[Trial, ...]
    who: Classified
    outcome: str
    rcode: str
    records: tuple[str, ...]
    left_out: int
    addresses: tuple[Answered, ...]
    kind: Kind | None
    scope: int | None


def explain(engine: Engine, question: Question, now: float) -> Explanation:
    """What `engine` answers at `now` (unix seconds); raises InvalidSite for what is no question."""
    query, requester = _read(question)
    outcome, response, vips = engine.look_up(query, requester, now)
    shown, left_out = _shown(response)
    message = dns.message.from_wire(build(query, shown, WHOLE, vips.scope))
    classifier = engine.tables.classifier
    return Explanation(
        tuple(_trials(engine, requester)),
        classifier.classify(requester),
        outcome.value,
        dns.rcode.to_text(message.rcode()),
        tuple(line for rrset in message.answer for line in rrset.to_text().splitlines()),
        left_out,
        tuple(islice(_addresses(engine, message), MOST_ADDRESSES)),
        vips.made.kind if vips.made else None,
        next((option.scopelen for option in message.options if isinstance(option, dns.edns.ECSOption)), None),
    )


def _shown(response: Response) -> tuple[Response, int]:
    """The answer section of a response with some records of each set, and how many are left out."""
    some = tuple(rrset._replace(rdatas=rrset.rdatas[:MOST_RECORDS]) for rrset in response.answer)
    left_out = sum(len(rrset.rdatas) for rrset in response.answer) - sum(len(rrset.rdatas) for rrset in some)
    return replace(response, answer=some, authority=(), glue=(), additional=()), left_out


def _read(question: Question) -> tuple[Query, Requester]:
    """The question as the server reads it off the wire."""
    requester, ecs = question.requester, question.requester.ecs
    options: list[dns.edns.Option] = [dns.edns.ECSOption(str(ecs.address), ecs.source_prefix)] if ecs else []
    try:
        qtype = dns.rdatatype.from_text(question.qtype)
        message = dns.message.make_query(question.qname, qtype, use_edns=0, payload=PAYLOAD, options=options)
        message.flags = 0
        query = parse(message.to_wire())
    except (dns.exception.DNSException, ValueError) as error:
        where = "qtype" if isinstance(error, dns.rdatatype.UnknownRdatatype) else "qname"
        raise InvalidSite([Problem(f"explain.{where}", f"cannot be queried: {error}")]) from None
    if isinstance(query, Malformed):
        raise InvalidSite([Problem("explain.ecs" if ecs else "explain.qname", f"is no question: {query.flaw.value}")])
    return query, requester._replace(ecs=ecs_of(query.edns), trusted=None)


def _trials(engine: Engine, requester: Requester) -> Iterator[Trial]:
    classifier = engine.tables.classifier
    identities = dict(classifier.tried(requester))
    over = False
    for step in (*classifier.order, *(step for step in Step if step not in classifier.order)):
        asked = ASKED[step](requester)
        if step not in classifier.order:
            yield Trial(step, asked, decided=False, value=None, detail="not in classify.order, so never looked at")
        elif step in identities:
            over = identities[step].step is not None
            yield _trial(engine, step, asked, requester, identities[step])
        else:
            why = "not looked at: a step before it decided" if over else _unused(step)
            yield Trial(step, asked, decided=False, value=None, detail=why)


def _unused(step: Step) -> str:
    return "no client is known by it" + (", or this node has no geo data" if step is Step.GEO else "")


def _trial(engine: Engine, step: Step, asked: str | None, requester: Requester, identity: Classified) -> Trial:
    if identity.step is None:
        return Trial(step, asked, decided=False, value=None, detail=_missed(engine, step, asked, requester))
    if identity.client is None:
        detail = "belongs to a client that is disabled or revoked: answered as nobody, and no later step is asked"
        return Trial(step, asked, decided=True, value=None, detail=detail)
    match = fitting(identity.client, step, requester)
    detail = f"fits {identity.client.name}" + (f" by {step.value} = {match.value}" if match else "")
    return Trial(step, asked, decided=True, value=match.value if match else None, detail=detail)


def _missed(engine: Engine, step: Step, asked: str | None, requester: Requester) -> str:
    if asked is None:
        return "the query carries none"
    if step is Step.ECS and not engine.tables.classifier.trusts(requester.source):
        return f"not believed: {requester.source} is not in classify.trust_ecs_from"
    return f"{asked}: no client has this" + (" whole block" if step is Step.ECS else "")


def fitting(client: Client, step: Step, requester: Requester) -> Match | None:
    """The client's own match that fits the requester in a step, the longest of prefixes; None where that is unknown."""
    asked = ASKED[step](requester)
    own = [match for match in client.match if match.step is step]
    if step not in (Step.SOURCE, Step.ECS):
        value = (asked or "").lower().rstrip(".") if step is Step.TSIG else asked
        values = requester.tls if step is Step.TLS else (value,)
        return next((match for match in own if match.value in values), own[0] if own else None)
    block = ip_network(asked or "::", strict=False)
    around = [
        (network.prefixlen, match)
        for match in own
        if (network := ip_network(match.value)).version == block.version and block.network_address in network
    ]
    return max(around, key=lambda pair: pair[0])[1] if around else None


def _addresses(engine: Engine, message: dns.message.Message) -> Iterator[Answered]:
    for rrset in message.answer:
        name = rrset.name.to_text(omit_final_dot=True).lower()
        for rdata in rrset:
            for address in _carried(rdata):
                service = engine.tables.services.get(labels_of(name))
                cluster = (service.cluster if address.version == 6 else service.cluster4) if service else None
                yield Answered(address, rrset.ttl, service.name if service else None, cluster)


def _carried(rdata: dns.rdata.Rdata) -> Iterator[IPv4Address | IPv6Address]:
    """The addresses in a record: of A and AAAA, or the hints of SVCB and HTTPS."""
    if rdata.rdtype in (Type.A, Type.AAAA):
        yield ip_address(rdata.to_text())
    elif rdata.rdtype in (Type.SVCB, Type.HTTPS):
        for key in (dns.rdtypes.svcbbase.ParamKey.IPV4HINT, dns.rdtypes.svcbbase.ParamKey.IPV6HINT):
            hint = getattr(rdata, "params", {}).get(key)
            yield from map(ip_address, hint.addresses if hint else ())


def _block(ecs: Ecs | None) -> str | None:
    return None if ecs is None else str(ip_network((ecs.address, ecs.source_prefix), strict=False))


ASKED: Mapping[Step, Callable[[Requester], str | None]] = {
    Step.TSIG: lambda requester: requester.tsig,
    Step.TLS: lambda requester: ", ".join(requester.tls) or None,
    Step.TOKEN: lambda requester: requester.token,
    Step.ECS: lambda requester: _block(requester.ecs),
    Step.SOURCE: lambda requester: str(requester.source),
    Step.GEO: lambda requester: str(requester.ecs.address if requester.ecs else requester.source),
    Step.LISTENER: lambda requester: requester.listener,
}
"""What each step looks at."""
