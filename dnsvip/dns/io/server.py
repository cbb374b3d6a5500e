"""The DNS server's shell: listeners, the clock, and one Engine that answers everything they bring.

While it answers it touches neither database nor files. A new snapshot is a new Engine put in the old
one's place by a single assignment: each message is answered wholly by one or by the other.
"""

from __future__ import annotations

import asyncio
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import structlog

from dnsvip.dns.control import Identity
from dnsvip.dns.counters import Counters, Outcome
from dnsvip.dns.engine import Engine, failure
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.keys import WIDTH, address_of, key_of, peer_of
from dnsvip.dns.identity.identify import Geo
from dnsvip.dns.io.tcp import Gate, Stream, StreamLimits
from dnsvip.dns.io.udp import Batches
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protection.rrl import Limiter, Verdict, slipped
from dnsvip.dns.protocol.message import Rcode
from dnsvip.dns.querylog import Asked
from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot, parse_endpoint
from dnsvip.site.node_file import DnsSettings, Listener
from dnsvip.telemetry.sample_log import Every, SampleLog

PORT_TRIES = 8
"""How often a free port is looked for that UDP and TCP can both have."""

log = structlog.get_logger()

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener really listens, UDP and TCP."""

    name: str
    host: str
    port: int


class DnsServer:
    """Answers on every listener of `settings` from `start` to `stop`. Belongs to the running event loop.

    `engine`, or `fast`, the FastPath in front of it, may be replaced at any time. With `settings.workers` above 1 the
    ports are shared (SO_REUSEPORT), so that as many processes can each run a DnsServer.
    """

    def __init__(self, settings: DnsSettings, engine: Engine, limits: StreamLimits | None = None) -> None:
        self.fast = FastPath(engine, time.time())
        self.endpoints: tuple[Endpoint, ...] = ()
        self._settings = settings
        tcp = settings.tcp
        self._front_ends = FrontEnds(settings.proxy_from)
        self._gate = Gate(limits or StreamLimits(tcp.connections, tcp.per_source, tcp.idle_seconds), self._front_ends)
        rate = settings.rate_limit
        self._limiter = Limiter(rate.responses_per_second, rate.slip) if rate else None
        self._tally: Counter[str] = Counter()
        self._fast_failures = 0
        self._samples: SampleLog[Asked] | None = None
        self._every = Every(1)
        self._datagrams: list[Batches] = []
        self._servers: list[asyncio.Server] = []
        self._report_problems()

    async def start(self) -> None:
        """Listen everywhere; raises PlatformError naming the listener that cannot, and then listens nowhere."""
        try:
            for listener in self._settings.listen:
                await self._listen(listener)
        except PlatformError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Take nothing more, send what is written, give up the ports."""
        for datagrams in self._datagrams:
            datagrams.stop()
        for server in self._servers:
            server.close()
        for stream in list(self._gate.streams):
            stream.close()
        self._datagrams, self._servers, self.endpoints = [], [], ()
        await asyncio.sleep(0)

    @property
    def engine(self) -> Engine:
        """Who decides."""
        return self.fast.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.fast = FastPath(engine, time.time(), self.fast)

    def reconfigure(self, settings: DnsSettings) -> None:
        """Take over another rate limit and other bounds of streams from now on; the rest needs another server."""
        if settings.rate_limit != self._settings.rate_limit:
            rate = settings.rate_limit
            self._limiter = Limiter(rate.responses_per_second, rate.slip) if rate else None
        tcp = settings.tcp
        self._gate.limits = StreamLimits(tcp.connections, tcp.per_source, tcp.idle_seconds)
        self._settings = replace(self._settings, rate_limit=settings.rate_limit, tcp=tcp)

    def compiled(
        self,
        snapshot: Snapshot,
        geo: Geo | None = None,
        identity: Identity | None = None,
        require_cookies: bool | None = None,
    ) -> FastPath:
        """What answers from this snapshot (the rest as Engine has it), ready to be assigned to `fast`; may be called in
        another thread."""
        engine = Engine(snapshot, self.engine, geo, identity, require_cookies)
        return FastPath(engine, time.time(), self.fast)

    def sample(self, log: SampleLog[Asked] | None, one_in: int = 1) -> None:
        """Offer one question in `one_in` to a log from now on; None: none."""
        self._samples, self._every = log, Every(one_in)

    def update(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from now on."""
        self.fast = self.compiled(snapshot)
        self._report_problems()

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Totals since the start: `outcomes` sum to `udp_messages` + `tcp_messages` of `transport`."""
        counters = self.engine.counters
        return {
            "outcomes": {outcome.value: number for outcome, number in counters.outcomes.items()},
            "rcodes": {Rcode(rcode).name: number for rcode, number in counters.rcodes.items()},
            "queries": _by_transport(counters),
            "steps": dict(counters.steps),
            "tiers": dict(counters.tiers),
            "vips": {kind.value: number for kind, number in counters.kinds.items()},
            "transport": {**self._tally, "tcp_open": len(self._gate.streams)},
            "query_log": self._samples.counts() if self._samples else {},
        }

    def _respond(self, wire: bytes, source: IPv4Address | IPv6Address, listener: str, transport: str) -> bytes | None:
        return self._guarded(self.engine.answer, wire, source, listener, transport)

    def _converse(
        self, wire: bytes, source: IPv4Address | IPv6Address, listener: str, transport: str
    ) -> bytes | Iterator[bytes] | None:
        answer = self._guarded(self.engine.answer_stream, wire, source, listener, transport)
        if self._samples is not None and self._every.picks(1):
            told = answer if isinstance(answer, bytes) else None
            self._samples.offer(Asked(time.time(), transport, listener, source, wire[2:], told and told[2:]))
        return answer

    def _guarded(
        self,
        decide: Callable[[bytes, IPv4Address | IPv6Address, str, str, float], _Answer],
        wire: bytes,
        source: IPv4Address | IPv6Address,
        listener: str,
        transport: str,
    ) -> _Answer | bytes | None:
        engine = self.engine
        try:
            return decide(wire, source, listener, transport, time.time())
        except Exception:  # noqa: BLE001 - one message must not take the server down; it is counted and reported
            decision = failure(wire)
            engine.counters.count(decision)
            times = engine.counters.outcomes[decision.outcome]
            if times & (times - 1) == 0:
                log.error("a message could not be answered", times=times, traceback=traceback.format_exc())
            return decision.wire

    def _respond_all(self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int) -> list[bytes | None]:
        """The answers to datagrams: most by the fast path, the rest by the engine."""
        try:
            answers = self.fast.answers(keys, listener, width, time.time())
        except Exception:  # noqa: BLE001 - a fault of ours must take neither the server down nor answers away
            self.fast, answers = FastPath(self.engine, time.time(), self.fast), [None] * len(keys)
            self._fast_failures += 1
            if self._fast_failures & (self._fast_failures - 1) == 0:
                log.error("the fast path failed", times=self._fast_failures, traceback=traceback.format_exc())
        if not all(answers):
            for number, key in enumerate(keys):
                if answers[number] is None:
                    wire = ids[2 * number : 2 * number + 2] + key[width:]
                    answer = self._respond(bytes(wire), address_of(key, width), listener, "udp")
                    answers[number] = answer and answer[2:]
        if self._limiter is not None:
            self._limit(self._limiter, keys, answers, width, time.time())
        if self._samples is not None:
            for place in self._every.picks(len(keys)):
                key = keys[place]
                asked = Asked(time.time(), "udp", listener, address_of(key, width), key[width:], answers[place])
                self._samples.offer(asked)
        return answers

    def _respond_behind(self, keys: Sequence[bytes], ids: bytearray, listener: str, width: int) -> list[bytes | None]:
        """The answers to datagrams of which some come from front ends: what is wrapped has another id and sender."""
        wires = [bytes(ids[2 * number : 2 * number + 2] + key[width:]) for number, key in enumerate(keys)]
        asked, wrong = self._front_ends.unwrap(wires, [peer_of(key, width) for key in keys])
        self.engine.counters.tick(Outcome.BAD_PROXY, None, None, None).number += wrong
        answers: list[bytes | None] = [None] * len(keys)
        for size, version in _VERSIONS:
            places = [place for place, pair in enumerate(asked) if pair and len(pair[1]) == size]
            inner = [pair for place in places if (pair := asked[place])]
            inner_ids = bytearray().join([wire[:2].ljust(2, b"\0") for wire, _ in inner])
            made = self._respond_all([key_of(peer, wire) for wire, peer in inner], inner_ids, listener, WIDTH[version])
            for number, place in enumerate(places):
                answers[place] = made[number]
                ids[2 * place : 2 * place + 2] = inner_ids[2 * number : 2 * number + 2]
        return answers

    def _limit(
        self, limiter: Limiter, keys: Sequence[bytes], answers: list[bytes | None], width: int, now: float
    ) -> None:
        """Keep back what goes beyond the limit."""
        zones, cookies = self.engine.zones, self.engine.cookies
        for number, answer in enumerate(answers):
            if answer is None:
                continue
            key, whole = keys[number], b"\0\0" + answer
            verdict = limiter.judge(key[width:], whole, peer_of(key, width), zones, cookies, now)
            if verdict is not Verdict.SEND:
                slip = verdict is Verdict.SLIP
                answers[number] = slipped(whole)[2:] if slip else None
                self._tally["udp_slipped" if slip else "udp_dropped"] += 1

    async def _listen(self, listener: Listener) -> None:
        host, port = parse_endpoint(listener.address)
        try:
            stream, datagram = _bind(host, port, shared=self._settings.workers > 1)
        except OSError as error:
            where = f"dns.listen {listener.name!r}: {listener.address}"
            raise PlatformError(f"{where}: cannot listen there: {error.strerror or error}") from error
        respond = self._respond_behind if self._front_ends else self._respond_all
        datagrams = Batches(datagram, listener.name, respond, self._tally)
        datagrams.start()
        self._datagrams.append(datagrams)
        loop = asyncio.get_running_loop()
        factory = lambda: Stream(listener.name, self._converse, self._gate, self._tally)  # noqa: E731
        self._servers.append(await loop.create_server(factory, sock=stream, backlog=512))
        self.endpoints += (Endpoint(listener.name, host, stream.getsockname()[1]),)

    def _report_problems(self) -> None:
        for problem in self.engine.problems:
            log.error("a zone cannot be served", where=problem.where, problem=problem.message)


def _by_transport(counters: Counters) -> dict[str, int]:
    """Answers by transport and rcode, as "udp NOERROR"."""
    found = {f"tcp {Rcode(rcode).name}": number for rcode, number in counters.streams.items() if rcode is not None}
    for rcode, number in counters.rcodes.items():
        found[f"udp {Rcode(rcode).name}"] = number - counters.streams.get(rcode, 0)
    return found


_VERSIONS = ((4, 4), (16, 6))
"""Bytes of an address, and the IP version it is of."""


def _bind(host: str, port: int, *, shared: bool) -> tuple[socket.socket, socket.socket]:
    """A stream and a datagram socket on one port; port 0 takes one that is free for both."""
    for attempt in range(PORT_TRIES):
        stream = _socket(host, port, socket.SOCK_STREAM, shared=shared)
        try:
            return stream, _socket(host, stream.getsockname()[1], socket.SOCK_DGRAM, shared=shared)
        except OSError:
            stream.close()
            if port or attempt == PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _socket(host: str, port: int, kind: socket.SocketKind, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
