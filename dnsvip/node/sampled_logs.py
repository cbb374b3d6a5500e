"""The sampled query and flow logs and the dnstap of a process, as the node file says; a reload reconfigures them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dnsvip.dispatcher.observe.as_json import NOT_LOGGED, flow_log_line
from dnsvip.dispatcher.observe.filter import CompiledFilter
from dnsvip.dispatcher.observe.plane import Event, Filter, ObservedPlane
from dnsvip.dns.querylog import Sample
from dnsvip.dns.querylog import record as query_log_line
from dnsvip.node.reload import LiveConfig
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.node_log import DnstapSettings, SampleSettings
from dnsvip.telemetry.sample_log import Anonymise, Every, JsonLines, Render, SampleLog, T

if TYPE_CHECKING:  # a dispatcher needs no DNS sockets
    from dnsvip.dns.io.server import DnsServer

S = TypeVar("S", SampleSettings, DnstapSettings)
Use = Callable[[SampleLog[T, Any] | None, int], None]


@contextmanager
def query_logs(live: LiveConfig, server: DnsServer) -> Iterator[None]:
    """The query log of a server and what it sends as dnstap, while the context lasts."""
    render: Render[Sample, Mapping[str, Any]] = lambda sample, anonymise: query_log_line(  # noqa: E731
        sample, anonymise, server.engine.session_bases
    )
    lines = lambda settings: SampleLog(settings, render, JsonLines(settings.file))  # noqa: E731
    with (
        _configured(live, lambda node: node.log.queries, lines, partial(server.sample, "query_log")),
        _configured(live, lambda node: node.log.dnstap, partial(_dnstap, server), partial(server.sample, "dnstap")),
    ):
        yield


def _dnstap(server: DnsServer, settings: DnstapSettings) -> SampleLog[Sample, bytes]:
    from dnsvip.dns.dnstap import CONTENT_TYPE, frame  # noqa: PLC0415 - Protocol Buffers, for those who use dnstap
    from dnsvip.telemetry.frame_streams import FrameStream  # noqa: PLC0415

    whole = settings.keep4 == 32 and settings.keep6 == 128
    render: Render[Sample, bytes] = lambda sample, anonymise: frame(  # noqa: E731
        sample, anonymise, server.engine.session_bases, whole=whole
    )
    return SampleLog(settings, render, FrameStream(settings.receiver, CONTENT_TYPE))


@contextmanager
def flow_log(live: LiveConfig, runner: ObservedPlane) -> Iterator[Callable[[], Mapping[str, int]]]:
    """The flow log of a dispatcher, while the context lasts; yields the function that returns its counters."""
    flows = _FlowSampler(runner)
    lines = lambda settings: SampleLog(settings, flows.record, JsonLines(settings.file))  # noqa: E731
    with _configured(live, lambda node: node.log.flows, lines, flows.use):
        yield flows.counts


@contextmanager
def _configured(
    live: LiveConfig,
    settings_of: Callable[[NodeConfig], S | None],
    make: Callable[[S], SampleLog[T, Any]],
    use: Use[T],
) -> Iterator[None]:
    """A log with the current settings; with unchanged settings a reload reopens its file, for logrotate."""
    current: list[tuple[S, SampleLog[T, Any]]] = []

    def take(node: NodeConfig) -> None:
        settings = settings_of(node)
        if current and current[0][0] == settings:
            current[0][1].reopen()
            return
        log = make(settings) if settings else None
        if log:
            log.start()
        use(log, settings.one_in if settings else 1)
        for _, previous in current:
            previous.stop()
        current[:] = [(settings, log)] if settings and log else []

    take(live.node)
    live.subscribe(take)
    try:
        yield
    finally:
        use(None, 1)
        for _, log in current:
            log.stop()


class _FlowSampler:
    """Samples a runner's events, and renders each with the tables that decided it."""

    def __init__(self, runner: ObservedPlane) -> None:
        self._runner = runner
        self._log: SampleLog[Event, Any] | None = None
        self._every = Every(1)
        self._stop: Callable[[], None] = _do_nothing
        self._view: CompiledFilter | None = None

    def use(self, log: SampleLog[Event, Any] | None, one_in: int) -> None:
        """Offer one in `one_in` of the new and the refused flows to `log`."""
        self._stop()
        self._log, self._every, self._stop = log, Every(one_in), _do_nothing
        if log is not None:
            self._stop = self._runner.events.watch(self._see, Filter(opening=True))

    def counts(self) -> Mapping[str, int]:
        """Lines written and samples dropped."""
        return self._log.counts() if self._log else {}

    def record(self, event: Event, anonymise: Anonymise) -> Mapping[str, object]:
        """One line; the log's thread calls it."""
        tables = self._runner.tables
        if self._view is None or self._view.tables is not tables:
            self._view = CompiledFilter(Filter(), tables)
        return flow_log_line(event, self._view, anonymise)

    def _see(self, event: Event) -> None:
        if event.reason not in NOT_LOGGED and self._log is not None and self._every.picks(1):
            self._log.offer(event)


def _do_nothing() -> None:
    """Stop nothing."""
