"""A running data plane: what `dnsvip dispatch` starts, feeds and stops, in user space or in the kernel."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from dnsvip.dispatcher.flows.usage import Used
from dnsvip.dispatcher.io.user.refused import Show
from dnsvip.dispatcher.observe.plane import ObservedPlane
from dnsvip.errors import Problem
from dnsvip.site import Snapshot


class DataPlane(ObservedPlane, Protocol):
    """One dispatcher of this host. Call `start` and `stop` once each, `run` in between."""

    async def start(self) -> None:
        """Forward packets from now on; raises PlatformError."""

    def poll(self) -> None:
        """Handle the packets that have come to the process, for whoever keeps the event loop from it."""

    async def update(self, snapshot: Snapshot) -> None:
        """Decide by another snapshot; flows stay. Returns when it decides every packet from now on."""

    async def run(self) -> None:
        """Maintain flows and routes, until cancelled; raises PlatformError when it cannot go on."""

    async def stop(self) -> None:
        """Release what the process holds."""

    @property
    def unreachable(self) -> Collection[bytes]:
        """The packed addresses of servers that no route leads to."""

    def fault(self) -> str | None:
        """Why no packet reaches it at all, in words; None where they do."""

    @property
    def problems(self) -> list[Problem]:
        """The objects of the site that make code raise, one problem of each."""

    async def take_usage(self) -> Mapping[int, Used]:
        """What each client has used since the last time, by id; where few places are left, those that have used least
        give theirs up."""

    def totals(self) -> dict[str, Any]:
        """The part of `status` that is for sums over the site, read quickly: `actions`, `new_flows`, what was `sent` to
        servers, `flows`."""

    def watch_refused(self, show: Show | None) -> None:
        """Show a thinned sample of the packets that are dropped or answered from now on; None: no more. Call it again
        about once a second: that lets the sample follow their number."""

    def status(self) -> dict[str, Any]:
        """What `dnsvip status` shows, JSON-ready. Times in unix seconds, MTU in bytes."""
