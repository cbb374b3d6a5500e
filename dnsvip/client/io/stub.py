"""A local stub resolver: it answers enrolled names with proven addresses, and forwards all others upstream.

For programs that use neither proxies nor our hosts file. Only this machine may query it, as the proof is made for its
source address. A proof bound to a source port cannot be put into an answer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.svcbbase
import dns.rrset

from dnsvip.client.io.agent import Agent
from dnsvip.client.io.lookup import canonical
from dnsvip.client.proof import Why
from dnsvip.errors import ClientError
from dnsvip.site import parse_endpoint

Transport: TypeAlias = str
"""The transport of a query, and of its forwarding: "udp" or "tcp"."""

UPSTREAM_SECONDS = 5.0
TCP_IDLE_SECONDS = 10.0
PLAIN_UDP_SIZE = 512  # bytes, RFC 1035 section 4.2.1
HINT = dns.rdtypes.svcbbase.ParamKey.IPV6HINT


class Stub:
    """Answers on UDP and TCP at `listen` while its `async with` block lasts.

    Raises ClientError for an address that is not loopback, for a client whose proofs are bound to the source port, and
    without an upstream for other names.
    """

    def __init__(self, agent: Agent, listen: str, upstream: Sequence[str] = ()) -> None:
        self._host, self._port = parse_endpoint(listen)
        if not ip_address(self._host).is_loopback:
            raise ClientError(f"{listen}: must be a loopback address, as proofs are made for this machine only")
        if agent.needs_port:
            raise ClientError(
                "the stub cannot serve this client: its proofs are bound to the source port, which no DNS answer"
                " knows; use `dnsvip client exec`"
            )
        self._agent = agent
        self._upstream = [server for server in upstream or system_servers() if server != listen]
        if not self._upstream:
            raise ClientError("no upstream resolver for other names: name one with --upstream ADDRESS:PORT")
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Stub:
        try:
            self._tcp = await asyncio.start_server(self._serve_stream, self._host, self._port)
            port = self._tcp.sockets[0].getsockname()[1]
            self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self._serve_datagram), (self._host, port)
            )
        except OSError as error:
            raise ClientError(f"cannot listen at {self._host} port {self._port}: {error.strerror}") from None
        self._port = port
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> str:
        """Where it listens, as ADDRESS:PORT."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    async def answer(self, wire: bytes, transport: Transport) -> bytes | None:
        """The answer to one message; None where it gets none."""
        try:
            query = dns.message.from_wire(wire, keyring=False)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR or query.had_tsig or not query.question:
            return None  # a signature is between the requester and the server that shares its key
        if self._is_ours(query):
            answer = await self._own(query)
            if answer is not None:
                return _to_wire(query, answer, transport)
        return await self._forward(query, wire, transport)

    def _is_ours(self, query: dns.message.Message) -> bool:
        question = query.question[0]
        enrolment = self._agent.enrolment
        is_plain_query = query.opcode() == dns.opcode.QUERY and question.rdclass == dns.rdataclass.IN
        return bool(is_plain_query and enrolment and enrolment.covers(_name(question.name)))

    async def _own(self, query: dns.message.Message) -> dns.message.Message | None:
        """The enrolled servers' answer with proven addresses; None where the upstream is responsible."""
        question = query.question[0]
        service = _name(question.name) in self._agent.services
        answer = dns.message.make_response(query, recursion_available=True)
        try:
            response = await self._agent.ask(_name(question.name), dns.rdatatype.to_text(question.rdtype))
            is_final = response.rcode() != dns.rcode.NOERROR or any(
                r.rdtype == question.rdtype for r in response.answer
            )
            if not service and not is_final:
                return None  # a delegation, or an alias that leads out of our zones
            answer.set_rcode(response.rcode())
            answer.answer = [self._proven(rrset) for rrset in response.answer]
            answer.authority = [rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA]
        except (ClientError, OSError):
            if not service:
                return None
            answer.set_rcode(dns.rcode.SERVFAIL)
            answer.answer.clear()
        return answer

    def _proven(self, rrset: dns.rrset.RRset) -> dns.rrset.RRset:
        """The same records with every cluster address proven; the TTL ends with the proofs."""
        until: list[float] = []
        records = [
            _REWRITE.get(rdata.rdtype, _same)(rdata, lambda issued: self._prove(issued, until)) for rdata in rrset
        ]
        ttl = rrset.ttl
        if until:
            ttl = max(0, min(ttl, math.floor(min(until) - time.time())))
        return dns.rrset.from_rdata_list(rrset.name, 0 if self._agent.proves_per_connection and until else ttl, records)

    def _prove(self, issued: str, until: list[float]) -> str:
        proven = self._agent.prove(IPv6Address(issued))
        if proven.why is Why.USED_UP:
            raise ClientError(f"{issued}: {proven.why}")
        if proven.valid_until is not None:
            until.append(proven.valid_until)
        return str(proven.address)

    async def _forward(self, query: dns.message.Message, wire: bytes, transport: Transport) -> bytes:
        for server in self._upstream:
            try:
                async with asyncio.timeout(UPSTREAM_SECONDS):
                    return await _EXCHANGE[transport](wire, *parse_endpoint(server))
            except (OSError, TimeoutError, EOFError):
                continue
        failed = dns.message.make_response(query, recursion_available=True)
        failed.set_rcode(dns.rcode.SERVFAIL)
        return failed.to_wire()

    # -- transports ------------------------------------------------------------------------------------

    def _serve_datagram(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        async def serve() -> None:
            answer = await self.answer(data, "udp")
            if answer is not None:
                reply(answer)

        task = asyncio.create_task(serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE_SECONDS):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    wire = await reader.readexactly(size)
                answer = await self.answer(wire, "tcp")
                if answer is None:
                    break
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, TimeoutError, EOFError):
            pass  # the requester is gone
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        self._received = received

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, lambda answer: self._transport.sendto(answer, addr))

    def error_received(self, _error: Exception) -> None:
        self._received(b"", lambda _: None)


