"""DNS messages out of a byte stream: each after its length in two bytes (RFC 1035 section 4.2.2, RFC 7766)."""

from __future__ import annotations

MIN_MESSAGE = 12
"""A header; a stream with a shorter message in it is no DNS, and where the next would begin cannot be trusted."""


class Framer:
    """Cuts what arrives into messages. `broken`: the stream holds no DNS, and nothing more is taken from it."""

    __slots__ = ("_pending", "broken")

    def __init__(self) -> None:
        self._pending = b""
        self.broken = False

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order."""
        if self.broken:
            return []
        data, at, messages = self._pending + data, 0, []
        while len(data) - at >= 2:
            end = at + 2 + int.from_bytes(data[at : at + 2], "big")
            if end - at - 2 < MIN_MESSAGE:
                self.broken = True
                break
            if end > len(data):
                break
            messages.append(data[at + 2 : end])
            at = end
        self._pending = b"" if self.broken else data[at:]
        return messages


def frame(message: bytes) -> bytes:
    """A message as it goes into a stream."""
    return len(message).to_bytes(2, "big") + message
