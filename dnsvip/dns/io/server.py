"""The DNS server: listeners, and the engine in force.

It answers without touching database or files. A new snapshot is a new Engine that replaces the old one by a single
assignment: each message is answered entirely by one or the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import structlog

from dnsvip.dns.control import ServerIdentity
from dnsvip.dns.counters import Counters
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.identity.identify import Geo
from dnsvip.dns.io.gate import Gate, StreamLimits
from dnsvip.dns.io.latency import Latency
from dnsvip.dns.io.listen import Endpoint, Listeners
from dnsvip.dns.io.responder import Make, Responder
from dnsvip.dns.io.top import DnsTop
from dnsvip.dns.io.turns import DatagramTurns
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protection.rrl import Limiter
from dnsvip.dns.protocol.message import Rcode
from dnsvip.dns.protocol.names import Labels, site_name
from dnsvip.dns.querylog import Sample
from dnsvip.dns.reply import DnsOutcome
from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot
from dnsvip.site.node_dns import DnsSettings, RateLimit
from dnsvip.telemetry.sample_log import Every, Log, Several

MOST_ZONES, ZONES_SECONDS = 1000, 5.0
"""Zones whose answers are reported, those with the most; and how often they are looked for where there are more."""

log = structlog.get_logger()


class AnswersAhead(Protocol):
    """What answers messages before they reach the server."""

    def renew(self) -> None:
        """Answer as the server does now: its engine, or what it limits and samples, has changed."""
        ...

    def collect(self) -> Mapping[str, int]:
        """Add the answers since the last call to the server's counters; packets by what became of them."""
        ...


class Load(NamedTuple):
    """Datagrams that all processes on these ports had time for, by this one's; how many it has lost since its start,
    and seconds that it has spent on them; how many wait for their turn; and bytes in the fullest buffer of its
    sockets."""

    done: int
    lost: int
    spent: float
    waiting: int
    held: int


class Sampled(NamedTuple):
    """A log, and of how many queries it gets one."""

    log: Log[Sample]
    one_in: int
    every: Every


