"""Answers of one connection that take long, side by side: none holds up another (RFC 7766 section 6.2.1.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from dnsvip.dns.io.responder import Later

MOST = 32
"""Answers of one connection that may be under way; its next message waits for one of them."""

K = TypeVar("K")


class Ongoing(Generic[K]):
    """Long answers (iterators of messages, of which empty ones are pauses) and those that are being made elsewhere.

    `send` gets the key of an answer and each of its messages; None is its end. `wake` is called when an answer that was
    made elsewhere has been sent.
    """

    __slots__ = ("_later", "_long", "_send", "_wake")

    def __init__(self, send: Callable[[K, bytes | None], object], wake: Callable[[], object]) -> None:
        self._send, self._wake = send, wake
        self._long: list[tuple[K, Iterator[bytes]]] = []
        self._later: dict[Later, K] = {}

    def __len__(self) -> int:
        return len(self._long) + len(self._later)

    @property
    def full(self) -> bool:
        """Whether there may be no more."""
        return len(self) >= MOST

    @property
    def steps(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._long)

    def add(self, key: K, answer: bytes | Iterator[bytes] | Later | None) -> None:
        """Send an answer at once where it is there, else have it sent."""
        if answer is None or isinstance(answer, bytes):
            if answer:
                self._send(key, answer)
            self._send(key, None)
        elif isinstance(answer, asyncio.Future):
            self._later[answer] = key
            answer.add_done_callback(self._made)
        else:
            self._long.append((key, answer))

    def step(self) -> None:
        """Take a step of the long answer whose turn it is."""
        key, answer = self._long.pop(0)
        message = next(answer, None)
        if message is None:
            self._send(key, None)
            return
        self._long.append((key, answer))
        if message:
            self._send(key, message)

    def drop(self, key: K) -> None:
        """Forget an answer that nobody waits for any more."""
        self._long = [pair for pair in self._long if pair[0] != key]
        self._later = {later: other for later, other in self._later.items() if other != key}

    def clear(self) -> None:
        """Forget all; what is being made elsewhere is made all the same."""
        self._long.clear()
        self._later.clear()

    def _made(self, later: Later) -> None:
        if later not in self._later:
            return
        key = self._later.pop(later)
        wire = None if later.cancelled() else later.result()
        if wire is not None:
            self._send(key, wire)
        self._send(key, None)
        self._wake()
