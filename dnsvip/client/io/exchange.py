"""One DNS exchange with the enrolment's servers: the query signed, over UDP, TCP or encrypted, the response verified.

A datagram that is malformed, answers another question or lacks a valid signature is ignored and the wait continues
(RFC 8945 section 5.3), so that a forged one cannot end the exchange. It knows nothing about encoded addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv6Network

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig

from dnsvip.client.enrolment import TsigIdentity
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.padding import PADDED_TO
from dnsvip.client.weight import is_heavy
from dnsvip.errors import ClientError
from dnsvip.site import parse_endpoint
from dnsvip.site.server_forms import is_encrypted

UDP_PAYLOAD = 1232  # bytes; DNS flag day 2020
ROUNDS = 2
"""Passes over the list of servers before giving up."""

FINAL = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
"""Rcodes that end the exchange; after any other the next server is queried."""

ELSEWHERE = frozenset({dns.rcode.REFUSED, dns.rcode.NOTAUTH})
"""Rcodes of a server that has no such name: others may have it."""


class Silent(ClientError):
    """All servers are encrypted, and none has said that it has no such name: whoever keeps them from it, or has them
    fail, must not have the question asked of others in plain text."""


async def ask(
    name: str,
    rdtype: str,
    servers: Sequence[str],
    tsig: TsigIdentity | None = None,
    timeout: float = 2.0,  # noqa: ASYNC109 - of one attempt, not of the whole exchange
    network: IPv6Network | None = None,
    *,
    recursive: bool = False,
    channels: Channels,
) -> dns.message.Message:
    """The first final answer (NOERROR or NXDOMAIN) of `servers`; `timeout` seconds per attempt. Encrypted ones are
    asked on `channels`.

    A `network` goes with the query as ECS (RFC 7871); `recursive` is for resolvers. Raises ClientError, saying for each
    server what went wrong, or Silent.
    """
    failures: dict[str, str] = {}
    silent = bool(servers) and all(map(is_encrypted, servers))
    for _ in range(ROUNDS):
        for server in servers:
            if not is_encrypted(server) and any(map(is_encrypted, failures)):
                channels.falls_back(server)
            query = _query(name, rdtype, tsig, network, recursive=recursive, padded=is_encrypted(server))
            try:
                answer = await _ask_one(query, server, timeout, channels)
            except (OSError, ClientError) as error:
                failures[server] = str(error)
                continue
            if answer.rcode() in FINAL:
                return answer
            silent &= answer.rcode() not in ELSEWHERE
            failures[server] = _refusal(answer)
    reasons = "; ".join(f"{server}: {reason}" for server, reason in failures.items())
    raise (Silent if silent else ClientError)(f"{name}: no DNS server answered ({reasons})")


def first_address(answer: dns.message.Message) -> tuple[str, int] | None:
    """The first address at the end of the answer's CNAME chain and its TTL in seconds; None where there is none."""
    if not isinstance(answer, dns.message.QueryMessage):
        return None
    try:
        chain = answer.resolve_chaining()
    except dns.exception.DNSException as error:
        raise ClientError(f"the DNS server's answer makes no sense: {type(error).__name__}") from error
    if chain.answer is None:
        return None
    return str(chain.answer[0].address), int(chain.minimum_ttl)


def first_text(answer: dns.message.Message) -> bytes | None:
    """The strings of the answer's first TXT record as one; None where there is none."""
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.TXT:
            return b"".join(rrset[0].strings)
    return None


def time_signed(answer: dns.message.Message) -> int | None:
    """When the server signed a verified answer, by its own clock, unix seconds; None without a signature."""
    return int(answer.tsig[0].time_signed) if answer.had_tsig and answer.tsig else None


def _refusal(answer: dns.message.Message) -> str:
    """What a server answers in place of a final answer, with its own words (RFC 8914)."""
    words = [option.text for option in answer.extended_errors() if option.text]
    return f"answers {dns.rcode.to_text(answer.rcode())}" + (f": {words[0][:200]}" if words else "")


