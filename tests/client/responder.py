"""A small scripted DNS server for the client's tests, able to send what no honest server would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.rrset
import dns.tsig

Answering: TypeAlias = Callable[[dns.message.Message, str], list[bytes]]
"""From a query and "udp" or "tcp" to the messages to send back."""

KEY_NAME, SECRET = "acme-key", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
KEY = dns.tsig.Key(KEY_NAME, SECRET, "hmac-sha256")


def reply(query: dns.message.Message, *records: str, rcode: int = 0, signed: bool = True) -> dns.message.Message:
    """An authoritative answer with records such as "www.example.test. 60 IN AAAA 2001:db8::1"."""
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.AA
    answer.set_rcode(rcode)
    for record in records:
        name, ttl, rdclass, rdtype, data = record.split(maxsplit=4)
        answer.answer.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, data))
    if not signed:
        answer.tsig = None
        answer.want_tsig_sign = False
    return answer


@dataclass
class Responder:
    """Serves UDP and TCP on one port of `host` during its `async with` block."""

    answering: Answering
    host: str = "127.0.0.1"
    port: int = 0
    asked: list[tuple[str, dns.message.Message]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def __aenter__(self) -> Responder:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._stream, self.host, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (self.host, self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()

    def answers(self, wire: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(wire, keyring={KEY.name: KEY})
        self.asked.append((transport, query))
        return self.answering(query, transport)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        for wire in self.answers(await reader.readexactly(size), "tcp"):
            writer.write(len(wire).to_bytes(2, "big") + wire)
        await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for wire in self._responder.answers(data, "udp"):
            self._transport.sendto(wire, addr)  # type: ignore[attr-defined]
