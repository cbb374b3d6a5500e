"""The one decision of the DNS server: a message in, a Reply out.

An Engine is compiled from a snapshot and never changes; a new snapshot gets a new Engine, which takes over every
zone whose text is the same. It reads no clock, opens no socket and queries no database.

`hotpath.fastpath` stands in front of it: it answers the most frequent queries from ready-made bytes, the same bytes
that `decide` gives, and hands the rest to `decide` with what it has learned about them.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from dnsvip.dns.asked import Asked, Known, ecs_of, read
from dnsvip.dns.certification import PendingCertificate, asked_for, issued
from dnsvip.dns.control import CHAOS, ServerIdentity, introduction, notice, primaries_of
from dnsvip.dns.counters import Counters, ZoneCell
from dnsvip.dns.discovery.resolver import local_zone
from dnsvip.dns.dnssec.signatures import Signatures
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Geo, Requester, Sender
from dnsvip.dns.listeners import Door, doors_of, problems_of, tiers_of
from dnsvip.dns.protection.cookies import CookieCheck, Cookies, cookies_of
from dnsvip.dns.protection.token_check import TokenCheck
from dnsvip.dns.protocol.builder import finished
from dnsvip.dns.protocol.message import IN, Malformed, Opcode, Query, Rcode, Response, Type
from dnsvip.dns.protocol.names import Labels, site_name
from dnsvip.dns.protocol.tsig import Signature, mac_of, without_signature
from dnsvip.dns.refusals import Content, malformed_reply, refusal
from dnsvip.dns.renewal import renewal
from dnsvip.dns.reply import DnsOutcome, Pending, PendingUpdate, Reply
from dnsvip.dns.site_tables import STAND_INS, CompiledSite, compile_site, session_bases
from dnsvip.dns.synthesis.synthesizer import RecordSynthesizer, RequesterVips, SynthesisTables
from dnsvip.dns.transfer import asks_for_all
from dnsvip.dns.zones.catalog import ZoneEntry, compile_zones
from dnsvip.dns.zones.denials import Denials
from dnsvip.dns.zones.lookup import Owner, resolve
from dnsvip.dns.zones.places import LookupResult, Zones
from dnsvip.dns.zones.signer import Signer
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.errors import Problem
from dnsvip.site import Client, Snapshot
from dnsvip.site.isolation import Isolated, fault_of, isolate
from dnsvip.site.node_dns import Listener

MOST_FAULTS = 1000
"""How many objects that raised while answering are named."""


class Engine:
    """All that answering needs from one snapshot. One per thread, as VipMaker is.

    `before` is the engine of the previous snapshot: its unchanged zones and clients are kept, and its counters
    continue. `geo` locates addresses; `identity` is what the server discloses about itself, by default as `before`.
    With `require_cookies` (by default as `before`) UDP queries with a cookie that is not ours get BADCOOKIE. Queries
    for a zone that does not compile, or that makes any step of answering raise, get SERVFAIL, and `problems` names
    it; the others are served. So it is with every other object that makes code raise (`isolated`).
    `listeners` (by default as `before`) are those of the node file, which may refuse strangers and give tiers; whoever
    asks for `_dns.resolver.arpa` learns of encrypted ones.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        before: Engine | None = None,
        geo: Geo | None = None,
        identity: ServerIdentity | None = None,
        require_cookies: bool | None = None,
        listeners: Sequence[Listener] | None = None,
    ) -> None:
        site = snapshot.site
        self._listeners: Sequence[Listener] = before._listeners if listeners is None and before else listeners or ()
        self.doors: Mapping[str, Door] = doors_of(self._listeners, site)
        tiers = tiers_of(self._listeners)
        same = before is not None and self._listeners is before._listeners
        self._local: CompiledZone | None = before._local if before and same else local_zone(self._listeners)
        self._cookie_problems: list[Problem] = []
        self.cookies: Cookies | None = cookies_of(
            snapshot.cookie_secrets, before.cookies if before else None, self._cookie_problems
        )
        self.require_cookies: bool = (
            before.require_cookies if require_cookies is None and before else bool(require_cookies)
        )
        self.identity: ServerIdentity = identity or (before.identity if before else ServerIdentity())
        self.generation = snapshot.generation
        self.client_ca: str = "".join(snapshot.client_ca)
        """The authorities of client certificates that the site keeps, as PEM."""
        self.counters: Counters = before.counters if before else Counters()
        self._compiled: dict[str, ZoneEntry] = compile_zones(site, before._known if before else {})
        self._known: dict[str, ZoneEntry] = dict(self._compiled)
        self._faults: dict[str, Problem] = {}
        self._isolated: Isolated[CompiledSite] = isolate(
            snapshot,
            lambda sound: compile_site(
                sound, self._compiled, before._isolated.value if before else None, geo, tiers, self._local
            ),
            STAND_INS,
            before._isolated if before else None,
        )
        self._site = self._isolated.snapshot.site
        self._primaries = primaries_of(self._site.zones.values())
        compiled = self._isolated.value
        self.tokens: TokenCheck = TokenCheck(compiled.tokens, before.tokens if before else None)
        self.zones: Zones = compiled.zones
        self.tables: SynthesisTables = compiled.tables
        self._tsig, self._transfers, self._update_keys = compiled.tsig, compiled.transfers, compiled.update_keys
        self._signatures: Signatures = before._signatures if before else Signatures()
        self.signs = bool(compiled.signed)
        self.session_bases: frozenset[Labels] = session_bases(site)
        denials = Denials(self.zones, self.tables.made_types, before.signer.denials if before else None)
        self.signer: Signer = Signer(self.zones, denials, self._signatures)

    @property
    def problems(self) -> list[Problem]:
        """What keeps objects from being served, of those that did not compile and those that raised since."""
        compiled = (problem for entry in self._compiled.values() for problem in entry.problems)
        common = [*self._cookie_problems, *self.tables.classifier.problems, *problems_of(self._listeners, self._site)]
        return [*common, *compiled, *self._isolated.problems, *self._faults.copy().values()]

    def offer(self, name: str, entry: ZoneEntry) -> None:
        """A zone that was compiled elsewhere, for the engine after this one to take where its text is the same."""
        self._known[name] = entry

    def blame(self, name: Labels, error: Exception) -> None:
        """Note an error that a question about `name` (lower case) raised, once for each object: the zone's where the
        error does not say whose it is."""
        try:
            apex = self.zones.apex_of(name) or ()
        except Exception:  # noqa: BLE001 - what is being reported may be this very look-up
            apex = ()
        problem = fault_of(f"zone.{site_name(apex)}", error)
        if len(self._faults) < MOST_FAULTS:
            self._faults.setdefault(problem.where, problem)

    @property
    def tiers(self) -> Collection[str]:
        """The names of the site's tiers."""
        return self._site.tiers.keys()

    def same_names(self, other: Engine) -> bool:
        """Whether both answer alike for all names, but for the addresses made per requester."""
        ours, theirs = self._site, other._site
        return (
            self.zones is other.zones
            and (ours.services is theirs.services or ours.services == theirs.services)
            and (ours.clusters is theirs.clusters or ours.clusters == theirs.clusters)
        )

    def zone_cell(self, owner: Owner | None) -> ZoneCell:
        """What counts the answers from the zone of an owner."""
        return self.counters.zone(None if owner is None else self.zones.apex_of(owner.name))

    def count(self, reply: Reply, transport: Transport = Transport.UDP) -> None:
        """Count one message."""
        self.counters.count(reply, transport)
        self.zone_cell(reply.owner).number += 1

    def decide(
        self,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
        known: Known | None = None,
    ) -> Reply:
        """The reply to a message from `source` that came as `arrival` says, at `now` (unix seconds).

        `known` is what the fast path has learned about the message already; it is not worked out again.
        """
        return finished(self.steps(wire, source, arrival, now, known))

    def steps(
        self,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
        known: Known | None = None,
    ) -> Generator[Reply, None, Reply]:
        """As `decide`, with pauses within a long answer: each gives the reply without its bytes."""
        query = read(wire, known)
        if isinstance(query, Malformed):
            return malformed_reply(query, arrival.transport)
        try:
            sender = known.sender if known else None
            return (yield from self._decide(query, wire, source, arrival, now, sender))
        except Exception as error:
            self.blame(query.key, error)
            raise

    def _decide(
        self,
        query: Query,
        wire: bytes,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
        sender: Sender | None,
    ) -> Generator[Reply, None, Reply]:
        """As `steps`, of a well-formed query."""
        signature = self._tsig.check(wire, query.tsig_at, now) if query.tsig_at else None
        vips = self._vips_for(query, signature, source, arrival, now, sender)
        cookie = self._check_cookie(query, source, now)
        asked = Asked(query, vips, signature, cookie, arrival.transport, self.identity, now)
        if self.require_cookies and (reply := asked.without_cookie()):
            return reply
        if not query.question and not (signature and signature.rcode):
            return asked.for_cookie()
        content = refusal(query, signature) or self._at_the_door(query, vips)
        if content is None and asks_for_all(query):
            try:
                transfer = self._transfers.decide(query, vips.requester, now)
                if transfer.records is not None:
                    blame = lambda error: self.blame(query.key, error)  # noqa: E731
                    return (yield from asked.transferred(transfer.records, blame))
                content = Content(transfer.outcome, transfer.response)
            except Exception as error:  # noqa: BLE001 - it costs this zone, not the others
                content = self._broken(query, error)
        if content is None and (pending := self._pending(asked, wire, source)):
            return pending
        return (yield from asked.reply(content or self._look_up(query, vips, now)))

    def _pending(self, asked: Asked, wire: bytes, source: IPv4Address | IPv6Address) -> Reply | None:
        """The reply without bytes to what the store is to do first: an update, or a client's new certificate."""
        query, signature = asked.query, asked.signature
        pending: Pending
        if query.opcode == Opcode.UPDATE and (of_zone := self._updatable(query, signature)):
            request = without_signature(wire, query.tsig_at)
            pending = PendingUpdate(*of_zone, request, mac_of(signature), str(source), asked.finish(_updated))
            return Reply(None, DnsOutcome.UPDATE, query=query, pending=pending)
        if query.opcode == Opcode.QUERY and (wanted := self._certificate_for(query, asked.vips)):
            finish = asked.finish(lambda rcode, text: issued(query, rcode, text))
            pending = PendingCertificate(*wanted, str(source), finish)
            return Reply(None, DnsOutcome.ENROLMENT, query=query, pending=pending)
        return None

    def _certificate_for(self, query: Query, vips: RequesterVips) -> tuple[Client, str] | None:
        """Who asks for a certificate here, and for which key."""
        return asked_for(query, vips.requester, self.tables.classifier, self.tables.services)

    def _updatable(self, query: Query, signature: Signature | None) -> tuple[str, str] | None:
        """The zone that an UPDATE names and the key that signed it, where that key may change the zone."""
        zone = self._update_keys.get(query.key) if query.qtype == Type.SOA and query.qclass == IN else None
        key = signature.key_name if signature else None
        return (zone.zone, key) if zone is not None and key is not None and key in zone.keys else None

    def _at_the_door(self, query: Query, vips: RequesterVips) -> Content | None:
        """REFUSED for whom the listener does not answer; but an enrolled client that has moved to another group learns
        its servers wherever it asks."""
        requester, door = vips.requester, self.doors.get(vips.requester.listener)
        if door is not None and not door.lets(requester.source):
            return STRANGER
        if query.opcode == Opcode.QUERY and (requester.tsig or requester.tls or requester.token):
            tables = self.tables
            content = renewal(query, requester, tables.classifier, tables.services, self._site)
            if content is not None:
                return content
        return STRANGER if door is not None and not door.knows(vips.identity) else None

    def look_up(self, query: Query, requester: Requester, now: float) -> tuple[DnsOutcome, Response, RequesterVips]:
        """The response to an identified requester, and what its addresses depend on."""
        vips = RequesterVips(self.tables, requester, now)
        content = refusal(query, None) or self._look_up(query, vips, now)
        return content.outcome, content.response, vips

    def _vips_for(
        self,
        query: Query,
        signature: Signature | None,
        source: IPv4Address | IPv6Address,
        arrival: Arrival,
        now: float,
        sender: Sender | None,
    ) -> RequesterVips:
        """The addresses for this requester. Its identity as sender holds where neither ECS nor a signature says
        more."""
        ecs, key = ecs_of(query.edns), signature.key_name if signature else None
        if sender is None:
            listener, transport, names, token = arrival
            requester = Requester(source, listener, ecs, key, names, token, transport=transport)
            return RequesterVips(self.tables, requester, now)
        if ecs is None and key is None:
            return RequesterVips(self.tables, sender.requester, now, sender.identity)
        return RequesterVips(self.tables, sender.requester._replace(ecs=ecs, tsig=key), now)

    def _check_cookie(self, query: Query, source: IPv4Address | IPv6Address, now: float) -> CookieCheck | None:
        if self.cookies is None or query.edns is None or not query.edns.cookie:
            return None
        return self.cookies.check(query.edns.cookie, source.packed, now)

    def _look_up(self, query: Query, vips: RequesterVips, now: float) -> Content:
        if query.opcode == Opcode.NOTIFY and query.qtype == Type.SOA and (known := self._primaries.get(query.key)):
            requester = vips.requester
            if known.may_notify(requester.source, requester.tsig):
                return Content(DnsOutcome.NOTIFIED, Response(aa=True))
        if query.opcode != Opcode.QUERY:
            return Content(*notice(self.zones, query))
        if query.qclass == CHAOS:
            return Content(*introduction(self.identity, query))
        try:
            resolution = resolve(self.zones, query, RecordSynthesizer(self.tables.services, vips, vips.own))
            if query.edns is not None and query.edns.do:
                resolution = self.signer.signed(query, resolution, now)
        except Exception as error:  # noqa: BLE001 - it costs this zone, not the others
            return self._broken(query, error)
        outcome = DnsOutcome.SERVICE if vips.made else OUTCOMES[resolution.found]
        return Content(outcome, resolution.response, resolution.owner)

    def _broken(self, query: Query, error: Exception) -> Content:
        """SERVFAIL for a question that raised, which is reported with its zone."""
        self.blame(query.key, error)
        return Content(DnsOutcome.BROKEN_ZONE, Response(Rcode.SERVFAIL))


def _updated(rcode: int, why: str) -> Content:
    """The answer to an update that was made, or was not."""
    return Content(DnsOutcome.UPDATE if rcode else DnsOutcome.UPDATED, Response(rcode), why=why)


STRANGER = Content(DnsOutcome.STRANGER, Response(Rcode.REFUSED))

OUTCOMES: Mapping[LookupResult, DnsOutcome] = {
    LookupResult.ANSWER: DnsOutcome.ANSWER,
    LookupResult.NODATA: DnsOutcome.NODATA,
    LookupResult.NXDOMAIN: DnsOutcome.NXDOMAIN,
    LookupResult.REFERRAL: DnsOutcome.REFERRAL,
    LookupResult.TOO_LONG: DnsOutcome.NAME_TOO_LONG,
    LookupResult.NO_ZONE: DnsOutcome.NO_ZONE,
    LookupResult.BROKEN_ZONE: DnsOutcome.BROKEN_ZONE,
}
"""The outcome of a look-up that synthesized no address."""
