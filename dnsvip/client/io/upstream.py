"""Queries that others answer: passed on as they are to the upstream resolvers, and only a matching answer comes back.

An answer with another id, opcode or question, or whose sections do not add up, is none (RFC 5452 section 9). It knows
nothing about the enrolment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import dns.rcode

from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.outline import Malformed, Outline, failure, outline, truncated
from dnsvip.client.padding import padded, unpadded
from dnsvip.errors import ClientError
from dnsvip.site import parse_endpoint
from dnsvip.site.server_forms import is_encrypted

Transport: TypeAlias = str
"""The transport of a query, and of its forwarding: "udp" or "tcp"."""

UPSTREAM_SECONDS = 5.0
"""The longest that one upstream is waited for; then the next one is queried."""


async def forward(
    query: Outline, wire: bytes, transport: Transport, servers: Sequence[str], channels: Channels
) -> bytes:
    """The first of `servers` that answers the query, truncated to what it takes; else SERVFAIL. Encrypted ones are
    asked on `channels`."""
    for server in servers:
        try:
            async with asyncio.timeout(UPSTREAM_SECONDS):
                if is_encrypted(server):
                    answer = await _encrypted(query, wire, server, channels)
                else:
                    answer = await _EXCHANGE[transport](query, wire, *parse_endpoint(server))
        except (OSError, TimeoutError, EOFError, Malformed, ClientError):
            continue
        if transport == "udp" and len(answer) > query.udp_limit:
            return truncated(wire, answer)
        return answer
    return failure(wire, dns.rcode.SERVFAIL)


async def _over_udp(query: Outline, wire: bytes, host: str, port: int) -> bytes:
    """One connected socket per query, so that the kernel randomizes its port; what does not answer it is ignored."""
    loop = asyncio.get_running_loop()
    matching: asyncio.Future[bytes] = loop.create_future()

    def look(data: bytes, _reply: object) -> None:
        if matching.done():
            return
        if not data:
            matching.set_exception(ConnectionRefusedError())
        elif _is_answer(query, data):
            matching.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(look), remote_addr=(host, port))
    try:
        transport.sendto(wire)
        return await matching
    finally:
        transport.close()


async def _over_tcp(query: Outline, wire: bytes, host: str, port: int) -> bytes:
    """Raises Malformed for an answer to another question: a stream has one sender, and nothing better will follow."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        answer = await framed(reader)
    finally:
        writer.transport.abort()
    if not _is_answer(query, answer):
        raise Malformed(f"{host} answers another question")
    return answer


async def _encrypted(query: Outline, wire: bytes, server: str, channels: Channels) -> bytes:
    """Raises Malformed as `_over_tcp`."""
    sent = padded(query, wire)
    answer = await channels.ask(server, sent)
    if not _is_answer(query, answer):
        raise Malformed(f"{server} answers another question")
    return answer if sent is wire else unpadded(outline(answer), answer)


async def framed(reader: asyncio.StreamReader) -> bytes:
    """One message of a stream (RFC 1035 section 4.2.2); raises IncompleteReadError where the stream ends in it."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


def _is_answer(query: Outline, wire: bytes) -> bool:
    try:
        return query.is_answered_by(outline(wire))
    except Malformed:
        return False


_EXCHANGE = {"udp": _over_udp, "tcp": _over_tcp}


class Datagrams(asyncio.DatagramProtocol):
    """Passes each datagram on with a way to reply to it; an ICMP error is an empty datagram."""

    def __init__(self, received: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        self._received = received

    def connection_made(self, transport: Any) -> None:
        """Keep the transport, for replies."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Pass it on; a reply goes to its sender."""
        self._received(data, lambda answer: self._send(answer, addr))

    def _send(self, answer: bytes, addr: Any) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def error_received(self, _error: Exception) -> None:
        """Pass it on as an empty datagram."""
        self._received(b"", lambda _: None)


def system_servers(file: Path = Path("/etc/resolv.conf")) -> list[str]:
    """This machine's name servers, each ADDRESS:PORT; none where the file names none."""
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return []
    hosts = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and "%" not in line[1]]
    return [f"[{host}]:53" if ":" in host else f"{host}:53" for host in hosts]
