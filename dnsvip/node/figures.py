"""The figures that a process reports with itself, for sums over the site: totals, gauges, and what there is most of.

They are in the report that each process writes to the database every second (`detail["figures"]`), so that a console
on any node has the sums without asking the others. Bounded: MOST_TOTALS names of totals, a few rows of each list; some
2 KB as a rule, some 30 KB at most.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from heapq import nlargest
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dnsvip.dispatcher.flows.usage import REST, Used
from dnsvip.dispatcher.io.data_plane import DataPlane
from dnsvip.node.reload import LiveConfig
from dnsvip.site.node_log import SampleSettings
from dnsvip.telemetry.sample_log import truncated
from dnsvip.telemetry.top import Top
from dnsvip.telemetry.totals import totals_of

FIGURES = "figures"
MOST_TOTALS = 200
MOST_ROWS = 20
MOST_CLIENTS = 256
"""Clients of one round of usage that are looked at: those with the most bytes."""


def figures(source: str, document: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What is counted in a status, and `more`, as a report has them."""
    totals = {name: total for name, total in totals_of(source, document).items() if total}
    largest = nlargest(MOST_TOTALS, totals, key=totals.__getitem__)
    return {"at": round(time.time(), 3), "totals": {name: totals[name] for name in largest}, **more}


class DispatcherTop:
    """The clients that send most, and the networks of which most is refused, at one dispatcher."""

    def __init__(self, live: LiveConfig, runner: DataPlane) -> None:
        self._live, self._runner = live, runner
        now = time.monotonic()
        self._clients: Top[int] = Top(now)
        self._refused: Top[tuple[str, str]] = Top(now)

    def used(self, used: Mapping[int, Used]) -> None:
        """Take a round of what clients have used."""
        for client in nlargest(MOST_CLIENTS, used, key=lambda client: used[client].bytes):
            if client != REST and used[client].bytes:
                self._clients.add(client, used[client].bytes)

    def shown(self) -> dict[str, Any]:
        """Rows for people, as JSON values; rates are per second. Called about once a second, it also has the sample of
        refused packets follow their number."""
        wanted = self._live.node.log.top
        self._runner.watch_refused(self._refuse if wanted else None)
        if not wanted:
            return {}
        now = time.monotonic()
        return {
            "clients": [
                {"client": record.name, "bytes": rate}
                for number, rate in self._clients.most(MOST_ROWS, now)
                if (record := self._runner.tables.verifier.client(number)) is not None
            ],
            "refused": [
                {"network": network, "reason": reason, "rate": rate}
                for (network, reason), rate in self._refused.most(MOST_ROWS, now)
            ],
        }

    def _refuse(self, source: bytes, reason: str, weight: int) -> None:
        address = IPv4Address(source) if len(source) == 4 else IPv6Address(source)
        self._refused.add((anonymised(self._live.node.log.flows, address), reason), weight)


def anonymised(settings: SampleSettings | None, address: IPv4Address | IPv6Address) -> str:
    """An address as the log keeps it, or would by default."""
    keep = settings or SampleSettings()
    return truncated(address, keep.keep4, keep.keep6)
