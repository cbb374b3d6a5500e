"""A local stub resolver: it answers enrolled names with proven addresses, and forwards all others upstream.

For programs that use neither proxies nor our hosts file. Only this machine may query it, as the proof is made for its
source address. A proof bound to a source port cannot be put into an answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

import dns.exception
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
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.io.exchange import Silent
from dnsvip.client.io.own_answers import OwnAnswers
from dnsvip.client.io.places import Places
from dnsvip.client.io.upstream import Datagrams, Transport, forward, framed, system_servers
from dnsvip.client.outline import EDNS_VERSION, HEADER, Malformed, Outline, Question, failure, outline, truncated
from dnsvip.client.weight import is_heavy
from dnsvip.errors import ClientError
from dnsvip.site import parse_endpoint
from dnsvip.site.server_forms import is_encrypted

TCP_IDLE_SECONDS = 10.0
ANSWER_SECONDS = 20.0
"""The longest that a query waits, with every server of the enrolment and every upstream silent; then SERVFAIL."""
QUERIES = 256
"""Datagrams worked on at a time; each holds a descriptor. When all wait, the one waiting longest gets SERVFAIL."""
STREAMS = 64
"""TCP connections at a time, two descriptors each; when all are taken, the one idle longest is closed."""
ALIKE = 64
"""Queries with the same question that wait for the upstream at a time; more get SERVFAIL. So a stub that is its own
upstream, or that of a resolver it asks, goes round no more often."""
QUERY_LIMIT = 4096
"""Octets of a query; other opcodes, such as UPDATE, may be as long as a message."""
MESSAGE_LIMIT = 65_535  # octets, RFC 1035 section 4.2.2


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
        if (what := agent.needs_sockets) is not None:
            raise ClientError(
                f"the stub cannot serve this client: no DNS answer carries {what}; use `dnsvip client exec`"
            )
        self._own, self._channels = OwnAnswers(agent), Channels()  # the enrolment's credentials are not for others
        self._upstream = [server for server in upstream or system_servers() if server != listen]
        if not self._upstream:
            raise ClientError("no upstream resolver for other names: name one with --upstream ADDRESS:PORT")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alike: Counter[tuple[int, tuple[Question, ...]]] = Counter()
        """How many wait for the upstream, by question."""
        self._queries, self._streams = Places(QUERIES), Places(STREAMS)

    async def __aenter__(self) -> Stub:
        try:
            self._tcp = await asyncio.start_server(self._serve_stream, self._host, self._port)
            port = self._tcp.sockets[0].getsockname()[1]
            self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Datagrams(self._serve_datagram), (self._host, port)
            )
        except OSError as error:
            raise ClientError(f"cannot listen at {self._host} port {self._port}: {error.strerror}") from None
        self._port = port
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        self._channels.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> str:
        """Where it listens, as ADDRESS:PORT."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    async def answer(self, wire: bytes, transport: Transport) -> bytes | None:
        """The answer to one message: ours, the upstream's, or an error; None to what cannot be a query."""
        if len(wire) < HEADER or wire[2] & 0x80:
            return None  # answering an answer could go on for ever
        if len(wire) > QUERY_LIMIT and wire[2] & 0x78 == dns.opcode.QUERY:
            return failure(wire, dns.rcode.FORMERR)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(outline(wire), wire, transport)
        except Malformed:
            return failure(wire, dns.rcode.FORMERR)
        except Exception:  # noqa: BLE001 - whatever one query raises must not reach the others
            return failure(wire, dns.rcode.SERVFAIL)

    async def _answer(self, query: Outline, wire: bytes, transport: Transport) -> bytes:
        if query.is_signed:  # between the requester and the server that shares its key (RFC 8945 section 5.5)
            return await self._forward(query, wire, transport, self._upstream)
        if query.edns_version not in (None, EDNS_VERSION):
            return failure(wire, dns.rcode.BADVERS)
        upstream = self._upstream
        if self._own.covers(query):
            try:
                answer = await self._own.of(_parsed(wire))
            except Silent:
                answer, upstream = None, list(filter(is_encrypted, upstream))
            if answer is not None:
                return _to_wire(answer, wire, query.udp_limit if transport == "udp" else MESSAGE_LIMIT)
        return await self._forward(query, wire, transport, upstream)

    async def _forward(self, query: Outline, wire: bytes, transport: Transport, upstream: Sequence[str]) -> bytes:
        question = query.opcode, query.questions
        if self._alike[question] >= ALIKE:
            return failure(wire, dns.rcode.SERVFAIL)
        self._alike[question] += 1
        try:
            return await forward(query, wire, transport, upstream, self._channels)
        finally:
            self._alike[question] -= 1
            if not self._alike[question]:
                del self._alike[question]

    # -- transports ------------------------------------------------------------------------------------

    def _serve_datagram(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        async def serve() -> None:
            try:
                with self._queries.take():
                    answer = await self.answer(data, "udp")
            except asyncio.CancelledError:
                answer = failure(data, dns.rcode.SERVFAIL)  # its place went to a later query
            if answer is not None:
                reply(answer)

        if len(data) < HEADER:
            return
        self._keep(asyncio.create_task(serve()))

    def _keep(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel a task when the stub ends."""
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(asyncio.current_task())
        try:
            with self._streams.take() as active:
                await self._answer_stream(reader, writer, active)
        except (OSError, TimeoutError, EOFError):
            pass  # the requester is gone, or slow
        except asyncio.CancelledError:
            pass  # its place went to a newcomer, or the stub ends
        finally:
            writer.transport.abort()

    async def _answer_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, active: Callable[[], None]
    ) -> None:
        while True:
            async with asyncio.timeout(TCP_IDLE_SECONDS):
                wire = await framed(reader)
            active()
            answer = await self.answer(wire, "tcp")
            if answer is None:
                break
            writer.write(len(answer).to_bytes(2, "big") + answer)
            async with asyncio.timeout(TCP_IDLE_SECONDS):
                await writer.drain()
        writer.close()
        async with asyncio.timeout(TCP_IDLE_SECONDS):
            await writer.wait_closed()


def _parsed(wire: bytes) -> dns.message.Message:
    """A query that we answer ourselves, so that every part of it must make sense; raises Malformed."""
    if is_heavy(wire):
        raise Malformed("full of long names")
    try:
        return dns.message.from_wire(wire, keyring=False)
    except dns.exception.DNSException as error:
        raise Malformed(str(error)) from error


def _to_wire(answer: dns.message.Message, query: bytes, limit: int) -> bytes:
    try:
        return answer.to_wire(max_size=limit)
    except dns.exception.TooBig:
        return truncated(query, bytes(HEADER))
