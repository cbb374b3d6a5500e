"""DNS messages in a byte stream: a length of two bytes before each (RFC 1035 section 4.2.2).

What is held of a message is bounded: one that is longer than any query needs is cut to its header, which the parser
answers with FORMERR, and the rest of it is passed over.
"""

from __future__ import annotations

from dnsvip.dns.protocol.message import HEADER_SIZE, MAX_QUERY, longest


class Framer:
    """Splits a stream into messages. `broken`: it is not DNS, as a message is shorter than a header, and nothing more
    is read from it. `len` is the bytes held."""

    __slots__ = ("_at", "_data", "_skip", "broken")

    def __init__(self) -> None:
        self._data, self._at, self._skip = b"", 0, 0
        self.broken = False

    def __len__(self) -> int:
        return len(self._data) - self._at

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete, where `next` has none."""
        return bool(len(self) or self._skip)

    @property
    def ready(self) -> bool:
        """Whether `next` has a message, or finds that this is not DNS."""
        data, begin = self._data, self._at + 2
        if begin > len(data):
            return False
        length = int.from_bytes(data[begin - 2 : begin], "big")
        if length < HEADER_SIZE or begin + length <= len(data):
            return True
        return begin + HEADER_SIZE <= len(data) and length > longest(data[begin + 2])

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        if not self.broken:
            self._data, self._at = self._data[self._at :] + data, 0

    def clear(self) -> None:
        """Forget what is held."""
        self._data, self._at, self._skip = b"", 0, 0

    def whole(self, data: bytes) -> bytes | None:
        """The message that `data` is, and nothing else, as nearly all come, where nothing is held before it: in place
        of `feed` and `next`. None of others."""
        length = len(data) - 2
        if self._skip or self.broken or self._at < len(self._data) or not HEADER_SIZE <= length <= MAX_QUERY:
            return None
        return data[2:] if length == data[0] << 8 | data[1] else None

    def next(self) -> bytes | None:
        """The next message; None where it is not complete."""
        data, begin = self._data, self._at + 2
        if begin > len(data):
            return None
        length = int.from_bytes(data[begin - 2 : begin], "big")
        if length < HEADER_SIZE:
            self.broken, self._data, self._at = True, b"", 0
            return None
        if begin + HEADER_SIZE > len(data):
            return None
        end = begin + length
        if length > longest(data[begin + 2]):
            self._skip = max(0, end - len(data))
            self._at = min(end, len(data))
            return data[begin : begin + HEADER_SIZE]
        if end > len(data):
            return None
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        return data[begin:end]


def frame(message: bytes) -> bytes:
    """A message with its length in front."""
    return len(message).to_bytes(2, "big") + message
