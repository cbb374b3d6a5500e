"""The one decision of the DNS server: a message in, the answer out, and why.

An Engine is compiled from a snapshot and never changes; a new snapshot gets a new Engine, which takes
over every zone whose text is the same. It reads no clock, opens no socket and asks no database.

`fastpath` stands in front of it: it answers the most frequent questions from ready-made bytes, the same
bytes that `decide` gives, and leaves to `decide` what it does not recognise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import chain

from dnsvip.dns.control import CHAOS, Identity, introduction, notice, options
from dnsvip.dns.counters import Counters, Decision, Outcome
from dnsvip.dns.identity.identify import Classifier, Ecs, Geo, Requester
from dnsvip.dns.protection.cookies import Checked, Cookies
from dnsvip.dns.protocol.builder import build, size_limit
from dnsvip.dns.protocol.message import (
    COOKIE,
    IN,
    MIN_UDP_SIZE,
    Edns,
    Flaw,
    Malformed,
    Opcode,
    Query,
    Rcode,
    Response,
    RRset,
    Type,
)
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.protocol.tsig import BADKEY, BADSIG, BADTIME, BADTRUNC, Signature, TsigKeys, sign, sign_all
from dnsvip.dns.synthesis.synthesizer import RecordSynthesizer, Tables
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.dns.transfer import Transfers, messages
from dnsvip.dns.zones.lookup import Found, Zones, obstacle, resolve
from dnsvip.dns.zones.zone import CompiledZone, compile_zone
from dnsvip.dns.zones.zonefile import labels_of
from dnsvip.errors import Problem, ZoneError
from dnsvip.site import Service, Site, Snapshot, Zone


class Engine:
    """Everything that answering needs from one snapshot. One per thread, as VipMaker is.

    `before` is the engine that this one follows: its unchanged zones and clients are kept and its counters
    go on. `geo` knows where addresses are; `identity` is what it says about itself, by default what `before` says.
    With `require_cookies` (by default as `before`) UDP queries with a cookie that is none of ours get BADCOOKIE.
    A zone that cannot be compiled is answered SERVFAIL and named in `problems`; the others are served.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        before: Engine | None = None,
        geo: Geo | None = None,
        identity: Identity | None = None,
        require_cookies: bool | None = None,
    ) -> None:
        site = snapshot.site
        self.cookies: Cookies | None = _cookies(snapshot.cookie_secrets, before.cookies if before else None)
        self.require_cookies: bool = (
            before.require_cookies if require_cookies is None and before else bool(require_cookies)
        )
        self.identity: Identity = identity or (before.identity if before else Identity())
        self.generation = snapshot.generation
        self.counters: Counters = before.counters if before else Counters()
        self._compiled: dict[str, _Compiled] = _compile(site, before._compiled if before else {})
        self.problems = [problem for entry in self._compiled.values() for problem in entry.problems]
        services = {labels_of(name): service for name, service in site.services.items()}
        self._site = site
        self.zones: Zones = _zones(self._compiled, services, before.zones if before else None)
        known = before.tables.classifier if before else None
        self.tables: Tables = Tables(services, Classifier(snapshot, known, geo), VipMaker(snapshot))
        self._tsig = TsigKeys(site.tsig_keys.values())
        self._transfers = Transfers(site, self.zones)

    def same_names(self, other: Engine) -> bool:
        """Whether the same answers are due for all names in both, but for the addresses that are made."""
        ours, theirs = self._site, other._site
        return (
            self.zones is other.zones
            and (ours.services is theirs.services or ours.services == theirs.services)
            and (ours.clusters is theirs.clusters or ours.clusters == theirs.clusters)
        )

    def answer(
        self, wire: bytes, source: IPv4Address | IPv6Address, listener: str, transport: str, now: float
    ) -> bytes | None:
        """`decide`, counted; only the bytes to send, None for none."""
        decision = self.decide(wire, source, listener, transport, now)
        self.counters.count(decision)
        return decision.wire

    def answer_stream(
        self, wire: bytes, source: IPv4Address | IPv6Address, listener: str, transport: str, now: float
    ) -> bytes | Iterator[bytes] | None:
        """`answer` for a stream, which takes a whole zone too: its messages, made as they are taken."""
        decision = self.decide(wire, source, listener, transport, now)
        self.counters.count(decision)
        self.counters.streams[decision.rcode] += 1
        if decision.more is None or decision.wire is None:
            return decision.wire
        return chain((decision.wire,), decision.more)

    def decide(
        self, wire: bytes, source: IPv4Address | IPv6Address, listener: str, transport: str, now: float
    ) -> Decision:
        """What to answer a message that came from `source` to `listener` by "udp" or "tcp" at `now` (unix seconds)."""
        query = parse(wire)
        if isinstance(query, Malformed):
            return _flawed(query, transport)
        signature = self._tsig.check(wire, query.tsig_at, now) if query.tsig_at else None
        requester = Requester(source, listener, ecs_of(query.edns), signature.key_name if signature else None)
        synthesizer = RecordSynthesizer(self.tables, requester, now)
        cookie = self._check_cookie(query, source, now)
        if self.require_cookies and cookie and not (cookie.valid or signature) and transport == "udp":
            return _cookie_required(query, cookie)
        if (refused := _refusal(query, signature)) is None and _asks_for_all(query):
            whole = self._transfers.decide(query, wire, source, requester.tsig, transport)
            if whole.records is not None:
                return _transferred(query, whole.records, signature, now)
            refused = whole.outcome, whole.response
        outcome, response = refused or self._look_up(query, synthesizer)
        if query.edns and (more := options(self.identity, query.edns, outcome, response.rcode)):
            response = replace(response, options=more)
        if cookie:
            response = replace(response, options=(*response.options, (COOKIE, cookie.answer)))
        limit = size_limit(query, transport) - (signature.size if signature else 0)
        answer = build(query, response, limit, synthesizer.scope)
        if signature:
            answer = sign(answer, signature, now)
        return Decision(
            answer,
            outcome,
            response.rcode,
            synthesizer.who.step if synthesizer.who else None,
            synthesizer.made.kind if synthesizer.made else None,
            tier=synthesizer.who.client.tier if synthesizer.who and synthesizer.who.client else None,
        )

    def look_up(self, query: Query, requester: Requester, now: float) -> tuple[Outcome, Response, RecordSynthesizer]:
        """What somebody whose identity is already known is answered, and the tailor that tells how it was made."""
        synthesizer = RecordSynthesizer(self.tables, requester, now)
        outcome, response = _refusal(query, None) or self._look_up(query, synthesizer)
        return outcome, response, synthesizer

    def _check_cookie(self, query: Query, source: IPv4Address | IPv6Address, now: float) -> Checked | None:
        if self.cookies is None or query.edns is None or not query.edns.cookie:
            return None
        return self.cookies.check(query.edns.cookie, source.packed, now)

    def _look_up(self, query: Query, synthesizer: RecordSynthesizer) -> tuple[Outcome, Response]:
        if query.opcode != Opcode.QUERY:
            return notice(self.zones, query)
        if query.qclass == CHAOS:
            return introduction(self.identity, query)
        resolution = resolve(self.zones, query, synthesizer)
        return (Outcome.SERVICE if synthesizer.made else OUTCOMES[resolution.found]), resolution.response


