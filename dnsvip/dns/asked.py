"""A message that is being answered: what was learned about it, and how content becomes its reply."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from dnsvip.dns.control import ServerIdentity, options
from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.identity.identify import Ecs, Sender
from dnsvip.dns.protection.cookies import CLIENT_BYTES, CookieCheck
from dnsvip.dns.protocol.builder import finished, size_limit, steps
from dnsvip.dns.protocol.message import COOKIE, MIN_UDP_SIZE, Edns, Malformed, Query, Rcode, Response, RRset
from dnsvip.dns.protocol.padding import PADDING, padded, wants
from dnsvip.dns.protocol.parser import Question, parse, parse_additional
from dnsvip.dns.protocol.tsig import Signature, sign, sign_all
from dnsvip.dns.refusals import Content, cookie_required, error_reply
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.dns.synthesis.synthesizer import RequesterVips
from dnsvip.dns.transfer import messages


class Known(NamedTuple):
    """What the fast path has learned about a message that it leaves to the engine: its sender, and its question where
    it had to read that."""

    sender: Sender
    question: Question | None = None


def read(wire: bytes, known: Known | None) -> Query | Malformed:
    """The message as parsed: a question that has been read is not read again."""
    question = known.question if known else None
    return parse(wire) if question is None else parse_additional(wire, question)


class Asked(NamedTuple):
    """A well-formed message, the addresses for who sent it, what its signature and its cookie are worth, how it came,
    and what this server discloses about itself. `now` is in unix seconds."""

    query: Query
    vips: RequesterVips
    signature: Signature | None
    cookie: CookieCheck | None
    transport: Transport
    identity: ServerIdentity
    now: float

    @property
    def verified(self) -> bool:
        """Whether a key of ours signed it."""
        return self.signature is not None and not self.signature.rcode

    def without_cookie(self) -> Reply | None:
        """BADCOOKIE for a source that nothing proves, where cookies are required; None for others."""
        cookie = self.cookie
        if cookie is None or cookie.valid or self.verified or self.transport is not Transport.UDP:
            return None
        return cookie_required(self.query, cookie)

    def for_cookie(self) -> Reply:
        """The answer to a query for a cookie without a question (RFC 7873 section 5.4): NOERROR, or BADCOOKIE where it
        had a server cookie that is not ours."""
        query, cookie = self.query, self.cookie
        if cookie is None or query.edns is None:  # this server has no secret to make one with
            return error_reply(query, Response(Rcode.FORMERR), MIN_UDP_SIZE, DnsOutcome.BAD_HEADER)
        fine = cookie.valid or len(query.edns.cookie) == CLIENT_BYTES
        response = Response(Rcode.NOERROR if fine else Rcode.BADCOOKIE, options=((COOKIE, cookie.answer),))
        reply = error_reply(query, response, MIN_UDP_SIZE, DnsOutcome.COOKIE if fine else DnsOutcome.BAD_COOKIE)
        if self.signature and reply.wire:
            reply = reply._replace(wire=sign(reply.wire, self.signature, self.now), signature_verified=True)
        return reply._replace(cookie_valid=cookie.valid)

    def finish(self, content: Callable[[int, str], Content]) -> Callable[[int, str], Reply]:
        """What makes the reply once the store has done what was asked: of its rcode and text, as `content` says."""
        return lambda rcode, text: finished(self.reply(content(rcode, text)))

    def transferred(
        self, records: Iterator[RRset], blame: Callable[[Exception], None]
    ) -> Generator[Reply, None, Reply]:
        """The reply whose messages carry the records of a zone; `blame` learns of an error in the midst of them."""
        query, signature = self.query, self.signature
        wires: Iterator[bytes] = _Blaming(messages(query, records), blame)
        if signature:
            wires = sign_all(wires, signature, self.now)
        reply = Reply(
            None,
            DnsOutcome.TRANSFERRED,
            Rcode.NOERROR,
            query,
            query.question,
            aa=True,
            signature_verified=self.verified,
            more=wires,
        )
        while not (first := next(wires)):
            yield reply
        return reply._replace(wire=first)

    def reply(self, content: Content) -> Generator[Reply, None, Reply]:
        """The content as a message, with our EDNS options, signed where the query was."""
        query, vips, signature, cookie, transport, identity, now = self
        outcome, response, owner, why = content
        if query.edns and (more := options(identity, query.edns, outcome, response.rcode, why, transport)):
            response = replace(response, options=more)
        if cookie:
            response = replace(response, options=(*response.options, (COOKIE, cookie.answer)))
        limit = size_limit(query, transport) - (signature.size if signature else 0)
        who, vip = vips.who, vips.made
        reply = Reply(
            None,
            outcome,
            response.rcode,
            query,
            query.question,
            aa=response.aa,
            owner=owner,
            cookie_valid=cookie is not None and cookie.valid,
            signature_verified=self.verified,
            step=who.step if who else None,
            kind=vip.kind if vip else None,
            tier=who.tier if who else None,
        )
        building = steps(query, response, limit, vips.scope)
        while True:
            try:
                next(building)
            except StopIteration as end:
                wire, truncated, opt, _ = end.value
                break
            yield reply
        if transport.encrypted and opt and wants(query.edns, PADDING):
            wire, opt = padded(wire, opt, signature.size if signature else 0)
        wire = sign(wire, signature, now) if signature else wire
        return reply._replace(wire=wire, opt=opt, truncated=truncated)


def ecs_of(edns: Edns | None) -> Ecs | None:
    """The client subnet as a claim about the requester; family 0 claims nothing (RFC 7871 section 7.1.2)."""
    if edns is None or edns.subnet is None or edns.subnet.family == 0:
        return None
    _, source_prefix, address = edns.subnet
    return Ecs(IPv4Address(address) if len(address) == 4 else IPv6Address(address), source_prefix)


class _Blaming:
    """The messages of a stream; an error in the midst of them is reported, and ends it. No generator that delegates:
    where the garbage collector closes one whose inner one is being closed, Python warns."""

    __slots__ = ("_blame", "_wires")

    def __init__(self, wires: Iterator[bytes], blame: Callable[[Exception], None]) -> None:
        self._wires, self._blame = wires, blame

    def __iter__(self) -> _Blaming:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._wires)
        except StopIteration:
            raise
        except Exception as error:
            self._blame(error)
            raise
