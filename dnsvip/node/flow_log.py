"""The sampled flow log of a dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dnsvip.dispatcher.observe.as_json import NOT_LOGGED, flow_log_line
from dnsvip.dispatcher.observe.filter import CompiledFilter
from dnsvip.dispatcher.observe.plane import Event, Filter, ObservedPlane
from dnsvip.node.reload import LiveConfig
from dnsvip.node.sampled_logs import configured
from dnsvip.telemetry.sample_log import Anonymise, Every, JsonLines, SampleLog


@contextmanager
def flow_log(live: LiveConfig, runner: ObservedPlane) -> Iterator[Callable[[], Mapping[str, int]]]:
    """The flow log of a dispatcher, while the context lasts; yields the function that returns its counters."""
    flows = _FlowSampler(runner)
    lines = lambda settings: SampleLog(settings, flows.record, JsonLines(settings.file))  # noqa: E731
    with configured(live, lambda node: node.log.flows, lines, flows.use):
        yield flows.counts


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
