"""Which node does what one alone does for all of a site's zones; the nodes' reports say it (`dnsvip.site.duty`)."""

from __future__ import annotations

from collections.abc import Sequence

from dnsvip.errors import StoreError
from dnsvip.site.duty import on_duty
from dnsvip.site.epochs import NodeReport
from dnsvip.store.following.follower import SnapshotFollower

TICK_SECONDS = 0.5
DUTY_SECONDS = 2.0
"""How often zones are looked at, and who is on duty."""


class Duty:
    """Whether this process is the one on duty, as last read."""

    def __init__(self, follower: SnapshotFollower) -> None:
        self._follower, self._read_at, self._mine = follower, 0.0, False
        self.reports: Sequence[NodeReport] = ()
        """Those of all nodes, as last read."""

    async def mine(self) -> bool:
        """Whether it is this one; where the database cannot be read, nobody is."""
        store, now = self._follower.store, self._follower.now()
        if store is None or not self._follower.connected:
            return False
        if abs(now - self._read_at) >= DUTY_SECONDS:
            try:
                self.reports = await store.nodes.all()
                self._mine = on_duty(self.reports, now) == self._follower.instance
            except StoreError:
                self._mine = False
            self._read_at = now
        return self._mine
