"""The records that differ per client: AAAA, A and address hints at service names.

`SynthesisTables` is compiled once from a snapshot; `RequesterVips` and the `RecordSynthesizer` on top of it live as
long as one query. What was made, for whom and within which ECS scope can be read from the former afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dnsvip.dns.identity.identify import Classified, Classifier, Requester
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels, lowered, read_name
from dnsvip.dns.synthesis.issuer import Vip
from dnsvip.dns.synthesis.own import OWN
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.errors import ObjectError
from dnsvip.site import Service

IPV4HINT, IPV6HINT = 4, 6
"""SvcParamKeys of the address hints (RFC 9460 section 7.3)."""

LENGTH: Mapping[int, int] = {Type.A: 4, Type.AAAA: 16}
"""Bytes of an address by record type."""


@dataclass(frozen=True, slots=True)
class SynthesisTables:
    """What synthesis needs from a snapshot: services by name, the classifier, and the maker of addresses."""

    services: Mapping[Labels, Service]
    classifier: Classifier
    vips: VipMaker

    def made_types(self, name: Labels) -> frozenset[int] | None:
        """The types of address that are made at a name (lower case); None where it is no service."""
        service = self.services.get(name)
        if service is None:
            return None
        return frozenset(rtype for rtype in LENGTH if self.vips.ttl(service, rtype) is not None)


class RequesterVips:
    """The addresses for one requester at one moment (`now` in unix seconds).

    `identity` is who that is, where known already; else the requester is identified with the first address. Afterwards
    `who` is the identity used, `made` the last address, and `scope` the ECS scope prefix length.
    """

    __slots__ = ("_identity", "_now", "_tables", "made", "requester", "scope", "who")

    def __init__(
        self, tables: SynthesisTables, requester: Requester, now: float, identity: Classified | None = None
    ) -> None:
        self._tables, self.requester, self._now, self._identity = tables, requester, now, identity
        self.who: Classified | None = None
        self.made: Vip | None = None
        self.scope = 0

    def __call__(self, service: Service, rtype: int, session: int | None = None) -> Vip | None:
        """The address of a type at a service, for a session where the name named one; None where it has none. Raises
        ObjectError where a client, or without one a cluster, makes that fail."""
        if self.who is None:
            self.who = self.identity
        vips = self._tables.vips
        try:
            if rtype == Type.AAAA:
                vip: Vip | None = vips.aaaa(service, self.who, self.requester, self._now, session)
            else:
                vip = vips.a(service, self.who, self.requester, self._now)
        except Exception as error:
            raise ObjectError(self._concerned(service, rtype), error) from error
        if vip:
            self.made = vip
            self.scope = max(self.scope, self.who.scope if vip.scope is None else vip.scope)
        return vip

    def own(self, node: Labels, rtype: int) -> Vip | None:
        """What a client with a strong identity asks for itself at a name; None for anybody else and everywhere else.

        It depends on who asks, so within ECS its scope is the whole option's.
        """
        service = self._tables.services.get(node[1:]) if rtype == Type.AAAA and node[0] in OWN else None
        who = self._tables.classifier.strongly(self.requester) if service else None
        if service is None or who is None or who.client is None:
            return None
        try:
            vip = self._tables.vips.own(node[0], service, who.client, self.requester, self._now)
        except Exception as error:
            raise ObjectError(f"client.{who.client.name}", error) from error
        if vip:
            self.who, self.made = who, vip
            self.scope = self.requester.ecs.source_prefix if self.requester.ecs else 0
        return vip

    @property
    def identity(self) -> Classified:
        """Who the requester is."""
        if self._identity is None:
            self._identity = self._identified()
        return self._identity

    def _identified(self) -> Classified:
        try:
            return self._tables.classifier.classify(self.requester)
        except Exception as error:
            raise ObjectError("classify", error) from error

    def _concerned(self, service: Service, rtype: int) -> str:
        """The object that an error is put down to."""
        cluster = service.cluster if rtype == Type.AAAA else service.cluster4
        if not self._tables.vips.has(cluster):
            return f"service.{service.name}"
        client = self.who.client if self.who else None
        return f"client.{client.name}" if client else f"cluster.{cluster}"


class RecordSynthesizer:
    """A `lookup.RecordSynthesizer`: puts the addresses that `vip` gives into the records of `services`, and those that
    `own` gives at names of their own."""

    __slots__ = ("_own", "_services", "_vip")

    def __init__(
        self,
        services: Mapping[Labels, Service],
        vip: Callable[[Service, int, int | None], Vip | None],
        own: Callable[[Labels, int], Vip | None] = lambda _name, _rtype: None,
    ) -> None:
        self._services, self._vip, self._own = services, vip, own

    def __call__(self, node: Labels, rtype: int, static: RRset | None, session: int | None = None) -> RRset | None:
        """The record set at `node`: a service's addresses are synthesized, hints follow them, anything else is
        returned as it is."""
        if rtype in LENGTH:
            service = self._services.get(node)
            if service is None:
                own = self._own(node, rtype) if node else None
                return _set_of(rtype, own) if own else static
            return self._addresses(service, rtype, static, session)
        return self._hinted(node, static, session) if static else None

    def _addresses(self, service: Service, rtype: int, static: RRset | None, session: int | None) -> RRset | None:
        vip = self._vip(service, rtype, session)
        if vip is None:
            return static
        return _set_of(rtype, vip)

    def _hinted(self, node: Labels, static: RRset, session: int | None) -> RRset:
        """The set with the hints of each record that points to a service; its TTL is no longer than theirs."""
        rdatas, ttl = [], static.ttl
        for (rdata,) in static.rdatas:
            target = target_of(rdata) if isinstance(rdata, bytes) else None
            service = None if target is None else self._services.get(target or node)
            if service is None:
                rdatas.append((rdata,))
                continue
            hints = {}
            for key, rtype in ((IPV4HINT, Type.A), (IPV6HINT, Type.AAAA)):
                if vip := self._vip(service, rtype, None if target else session):
                    hints[key] = vip.address.to_bytes(LENGTH[rtype], "big")
                    ttl = min(ttl, vip.ttl)
            rdatas.append((with_hints(rdata, hints),))  # type: ignore[arg-type]  # with a service it is bytes
        return static._replace(ttl=ttl, rdatas=tuple(rdatas))


def _set_of(rtype: int, vip: Vip) -> RRset:
    return RRset((), rtype, vip.ttl, ((vip.address.to_bytes(LENGTH[rtype], "big"),),))


def target_of(rdata: bytes) -> Labels | None:
    """The name whose service parameters these are, in lower case; () is the owner itself.

    None for an alias (priority 0), which has no parameters.
    """
    if rdata[:2] == b"\0\0":
        return None
    return lowered(read_name(rdata, 2)[0])


def with_hints(rdata: bytes, hints: Mapping[int, bytes]) -> bytes:
    """The record data with these parameters (key -> value) added or replaced, in key order."""
    _, at = read_name(rdata, 2)
    head = rdata[:at]
    params: dict[int, bytes] = {}
    while at < len(rdata):
        key, length = int.from_bytes(rdata[at : at + 2], "big"), int.from_bytes(rdata[at + 2 : at + 4], "big")
        params[key] = rdata[at + 4 : at + 4 + length]
        at += 4 + length
    params.update(hints)
    return head + b"".join(
        key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in sorted(params.items())
    )
