"""Stateless reset (RFC 9000 section 10.3): who goes on with a connection that is no more here learns it at once.

The token that proves a reset is made of the connection id by a key of one listener of one process: who sends the id of
a connection to any other learns nothing that ends it (section 21.11). So a reset is understood of connections that were
here, and after a restart peers wait until theirs are idle.
"""

from __future__ import annotations

import os
from hashlib import blake2b

TOKEN_BYTES = 16

SHORTEST = 22
"""Bytes of a datagram that is answered: a reset has 21 at least, and fewer than what it answers, so that two ends which
reset each other come to an end (section 10.3.3)."""

LONGEST = 43
"""Bytes of a reset: as many as a short packet has, and no more than it takes to look like one."""

A_SECOND = 200
"""Resets of one listener: a flood of datagrams that belong nowhere is not a flood of answers."""


class Resets:
    """The tokens of one listener, and what is sent with them."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._second, self._sent = 0, 0

    def token(self, id_: bytes) -> bytes:
        """What proves that the connection of this id has ended."""
        return blake2b(id_, key=self._key, digest_size=TOKEN_BYTES).digest()

    def answer(self, data: bytes, id_: bytes, now: float) -> bytes | None:
        """The answer to a datagram with a short header whose connection id, `id_`, is nobody's at `now` (seconds); None
        where there is to be none."""
        if len(data) < SHORTEST or data[0] & 0xC0 != 0x40:
            return None
        if int(now) != self._second:
            self._second, self._sent = int(now), 0
        if self._sent >= A_SECOND:
            return None
        self._sent += 1
        filling = os.urandom(min(len(data) - 1, LONGEST) - TOKEN_BYTES)
        return bytes((0x40 | filling[0] & 0x3F,)) + filling[1:] + self.token(id_)
