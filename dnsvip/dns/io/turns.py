"""Datagrams that the fast path had no answer to: a little at a time, and each source (/24, /56) in its turn.

Whoever sends expensive questions waits for their answers, and keeps neither answers at hand nor others' questions
waiting: a turn of the event loop takes a SLICE of them, one of each source after the other. What cannot be answered in
time is not answered at all, as its requester has asked again by then. In the turn of a source its
addresses with a valid cookie take turns, with each other and all the rest: neighbours, and who forges their addresses,
leave them theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter, thread_time
from typing import Protocol, TypeAlias

from dnsvip.dns.io.buffers import BATCH, Destination
from dnsvip.dns.io.latency import Latency
from dnsvip.dns.io.responder import Later, Waiting
from dnsvip.dns.protection.sources import source_of
from dnsvip.fair_queue import FairQueue

SLICE = 0.001
"""Seconds of processor time that such datagrams may take before those at hand get their turn."""

SLICES = 4
"""Slices after which the answers made are sent, fewer where there is a batch of them or nothing is waiting."""

PATIENCE = 0.5
"""Seconds after which nobody waits for an answer: less than resolvers do before they ask another server."""


class Sender(Protocol):
    """A socket that sends answers where their questions came from."""

    def send_later(self, answers: Sequence[tuple[Destination, bytes, bytes]]) -> None:
        """Send answers: destination, id, and what follows the id; at most BATCH."""


_Entry: TypeAlias = tuple[Waiting, Sender, Destination, float]
"""A datagram, where it came from, and when it is too late for it (`perf_counter`)."""


class DatagramTurns:
    """What waits on all sockets of one event loop. `answer` makes an answer without its id, None for none, or has one
    made, with it; `drop` is told how many got none for want of time."""

    def __init__(
        self,
        answer: Callable[[Waiting], bytes | Later | None],
        drop: Callable[[int], None],
        latency: Latency | None = None,
    ) -> None:
        self._answer, self._drop = answer, drop
        self._latency = latency or Latency()
        self._later: set[Later] = set()
        self._queue: FairQueue[_Entry] = FairQueue()
        self._scheduled: asyncio.Handle | None = None
        self._due: dict[Sender, list[tuple[Destination, bytes, bytes]]] = {}
        self._made = self._slices = 0
        self.spent = 0.0
        """Seconds of answering (`perf_counter`)."""

    def put(self, some: Sequence[Waiting], sender: Sender, destination: Callable[[int], Destination]) -> None:
        """Have datagrams answered in the turns of their sources; `begin` must follow. `destination` is that of a place
        in their batch."""
        late, put, dropped = perf_counter() + PATIENCE, self._queue.put, 0
        for one in some:
            member = one.peer if one.proven else b""
            dropped += len(put(source_of(one.peer), (one, sender, destination(one.place), late), member))
        if dropped:
            self._drop(dropped)

    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    def forget(self) -> None:
        """Answer nothing of what waits."""
        self._drop(len(self._queue))
        self._queue = FairQueue()

    def begin(self) -> None:
        """Answer some now, unless others are being answered in turns of the loop already."""
        if self._scheduled is None and self._queue:
            self.run()

    def run(self) -> None:
        """Answer for a slice of time, and see to what is left."""
        begun = perf_counter()
        try:
            self._work()
        finally:
            self._slices += 1
            if not self._queue or self._slices >= SLICES or self._made >= BATCH:
                self._flush()
            if self._queue and self._scheduled is None:
                self._scheduled = asyncio.get_running_loop().call_soon(self._again)
            self.spent += perf_counter() - begun

    def _work(self) -> None:
        """Make the next answers, for a slice of time."""
        take, answer_to, due, end = self._queue.take, self._answer, self._due, thread_time() + SLICE
        now, late = perf_counter(), 0
        while self._made < BATCH:
            while (entry := take()) is not None and entry[3] < now:
                late += 1
            if entry is None:
                break
            waiting, sender, destination, _ = entry
            if isinstance(answer := answer_to(waiting), asyncio.Future):
                self._await(answer, sender, destination)
            elif answer is not None:
                self._made += 1
                if self._latency.is_due():
                    self._latency.observe(perf_counter() - entry[3] + PATIENCE)
                due.setdefault(sender, []).append((destination, waiting.wire[:2], answer))
            if thread_time() >= end:
                break
        if late:
            self._drop(late)

    def _await(self, later: Later, sender: Sender, destination: Destination) -> None:
        """Send an answer when it is made."""
        self._later.add(later)

        def send(made: Later) -> None:
            self._later.discard(made)
            if not made.cancelled() and (wire := made.result()) is not None:
                sender.send_later([(destination, wire[:2], wire[2:])])

        later.add_done_callback(send)

    def _flush(self) -> None:
        """Send what has been made: several answers at once cost less."""
        due, self._due, self._made, self._slices = self._due, {}, 0, 0
        for sender, answers in due.items():
            sender.send_later(answers)

    def close(self) -> None:
        """Answer nothing more."""
        if self._scheduled is not None:
            self._scheduled.cancel()
        for later in self._later:
            later.cancel()
        self._queue, self._due = FairQueue(), {}

    def _again(self) -> None:
        self._scheduled = None
        self.run()
