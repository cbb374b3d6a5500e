"""Which reply belongs to which translated flow.

A server sees the client's address and port, and one address of its own instead of the VIP. Two flows
of one client that differ only in the VIP would look the same to it, so the later one gets another
client port. Only flows of `nat` pools are here; the table of flows bounds them.
"""

from __future__ import annotations

_FIRST_PORT, _PORTS, _TRIES = 49_152, 16_384, 64


class Translations:
    """Flow keys to the keys of their replies, and back."""

    __slots__ = ("back", "forth")

    def __init__(self) -> None:
        self.forth: dict[bytes, bytes] = {}
        self.back: dict[bytes, bytes] = {}

    def open(self, key: bytes, server: bytes, flow_hash: int) -> bytes | None:
        """The client's port (2 bytes) that a flow has at `server` (16 bytes); None where none is free."""
        half = (len(key) - 5) // 2
        head = key[:1] + server + key[1 : 1 + half] + key[-2:]
        for number in range(_TRIES):
            port = key[-4:-2] if not number else _other_port(flow_hash, number)
            reply = head + port
            if self.back.setdefault(reply, key) == key:
                self.forth[key] = reply
                return port
        return None

    def port(self, key: bytes) -> bytes:
        """The client's port (2 bytes) at the server of a flow, empty where it is the client's own."""
        reply = self.forth.get(key)
        return b"" if reply is None or reply[-2:] == key[-4:-2] else reply[-2:]

    def close(self, key: bytes) -> None:
        """Forget a flow."""
        reply = self.forth.pop(key, None)
        if reply is not None:
            del self.back[reply]


def _other_port(flow_hash: int, number: int) -> bytes:
    return (_FIRST_PORT + (flow_hash + number * 7919) % _PORTS).to_bytes(2, "big")
