"""What the user-space runner sends: a packet that its verdict forwards, answers or passes on, at once or after a while.

Everything here runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable

from dnsvip.dispatcher.admission import queue_of
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.holding import HoldQueue
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Target, Verdict
from dnsvip.site import Forward


class Sending:
    """Sends by `paths`. `sent` has the packets and bytes per server number; `failed` counts packets that the kernel
    refused to send."""

    def __init__(self, paths: Paths, hold: HoldQueue[tuple[bytes, Verdict]], encap_source: bytes) -> None:
        self.sent: dict[int, list[int]] = {}
        self.failed = 0
        self._paths, self._hold, self._encap_source = paths, hold, encap_source

    def carry_out(self, data: bytes, verdict: Verdict, tables: DispatchTables) -> None:
        """Send a packet as its verdict says that is no drop; one that is held takes its turn of a bucket first."""
        if verdict.delay:
            bucket, priority = queue_of(verdict, tables)
            self._hold.add(bucket, priority, (data, verdict), time.monotonic_ns())
            asyncio.get_running_loop().call_later(verdict.delay / SECOND, self._release, bucket)
        elif verdict.server is None:
            self._send_on(output_bytes(data, verdict))
        else:
            self._send(data, verdict, verdict.server)

    def _release(self, bucket: Hashable) -> None:
        """Forward a held packet of a bucket to the server selected as it arrived, even if its flow has moved since."""
        held = self._hold.release(bucket, time.monotonic_ns())
        if held is None:
            return
        data, verdict = held
        if verdict.server is not None:
            self._send(data, verdict, verdict.server)

    def _send(self, data: bytes, verdict: Verdict, server: Target) -> None:
        """Forward one packet to a server; like a router, a packet that the kernel refuses is lost and counted."""
        sent = self.sent.get(server.number) or self.sent.setdefault(server.number, [0, 0])
        sent[0] += 1
        sent[1] += len(data)
        out = data
        if verdict.mode is not Forward.DIRECT or verdict.dscp is not None:
            out = output_bytes(data, verdict, self._encap_source)
        try:
            match verdict.mode:
                case Forward.DIRECT:
                    self._paths.senders[server.address, data[0] >> 4](out)
                case Forward.ENCAP:
                    self._paths.tunnels[server.address](out)
                case Forward.NAT:
                    self._paths.send_on(out)
        except (OSError, KeyError):
            self.failed += 1

    def _send_on(self, data: bytes) -> None:
        """Send a packet by its own destination, through the main table."""
        try:
            self._paths.send_on(data)
        except OSError:
            self.failed += 1
