"""The query and flow logs of a process: made as the node file says, remade when it is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dnsvip.dispatcher.observe.as_json import NOT_LOGGED, flow_log_line
from dnsvip.dispatcher.observe.filter import CompiledFilter
from dnsvip.dispatcher.observe.plane import Event, Filter, ObservedPlane
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.querylog import record as query_record
from dnsvip.node.reload import Live
from dnsvip.site.node_file import NodeConfig, SampleSettings
from dnsvip.telemetry.sample_log import Anonymise, Every, Render, SampleLog, T

Use = Callable[[SampleLog[T] | None, int], None]


@contextmanager
def query_log(live: Live, server: DnsServer) -> Iterator[None]:
    """The query log of a server, while the context lasts."""
    with _kept(live, lambda node: node.log.queries, query_record, server.sample):
        yield


@contextmanager
def flow_log(live: Live, runner: ObservedPlane) -> Iterator[Callable[[], Mapping[str, int]]]:
    """The flow log of a dispatcher, while the context lasts; gives what counts its lines."""
    flows = _Flows(runner)
    with _kept(live, lambda node: node.log.flows, flows.record, flows.use):
        yield flows.counts


@contextmanager
def _kept(
    live: Live, settings_of: Callable[[NodeConfig], SampleSettings | None], render: Render[T], use: Use[T]
) -> Iterator[None]:
    """A log as `settings_of` the node file in force says; one whose settings stay opens its file anew on SIGHUP."""
    made: list[tuple[SampleSettings, SampleLog[T]]] = []

    def take(node: NodeConfig) -> None:
        wanted = settings_of(node)
        if made and made[0][0] == wanted:
            made[0][1].reopen()
            return
        log = SampleLog(wanted, render) if wanted else None
        if log:
            log.start()
        use(log, wanted.one_in if wanted else 1)
        for _, before in made:
            before.stop()
        made[:] = [(wanted, log)] if wanted and log else []

    take(live.node)
    live.subscribe(take)
    try:
        yield
    finally:
        use(None, 1)
        for _, log in made:
            log.stop()


class _Flows:
    """What stands between a runner's events and the log: picks, and knows by which tables an event was judged."""

    def __init__(self, runner: ObservedPlane) -> None:
        self._runner = runner
        self._log: SampleLog[Event] | None = None
        self._every = Every(1)
        self._stop: Callable[[], None] = _nothing
        self._view: CompiledFilter | None = None

    def use(self, log: SampleLog[Event] | None, one_in: int) -> None:
        """Offer one new or refused flow in `one_in` to `log`."""
        self._stop()
        self._log, self._every, self._stop = log, Every(one_in), _nothing
        if log is not None:
            self._stop = self._runner.events.watch(self._see, Filter(opening=True))

    def counts(self) -> Mapping[str, int]:
        """Lines written and samples dropped."""
        return self._log.counts() if self._log else {}

    def record(self, event: Event, anonymise: Anonymise) -> Mapping[str, object]:
        """A line; called by the log's own thread."""
        tables = self._runner.tables
        if self._view is None or self._view.tables is not tables:
            self._view = CompiledFilter(Filter(), tables)
        return flow_log_line(event, self._view, anonymise)

    def _see(self, event: Event) -> None:
        if event.reason not in NOT_LOGGED and self._log is not None and self._every.picks(1):
            self._log.offer(event)


def _nothing() -> None:
    """What stops nothing."""
