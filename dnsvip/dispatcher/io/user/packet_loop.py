"""The packet path of the user-space runner: read from the TUN device, decide, send.

    TUN device -> decide -> output_bytes -> raw socket (paths.py)

Everything here runs in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import time

import structlog

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import outcome
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.host import DEVICE
from dnsvip.dispatcher.io.user.paths import Paths
from dnsvip.dispatcher.io.user.view import UserEvents
from dnsvip.dispatcher.reason import ACTIONS, REASONS, Action, PairCounts
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Target, Verdict
from dnsvip.errors import PlatformError
from dnsvip.site import Forward, Snapshot

BATCH = 256
"""Packets read in a row before the event loop gets its turn; they share one reading of the clock."""

log = structlog.get_logger()


class PacketLoop:
    """Reads, decides and sends, between `start` and `stop`. `tables` may be replaced between any two packets.

    `sent` has a packet count per server number. `send_failed` counts packets that the
    kernel refused to send. `lost` gets a PlatformError when the device disappears.
    """

    def __init__(self, flows: Flows, paths: Paths, events: UserEvents, encap_source: bytes) -> None:
        self.tables = DispatchTables(Snapshot())
        # One table for each action: finding it by identity is quicker than by the hash of an enum's member.
        self._forwarded, self._dropped = dict.fromkeys(REASONS, 0), dict.fromkeys(REASONS, 0)
        self._others = {Action.ANSWER: dict.fromkeys(REASONS, 0), Action.PASS: dict.fromkeys(REASONS, 0)}
        self.sent: dict[int, int] = {}
        self.send_failed = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flows, self._paths, self._events = flows, paths, events
        self._encap_source = encap_source
        self._fd = -1
        self._read_size = 0

    def start(self, fd: int, mtu: int) -> None:
        """Handle the packets of a TUN device whose MTU is `mtu` bytes."""
        self._fd, self._read_size = fd, mtu + 64
        asyncio.get_running_loop().add_reader(fd, self._drain)

    def counts(self) -> PairCounts:
        """Packets by the reason of their verdict and what was done with them; they sum to the packets read."""
        tables = {Action.FORWARD: self._forwarded, Action.DROP: self._dropped, **self._others}
        return {
            reason: {action.value: tables[action][reason] for action in actions} for reason, actions in ACTIONS.items()
        }

    def stop(self) -> None:
        """Read no more packets."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._fd = -1

    def _drain(self) -> None:
        """Read and handle what has arrived, up to a batch."""
        read, fd, size = os.read, self._fd, self._read_size
        forwarded, dropped, forward, drop = self._forwarded, self._dropped, Action.FORWARD, Action.DROP
        tables, flows, events, now = self.tables, self._flows, self._events, time.time_ns()
        try:
            for _ in range(BATCH):
                data = read(fd, size)
                verdict, problem = outcome(data, tables, flows, now)
                action = verdict.action
                count = forwarded if action is forward else dropped if action is drop else self._others[action]
                count[verdict.reason] += 1
                if problem is not None:
                    log.error("packets make the program fail", where=problem.where, problem=problem.message)
                if events.sinks:
                    events.show(data, verdict, now)
                if action is not drop:
                    self._handle(data, verdict)
        except BlockingIOError:
            pass
        except OSError as error:
            self.stop()
            self.lost.set_exception(PlatformError(f"device {DEVICE} is gone: {error.strerror}"))

    def _handle(self, data: bytes, verdict: Verdict) -> None:
        if verdict.delay:
            self._flows.held += 1
            asyncio.get_running_loop().call_later(verdict.delay / SECOND, self._release, data, verdict)
        elif verdict.server is None:
            self._send_on(output_bytes(data, verdict))
        else:
            self._send(data, verdict, verdict.server)

    def _release(self, data: bytes, verdict: Verdict) -> None:
        """Forward a held packet to the server selected when it arrived, even if its flow has moved since."""
        self._flows.held -= 1
        if verdict.server is not None:
            self._send(data, verdict, verdict.server)

    def _send(self, data: bytes, verdict: Verdict, server: Target) -> None:
        """Forward one packet to a server; like a router, a packet that the kernel refuses is lost and counted."""
        self.sent[server.number] = self.sent.get(server.number, 0) + 1
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
            self.send_failed += 1

    def _send_on(self, data: bytes) -> None:
        """Send a packet by its own destination, through the main table."""
        try:
            self._paths.send_on(data)
        except OSError:
            self.send_failed += 1
