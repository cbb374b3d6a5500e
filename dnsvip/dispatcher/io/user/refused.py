"""Packets that are dropped or answered: all counted by their cluster, and a thinned sample of them shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.telemetry.top import Thinning

Show: TypeAlias = Callable[[bytes, str, int], None]
"""Takes a packet's source address in 4 or 16 bytes, why it was refused, and for how many it stands."""

_SOURCE = {4: slice(12, 16), 6: slice(8, 24)}


class Refused:
    """What one packet loop refuses. `drops` has the numbers by cluster and action; `show` (None: nobody looks) gets
    the sample."""

    __slots__ = ("drops", "show", "thinning")

    def __init__(self) -> None:
        self.drops: Counter[tuple[str, str]] = Counter()
        self.show: Show | None = None
        self.thinning = Thinning()

    def note(self, data: bytes, verdict: Verdict, tables: DispatchTables) -> None:
        """Count a packet that is not forwarded; one that is passed on is not for us."""
        if verdict.action is Action.PASS:
            return
        cluster = verdict.address.cluster if verdict.address else None
        self.add(cluster.name if cluster else tables.cluster_of(data), verdict.action.value, data, verdict.reason)

    def add(self, cluster: str, action: str, data: bytes, reason: str) -> None:
        """Count a packet to a cluster (empty: to none)."""
        if cluster:
            self.drops[cluster, action] += 1
        if self.show is not None and self.thinning.picks(1):
            source = data[_SOURCE.get(data[0] >> 4 if data else 0, slice(0))]
            if len(source) in (4, 16):
                self.show(source, reason, self.thinning.weight)