def _query(
    name: str, rdtype: str, tsig: TsigIdentity | None, network: IPv6Network | None, *, recursive: bool, padded: bool
) -> dns.message.Message:
    options: list[dns.edns.Option] = []
    if network is not None:
        options.append(dns.edns.ECSOption(str(network.network_address), network.prefixlen))
    try:
        pad = PADDED_TO if padded else 0
        query = dns.message.make_query(name, rdtype, use_edns=0, payload=UDP_PAYLOAD, options=options, pad=pad)
    except dns.exception.DNSException as error:
        raise ClientError(f"{name!r} is not a domain name: {error}") from None
    query.flags = dns.flags.RD if recursive else 0  # the enrolment's servers are authoritative
    if tsig is not None:
        query.use_tsig(dns.tsig.Key(dns.name.from_text(tsig.name), tsig.secret, tsig.algorithm))
    return query


async def _ask_one(query: dns.message.Message, server: str, limit: float, channels: Channels) -> dns.message.Message:
    wire = query.to_wire()  # signs, and keeps the MAC that the answer's signature covers
    if is_encrypted(server):
        try:
            async with asyncio.timeout(limit):
                return _accept(query, await channels.ask(server, wire))
        except TimeoutError:
            raise ClientError("no answer in time") from None
    host, port = parse_endpoint(server)
    answer = await _over_udp(query, wire, host, port, limit)
    if answer.flags & dns.flags.TC:
        answer = await _over_tcp(query, wire, host, port, limit)
    return answer


async def _over_udp(query: dns.message.Message, wire: bytes, host: str, port: int, limit: float) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    waiter = _Waiter(query, loop.create_future())
    transport, _ = await loop.create_datagram_endpoint(lambda: waiter, remote_addr=(host, port))
    try:
        transport.sendto(wire)
        async with asyncio.timeout(limit):
            return await waiter.answer
    except TimeoutError:
        raise ClientError(waiter.reason) from None
    finally:
        transport.close()


async def _over_tcp(query: dns.message.Message, wire: bytes, host: str, port: int, limit: float) -> dns.message.Message:
    try:
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(len(wire).to_bytes(2, "big") + wire)
                size = int.from_bytes(await reader.readexactly(2), "big")
                return _accept(query, await reader.readexactly(size))
            finally:
                writer.close()
    except TimeoutError:
        raise ClientError("no answer over TCP in time") from None
    except EOFError:
        raise ClientError("closed the TCP connection before its answer") from None


class _Waiter(asyncio.DatagramProtocol):
    """Waits on one connected UDP socket for a datagram that `_accept` accepts."""

    def __init__(self, query: dns.message.Message, answer: asyncio.Future[dns.message.Message]) -> None:
        self.answer = answer
        self.reason = "no answer in time"
        self._query = query

    def datagram_received(self, data: bytes, _addr: object) -> None:
        if self.answer.done():
            return
        try:
            self.answer.set_result(_accept(self._query, data))
        except ClientError as error:
            self.reason = str(error)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _accept(query: dns.message.Message, wire: bytes) -> dns.message.Message:
    """The answer in `wire` if it matches `query` and its signature verifies; raises ClientError."""
    if is_heavy(wire):
        raise ClientError("its answer is full of long names")
    try:
        answer = dns.message.from_wire(
            wire, keyring=query.keyring, request_mac=query.mac, ignore_trailing=True, raise_on_truncation=False
        )
    except dns.exception.DNSException as error:
        raise ClientError(_REFUSALS.get(type(error), f"its answer cannot be used: {error}")) from None
    if not query.is_response(answer):
        raise ClientError("its answer is to another question")
    if query.had_tsig and not answer.had_tsig:
        raise ClientError("its answer is not signed")
    return answer


_REFUSALS: dict[type[dns.exception.DNSException], str] = {
    dns.tsig.PeerBadKey: "does not know this client's TSIG key: enrol anew",
    dns.tsig.PeerBadSignature: "rejects this client's TSIG signature: enrol anew",
    dns.tsig.PeerBadTime: "rejects the signature's time: set this machine's clock",
    dns.tsig.BadTime: "signed at a time too far from this machine's clock: set the clock",
    dns.tsig.BadSignature: "its answer is signed with another key",
}