class DnsServer:
    """Answers on every listener of `settings` from `start` to `stop`. Belongs to the running event loop.

    `engine`, or `fast`, the FastPath in front of it, may be replaced at any time. `most_streams` bounds the connections
    further than `settings` (file descriptors). With `settings.workers` above 1 the
    ports are shared (SO_REUSEPORT), so that as many processes can each run a DnsServer.
    """

    def __init__(
        self,
        settings: DnsSettings,
        engine: Engine,
        limits: StreamLimits | None = None,
        most_streams: int | None = None,
    ) -> None:
        self.ahead: AnswersAhead | None = None
        self._settings, self._most_streams = settings, most_streams
        self.front_ends = FrontEnds(settings.proxy_from)
        self._gate = Gate(limits or self._limits(settings), self.front_ends)
        self._tally: Counter[str] = Counter()
        self._ahead = self._busy_ahead = 0
        self._by_zone: Mapping[str, int] = {}
        self._zones_at = 0.0
        self._responder = Responder(engine, self.front_ends, self._tally)
        self._responder.limiter = _limiter(settings)
        engine.tokens.guesses.share(settings.workers)
        self._logs: dict[str, Sampled] = {}
        self._latency = Latency()
        self._turns = DatagramTurns(self._responder.answer, self._responder.drop, self._latency)
        self.listeners = Listeners(
            settings, self._responder, self._gate, self.front_ends, self._tally, self._turns, self._latency
        )
        self._report_problems()

    async def start(self) -> None:
        """Listen everywhere; raises PlatformError naming the listener that cannot, with all others closed."""
        try:
            for listener in self._settings.listen:
                await self.listeners.open(listener)
        except PlatformError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Accept nothing more, flush what is written, release the ports."""
        self._turns.close()
        self.listeners.close()
        await asyncio.sleep(0)

    def answer_datagrams(self) -> None:
        """Answer the datagrams that have come, for whoever keeps the event loop from it."""
        for datagrams in self.listeners.datagrams:
            datagrams.read()
        self._turns.run()

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Where it listens."""
        return self.listeners.endpoints

    @property
    def fast(self) -> FastPath:
        """What answers first."""
        return self._responder.fast

    @fast.setter
    def fast(self, fast: FastPath) -> None:
        self._responder.fast = fast
        self.listeners.refresh()
        if self.ahead is not None:
            self.ahead.renew()

    @property
    def workers(self) -> int:
        """Processes that answer at the same ports."""
        return self._settings.workers

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limit in force."""
        return self._settings.rate_limit

    @property
    def logs(self) -> Mapping[str, Sampled]:
        """The logs that are offered samples, by name."""
        return self._logs

    def load(self) -> Load:
        """How it keeps up with datagrams."""
        busy = self.engine.counters.cell(DnsOutcome.BUSY, None, None, None).number - self._busy_ahead
        held, lost, spent = 0, busy, self._turns.spent
        for datagrams in self.listeners.datagrams:
            waiting, dropped = datagrams.held()
            held, lost, spent = max(held, waiting), lost + dropped, spent + datagrams.spent
        done = self._tally["udp_messages"] - self._ahead - busy
        return Load(done * self._settings.workers, lost, spent, self._turns.waiting(), held)

    def forget_waiting(self) -> None:
        """Answer none of the datagrams that wait."""
        self._turns.forget()
        self._responder.drop(sum(datagrams.discard() for datagrams in self.listeners.datagrams))

    def count_ahead(self, messages: int, slipped: int, dropped: int, busy: int) -> None:
        """Count messages that were answered before they came here, and those of them that the rate limit cut or
        dropped; and those that were dropped for want of time."""
        self._ahead += messages + busy
        self._busy_ahead += busy
        self._tally["udp_messages"] += messages + busy
        self._responder.drop(busy)
        for name, number in (("udp_slipped", slipped), ("udp_dropped", dropped)):
            if number:
                self._tally[name] += number

    @property
    def engine(self) -> Engine:
        """The engine in force."""
        return self.fast.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.fast = FastPath(engine, self.fast)

    def reconfigure(self, settings: DnsSettings) -> None:
        """Apply another rate limit and other stream limits from now on; other settings need a new server."""
        if settings.rate_limit != self._settings.rate_limit:
            self._responder.limiter = _limiter(settings)
        self._gate.limits = self._limits(settings)
        self._settings = replace(self._settings, rate_limit=settings.rate_limit, tcp=settings.tcp)
        if self.ahead is not None:
            self.ahead.renew()

    def _limits(self, settings: DnsSettings) -> StreamLimits:
        tcp, most = settings.tcp, self._most_streams
        connections = tcp.connections if most is None else min(most, tcp.connections)
        return StreamLimits(connections, tcp.per_source, tcp.idle_seconds)

    def compiled(
        self,
        snapshot: Snapshot,
        geo: Geo | None = None,
        identity: ServerIdentity | None = None,
        require_cookies: bool | None = None,
    ) -> FastPath:
        """A FastPath for this snapshot (arguments as Engine's), ready to be assigned to `fast`; thread-safe."""
        engine = Engine(snapshot, self.engine, geo, identity, require_cookies)
        return FastPath(engine, self.fast)

    def updating(self, make: Make | None) -> None:
        """Have updates and certificates made by this from now on; None: refuse all."""
        self._responder.make = make

    def sample(self, name: str, log: Log[Sample] | None, one_in: int = 1) -> None:
        """Offer one query in `one_in` to the log of this name from now on; None: none. Its counters have the name.
        Other logs go on as they were."""
        self._logs = {other: sampled for other, sampled in self._logs.items() if other != name}
        if log is not None:
            self._logs[name] = Sampled(log, one_in, Every(one_in))
        responder, logs = self._responder, list(self._logs.values())
        if len(logs) > 1:
            responder.samples = responder.every = Several([(each.log, each.every) for each in logs])
        else:
            responder.samples, responder.every = (logs[0].log, logs[0].every) if logs else (None, Every(1))
        if self.ahead is not None:
            self.ahead.renew()

    def show_top(self, top: DnsTop | None) -> None:
        """Have what is asked most counted there from now on."""
        self._responder.top = top

    def on_notify(self, take: Callable[[Labels], object]) -> None:
        """Call `take` with the apex of each secondary zone that a primary sends NOTIFY for."""
        self._responder.on_notify = take

    def update(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from now on."""
        self.fast = self.compiled(snapshot)
        self._report_problems()

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Totals since the start: `outcomes` sum to the messages of all transports."""
        ahead = self.ahead.collect() if self.ahead else {}
        counters = self.engine.counters
        return {
            "outcomes": {outcome.value: number for outcome, number in counters.outcomes.items()},
            "rcodes": {Rcode(rcode).name: number for rcode, number in counters.rcodes.items()},
            "queries": _by_transport(counters),
            "steps": dict(counters.steps),
            "tiers": dict(counters.tiers),
            "zones": self._zones(),
            "vips": {kind.value: number for kind, number in counters.kinds.items()},
            "latency": self._latency.counters(),
            "xdp": ahead,
            "transport": {"tcp_open": 0, **self._tally},
            **{name: self._logs[name].log.counts() if name in self._logs else {} for name in ("query_log", "dnstap")},
        }

    def _zones(self) -> Mapping[str, int]:
        """Answers by zone; those of many zones are not looked through at each report."""
        now = time.monotonic()
        if now - self._zones_at >= ZONES_SECONDS or len(self.engine.zones.by_apex) <= MOST_ZONES:
            numbers = self.engine.counters.zones(self.engine.zones.by_apex, MOST_ZONES)
            self._by_zone, self._zones_at = {site_name(apex): number for apex, number in numbers}, now
        return self._by_zone

    def _report_problems(self) -> None:
        for problem in self.engine.problems:
            log.error("an object cannot be served", where=problem.where, problem=problem.message)


def _limiter(settings: DnsSettings) -> Limiter | None:
    rate = settings.rate_limit
    return Limiter(rate.responses_per_second, rate.slip) if rate else None


def _by_transport(counters: Counters) -> dict[str, int]:
    """Answers by transport and rcode, as "udp NOERROR"."""
    streams = {(transport, rcode): n for (transport, rcode), n in counters.streams.items() if rcode is not None}
    numbers = {f"{transport} {Rcode(rcode).name}": number for (transport, rcode), number in streams.items()}
    for rcode, number in counters.rcodes.items():
        others = sum(streams.get((transport, rcode), 0) for transport in Transport)
        numbers[f"udp {Rcode(rcode).name}"] = number - others
    return numbers