def system_servers(file: Path = Path("/etc/resolv.conf")) -> list[str]:
    """This machine's name servers, each ADDRESS:PORT; none where the file names none."""
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return []
    hosts = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver" and "%" not in line[1]]
    return [f"[{host}]:53" if ":" in host else f"{host}:53" for host in hosts]


def _name(name: dns.name.Name) -> str:
    return canonical(name.to_text())


def _to_wire(query: dns.message.Message, answer: dns.message.Message, transport: Transport) -> bytes:
    limit = 65_535 if transport == "tcp" else max(query.payload if query.edns >= 0 else 0, PLAIN_UDP_SIZE)
    try:
        return answer.to_wire(max_size=limit)
    except dns.exception.TooBig:
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()


def _same(rdata: dns.rdata.Rdata, _prove: Callable[[str], str]) -> dns.rdata.Rdata:
    return rdata


def _aaaa(rdata: Any, prove: Callable[[str], str]) -> dns.rdata.Rdata:
    proven_rdata: dns.rdata.Rdata = rdata.replace(address=prove(rdata.address))
    return proven_rdata


def _svcb(rdata: Any, prove: Callable[[str], str]) -> dns.rdata.Rdata:
    """The hint carries the same address as AAAA (RFC 9460 section 7.3)."""
    hint = rdata.params.get(HINT)
    if hint is None:
        return _same(rdata, prove)
    proven = dns.rdtypes.svcbbase.IPv6HintParam(  # type: ignore[no-untyped-call]
        [prove(address) for address in hint.addresses]
    )
    proven_rdata: dns.rdata.Rdata = rdata.replace(params={**rdata.params, HINT: proven})
    return proven_rdata


_REWRITE = {dns.rdatatype.AAAA: _aaaa, dns.rdatatype.HTTPS: _svcb, dns.rdatatype.SVCB: _svcb}


async def _over_udp(wire: bytes, host: str, port: int) -> bytes:
    """One connected socket per query, so that the kernel randomizes its port."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(lambda data, _: arrived.put_nowait(data)), remote_addr=(host, port)
    )
    try:
        transport.sendto(wire)
        while True:
            answer = await arrived.get()
            if not answer:
                raise ConnectionRefusedError
            if answer[:2] == wire[:2] and len(answer) >= 12 and answer[2] & 0x80:
                return answer
    finally:
        transport.close()


async def _over_tcp(wire: bytes, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()


_EXCHANGE = {"udp": _over_udp, "tcp": _over_tcp}
