"""Maps translated flows to the keys of their replies, and back.

A server sees the client's address and port, and its own address in place of the VIP. Two flows of one client that
differ only in the VIP would look the same to it, so the later one gets another client port. A flow whose address is
authentic takes its own port from an anonymous one that is young: sources of anonymous flows can be forged, and would
leave the client that they pretend to be without ports. The source of the authentic one may be forged too, so an older
flow keeps its port. A flow that was taken over (`resumed`) takes none: it would tell whether its proof is right. Only
flows of `nat` pools have an entry; the flow table bounds their number.
"""

from __future__ import annotations

from collections.abc import Callable

from dnsvip.dispatcher.flows.maglev import flow_hash

_FIRST_PORT, _PORTS, _TRIES = 49_152, 16_384, 64


class Translations:
    """`forth` maps flow keys to reply keys, `back` the reverse."""

    __slots__ = ("_hash", "back", "forth")

    def __init__(self, hash_of: Callable[[bytes], int] = flow_hash) -> None:
        self._hash = hash_of
        self.forth: dict[bytes, bytes] = {}
        self.back: dict[bytes, bytes] = {}

    def open(
        self, key: bytes, server: bytes, now: int = 0, displace: Callable[[bytes, int], None] | None = None
    ) -> bytes | None:
        """The client's port (2 bytes) of a flow at `server` (16 bytes, of IPv4 4), empty where it keeps its own. A flow
        without a translation gets one; None where no port is free.

        `displace` is told which flow has the port that the client uses itself at `now`, and may close it.
        """
        reply = self.forth.get(key)
        if reply is None:
            reply = self._translate(key, server, now, displace)
        return None if reply is None else _changed(key, reply)

    def port(self, key: bytes) -> bytes:
        """The client's port (2 bytes) of a flow at its server, empty where it keeps its own."""
        reply = self.forth.get(key)
        return b"" if reply is None else _changed(key, reply)

    def _translate(
        self, key: bytes, server: bytes, now: int, displace: Callable[[bytes, int], None] | None
    ) -> bytes | None:
        """Reserve a reply key; the client's own port is tried first, then ports picked by the flow's hash."""
        half = (len(key) - 5) // 2
        head = key[:1] + server + key[1 : 1 + half] + key[-2:]
        picked = 0
        own = head + key[-4:-2]
        if displace and own in self.back:
            displace(self.back[own], now)
        for attempt in range(_TRIES):
            if attempt == 1:
                picked = self._hash(key)
            reply = head + _other_port(picked, attempt) if attempt else own
            if self.back.setdefault(reply, key) == key:
                self.forth[key] = reply
                return reply
        return None

    def close(self, key: bytes) -> None:
        """Forget a flow."""
        reply = self.forth.pop(key, None)
        if reply is not None:
            del self.back[reply]


def _changed(key: bytes, reply: bytes) -> bytes:
    return b"" if reply[-2:] == key[-4:-2] else reply[-2:]


def _other_port(picked: int, attempt: int) -> bytes:
    return (_FIRST_PORT + (picked + attempt * 7919) % _PORTS).to_bytes(2, "big")