def _cookies(secrets: tuple[bytes, ...], before: Cookies | None) -> Cookies | None:
    if before is not None and before.secrets == secrets:
        return before
    return Cookies(secrets) if secrets else None


def _cookie_required(query: Query, cookie: Checked) -> Decision:
    """BADCOOKIE with the cookie to come back with (RFC 7873 section 5.2.3)."""
    response = Response(Rcode.BADCOOKIE, options=((COOKIE, cookie.answer),))
    return Decision(build(query, response, MIN_UDP_SIZE), Outcome.COOKIE_REQUIRED, Rcode.BADCOOKIE)


class _Compiled:
    """A zone's text and what came of it."""

    __slots__ = ("apex", "problems", "text", "zone")

    def __init__(self, zone: Zone) -> None:
        self.text, self.apex = zone.text, labels_of(zone.name)
        self.zone: CompiledZone | None = None
        self.problems: list[Problem] = []
        try:
            self.zone = compile_zone(zone)
        except ZoneError as error:
            self.problems = error.problems


def check_services(site: Site) -> list[Problem]:
    """Services that can never be asked for, because their zone delegates, redirects or aliases their name."""
    zones = _zones(_compile(site, {}), {})
    found = ((name, obstacle(zones, labels_of(name))) for name in site.services)
    return [Problem(f"service.{name}", f"cannot be asked for: its zone {what}") for name, what in found if what]


def _compile(site: Site, known: Mapping[str, _Compiled]) -> dict[str, _Compiled]:
    """Every zone of the site, those of `known` kept whose text is the same."""
    kept = {name: known[name] for name, zone in site.zones.items() if name in known and known[name].text == zone.text}
    return {name: kept.get(name) or _Compiled(zone) for name, zone in site.zones.items()}


def _zones(compiled: Mapping[str, _Compiled], services: Mapping[Labels, Service], before: Zones | None = None) -> Zones:
    """`before` itself where nothing of it changed, so that what was made from it is known to hold."""
    by_apex = {entry.apex: entry.zone for entry in compiled.values()}
    bare = Zones(by_apex)
    if before and before.services == services.keys() and _same(before.by_apex, by_apex):
        return before
    above = frozenset(up for name in services for up in _between(name, bare.apex_of(name)))
    return Zones(by_apex, services.keys(), above)


