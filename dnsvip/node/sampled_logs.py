"""The sampled query and flow logs of a process, as the node file configures them; a reload reconfigures them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dnsvip.dispatcher.observe.as_json import NOT_LOGGED, flow_log_line
from dnsvip.dispatcher.observe.filter import CompiledFilter
from dnsvip.dispatcher.observe.plane import Event, Filter, ObservedPlane
from dnsvip.dns.querylog import Sample
from dnsvip.dns.querylog import record as query_log_line
from dnsvip.node.reload import LiveConfig
from dnsvip.site.node_file import NodeConfig, SampleSettings
from dnsvip.telemetry.sample_log import Anonymise, Every, Render, SampleLog, T

if TYPE_CHECKING:  # a dispatcher needs no DNS sockets
    from dnsvip.dns.io.server import DnsServer

Use = Callable[[SampleLog[T] | None, int], None]


@contextmanager
def query_log(live: LiveConfig, server: DnsServer) -> Iterator[None]:
    """The query log of a server, while the context lasts."""
    render: Render[Sample] = lambda sample, anonymise: query_log_line(sample, anonymise, server.engine.session_bases)  # noqa: E731
    with _configured(live, lambda node: node.log.queries, render, server.sample):
        yield


@contextmanager
def flow_log(live: LiveConfig, runner: ObservedPlane) -> Iterator[Callable[[], Mapping[str, int]]]:
    """The flow log of a dispatcher, while the context lasts; yields the function that returns its counters."""
    flows = _FlowSampler(runner)
    with _configured(live, lambda node: node.log.flows, flows.record, flows.use):
        yield flows.counts


@contextmanager
def _configured(
    live: LiveConfig, settings_of: Callable[[NodeConfig], SampleSettings | None], render: Render[T], use: Use[T]
) -> Iterator[None]:
    """A log with the current settings; with unchanged settings a reload reopens its file, for logrotate."""
    current: list[tuple[SampleSettings, SampleLog[T]]] = []

    def take(node: NodeConfig) -> None:
        settings = settings_of(node)
        if current and current[0][0] == settings:
            current[0][1].reopen()
            return
        log = SampleLog(settings, render) if settings else None
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
        self._log: SampleLog[Event] | None = None
        self._every = Every(1)
        self._stop: Callable[[], None] = _do_nothing
        self._view: CompiledFilter | None = None

    def use(self, log: SampleLog[Event] | None, one_in: int) -> None:
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
