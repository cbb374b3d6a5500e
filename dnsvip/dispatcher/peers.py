"""Which dispatcher of several has the state that they must not have twice: used single-use addresses, and translations
under nat.

Of the dispatchers that live, rendezvous hashing (Thaler and Ravishankar, 1998) makes one the owner of a key. Another
one to which such a flow comes relays its packets, of both IP versions, to the owner in an IPv6 tunnel, one hop, and the
owner decides. The outer source has a mark, a MAC of the inner destination: who does not know the site's keys cannot
make the owner believe that a packet has been relayed, and what has been is not relayed to an owner again.

Keys are 16 bytes: the client's address, whose flows' translations are in each other's way and which replies are to; but
the VIP for a single use that is bound to no address. IPv4 addresses are in the last four of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from dnsvip.address.mac import derive, siphash
from dnsvip.dispatcher.egress.encap import NEXT_HEADER
from dnsvip.dispatcher.flows.maglev import flow_hash

DIRECT_STEP, SECOND_STEP = 1, 2
"""How a packet was relayed: to the owner; or by it, or past it, to whoever would be the owner without it."""
_ALL = (1 << 64) - 1
_DESTINATIONS = {6: slice(24, 40), 4: slice(16, 20)}


@dataclass(frozen=True, slots=True)
class Peers:
    """This dispatcher's address and those of the others that live, all packed IPv6. Without others nothing is
    relayed."""

    own: bytes = b""
    live: tuple[bytes, ...] = ()

    def owner(self, key: bytes) -> bytes | None:
        """The other dispatcher that owns a key; None: this one does."""
        first = self._order(key)[0]
        return None if first == self.own else first

    def replies(self, key: bytes, step: int) -> tuple[bytes, int] | None:
        """Where a reply to a client goes that came with `step` (0: from the server) and is not known here: to the owner
        of its flow, or to who owned it before the owner came; with the step that it is then relayed with."""
        order = self._order(key)
        if step == 0:
            return (order[1], SECOND_STEP) if order[0] == self.own else (order[0], DIRECT_STEP)
        if step == DIRECT_STEP and len(order) > 2 and order[1] != self.own:
            return order[1], SECOND_STEP
        return None

    def _order(self, key: bytes) -> list[bytes]:
        return sorted((self.own, *self.live), key=lambda address: flow_hash(address + key), reverse=True)


ALONE = Peers()


def widened(address: bytes) -> bytes:
    """An address of 4 or 16 bytes in sixteen."""
    return address.rjust(16, b"\0")


def relay_key(masters: Mapping[str, bytes]) -> bytes:
    """The key of the marks of a site, by its clusters' client masters, which rotations leave alone. Empty without any:
    there is nothing then that others do not know, so that nothing is shared."""
    if not masters:
        return b""
    digest = sha256(b"".join(masters[name] for name in sorted(masters))).digest()
    return derive(digest, b"dnsvip v1 relay")


def mark(key: bytes, destination: bytes, step: int) -> int:
    """The low 64 bits of the outer source of a packet to `destination` (`widened`) that is relayed with `step`."""
    return siphash(key, destination) ^ (_ALL if step == SECOND_STEP else 0)


def step_of(key: bytes, source: bytes, encap_source: bytes, header: int, inner: bytes) -> int:
    """How a packet (`inner`) in a tunnel from `source` was relayed, whose next header is `header`; 0 where not by a
    dispatcher of the site."""
    version = inner[0] >> 4 if inner else 0
    where = _DESTINATIONS.get(version)
    if not key or where is None or len(inner) < where.stop or NEXT_HEADER[version] != header:
        return 0
    if source[:8] != encap_source:
        return 0
    made = mark(key, widened(inner[where]), DIRECT_STEP) ^ int.from_bytes(source[8:], "big")
    return DIRECT_STEP if made == 0 else SECOND_STEP if made == _ALL else 0