def _same(one: Mapping[Labels, CompiledZone | None], other: Mapping[Labels, CompiledZone | None]) -> bool:
    return one.keys() == other.keys() and all(one[apex] is zone for apex, zone in other.items())


def _between(name: Labels, apex: Labels | None) -> Iterator[Labels]:
    """The names above `name` and below its zone's apex; they exist, if only as empty non-terminals."""
    for up in range(1, len(name) - len(apex or ())):
        yield name[up:]


def _flawed(malformed: Malformed, transport: str) -> Decision:
    rcode = malformed.rcode
    wire = None if rcode is None else build(malformed, Response(rcode), size_limit(malformed, transport))
    return Decision(wire, _FLAWS[malformed.flaw], rcode)


def failure(wire: bytes) -> Decision:
    """SERVFAIL for a message that `decide` could not cope with, which is a fault of ours."""
    id_, flags = int.from_bytes(wire[:2], "big"), int.from_bytes(wire[2:4], "big")
    asked = Malformed(Flaw.RECORD, id_, flags)
    return Decision(build(asked, Response(Rcode.SERVFAIL), MIN_UDP_SIZE), Outcome.FAILED, Rcode.SERVFAIL)


def _refusal(query: Query, signature: Signature | None) -> tuple[Outcome, Response] | None:
    """Why a well-formed question is not looked up; None where it is."""
    if signature and signature.rcode:
        return _SIGNATURES[signature.error], Response(signature.rcode)
    if query.edns and query.edns.version:
        return Outcome.EDNS_VERSION, Response(Rcode.BADVERS)
    if query.opcode != Opcode.QUERY or query.qclass == CHAOS:
        return None
    if query.qclass != IN:
        return Outcome.CLASS, Response(Rcode.REFUSED)
    return _QTYPES.get(query.qtype)


def _transferred(query: Query, records: Iterator[RRset], signature: Signature | None, now: float) -> Decision:
    wires = messages(query, records)
    if signature:
        wires = sign_all(wires, signature, now)
    return Decision(next(wires), Outcome.TRANSFERRED, Rcode.NOERROR, more=wires)


def _asks_for_all(query: Query) -> bool:
    return query.qtype in (Type.AXFR, Type.IXFR) and query.qclass == IN and query.opcode == Opcode.QUERY


def ecs_of(edns: Edns | None) -> Ecs | None:
    """The client subnet as a claim about who asks; family 0 claims nothing (RFC 7871 section 7.1.2)."""
    if edns is None or edns.subnet is None or edns.subnet.family == 0:
        return None
    _, source_prefix, address = edns.subnet
    return Ecs(IPv4Address(address) if len(address) == 4 else IPv6Address(address), source_prefix)


_QTYPES: Mapping[int, tuple[Outcome, Response]] = {
    **dict.fromkeys((Type.MAILA, Type.MAILB), (Outcome.META_TYPE, Response(Rcode.NOTIMP))),
    **dict.fromkeys((0, Type.OPT, Type.TKEY, Type.TSIG), (Outcome.META_TYPE, Response(Rcode.FORMERR))),
}
"""Types that are no data (RFC 6895 section 3.1), answered as BIND does."""

_SIGNATURES: Mapping[int, Outcome] = {
    0: Outcome.BAD_TSIG,
    BADKEY: Outcome.TSIG_KEY,
    BADSIG: Outcome.TSIG_SIGNATURE,
    BADTIME: Outcome.TSIG_TIME,
    BADTRUNC: Outcome.TSIG_TRUNCATED,
}

_FLAWS: Mapping[Flaw, Outcome] = {
    Flaw.SHORT: Outcome.SHORT,
    Flaw.RESPONSE: Outcome.RESPONSE,
    Flaw.OPCODE: Outcome.OPCODE,
    Flaw.COUNTS: Outcome.BAD_HEADER,
    Flaw.QUESTION: Outcome.BAD_QUESTION,
    Flaw.RECORD: Outcome.BAD_RECORD,
    Flaw.OPT: Outcome.BAD_OPT,
    Flaw.ECS: Outcome.BAD_ECS,
    Flaw.COOKIE: Outcome.BAD_COOKIE,
    Flaw.TSIG: Outcome.BAD_TSIG,
}

OUTCOMES: Mapping[Found, Outcome] = {
    Found.ANSWER: Outcome.ANSWER,
    Found.NODATA: Outcome.NODATA,
    Found.NXDOMAIN: Outcome.NXDOMAIN,
    Found.REFERRAL: Outcome.REFERRAL,
    Found.TOO_LONG: Outcome.NAME_TOO_LONG,
    Found.NO_ZONE: Outcome.NO_ZONE,
    Found.BROKEN_ZONE: Outcome.BROKEN_ZONE,
}
"""How a look-up that made no address is counted."""
