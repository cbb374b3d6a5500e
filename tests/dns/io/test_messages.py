"""Messages on a stream, however they come."""

from __future__ import annotations

import random
from ipaddress import ip_address
from typing import Any

from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.framing import frame
from dnsvip.dns.io.messages import Messages


class Asked:
    """Stands for a stream: keeps what was asked, and what would be sent."""

    def __init__(self) -> None:
        self.source, self.arrival = ip_address("192.0.2.1"), Arrival()
        self.asked: list[bytes] = []
        self.sent = b""
        self.finished: str | None = None

    def respond(self, message: bytes, _source: Any, _arrival: Arrival) -> bytes:
        self.asked.append(message)
        return message[:2]

    def write(self, data: bytes) -> None:
        self.sent += data

    def finish(self, event: str = "") -> None:
        self.finished = event

    def count(self, _event: str) -> None:
        pass

    def touch(self) -> None:
        pass


def test_any_pieces() -> None:
    """Whether a message comes alone, in pieces or with others, before or after the turn of the one before, each is
    answered once, and in order; what is too long by its header."""
    rng = random.Random(1)
    for _ in range(500):
        sizes = [rng.choice((12, 40, 512, 4096, 5000, 70_000 >> 1)) for _ in range(rng.randint(1, 6))]
        messages = [number.to_bytes(2, "big") + bytes(size - 2) for number, size in enumerate(sizes)]
        stream: Any = Asked()
        spoken, left = Messages(stream), b"".join(map(frame, messages))
        ends = {len(left) - len(b"".join(map(frame, messages[number:]))) for number in range(len(messages) + 1)}
        at = 0
        while at < len(left):
            end = rng.choice([*(end for end in ends if end > at), rng.randint(at + 1, len(left))])
            spoken.feed(left[at:end])
            at = end
            while rng.random() < 0.7 and spoken.work():
                pass
        while spoken.work():
            pass
        assert [message[:2] for message in stream.asked] == [message[:2] for message in messages]
        assert all(heard in (sent, sent[:12]) for heard, sent in zip(stream.asked, messages, strict=True))
        assert stream.sent == b"".join(frame(message[:2]) for message in messages)
        spoken.end()
        assert stream.finished == ""
