"""Watches the other dispatchers of a cluster: each tells the others several times a second that it lives.

Datagrams on PORT carry the time of their sender, and a MAC of it and of both ends by the site's keys: one counts once,
at whom it is for, within SKEW_SECONDS of that one's clock. Without keys none is sent or taken. Who has not been heard
for LOST_SECONDS, or says that it stops, is lost: what it owned (dispatcher/peers.py) is then another's. Runs in the
event loop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hmac import compare_digest
from ipaddress import IPv6Address

import structlog

from dnsvip.address.mac import siphash
from dnsvip.dispatcher.peers import Peers
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.errors import PlatformError

PORT = 5386
"""UDP port of the datagrams."""
BEAT_SECONDS, LOST_SECONDS = 0.25, 2.0
SKEW_SECONDS = 30
"""How far the clocks of dispatchers may be apart, as for proofs: a time slot."""
_LIVES, _STOPS = b"dnsvip lives", b"dnsvip stops"
_TIME, _MAC = 8, 8

log = structlog.get_logger()


class PeerWatch(asyncio.DatagramProtocol):
    """Which of `others` live, as seen from `own`; `changed` is called when that changes. `key` gives the key of the
    MACs at present, empty where there is none; `clock` unix nanoseconds."""

    def __init__(
        self,
        own: IPv6Address,
        others: Iterable[IPv6Address],
        key: Callable[[], bytes],
        changed: Callable[[], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._own, self._key, self._changed, self._clock = own, key, changed, clock
        self._others = {other.packed: other for other in others if other != own}
        self._heard: dict[bytes, float] = {}
        self._last: dict[bytes, int] = {}
        self._told = 0
        self._skewed: set[bytes] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self.peers = Peers(own.packed)

    async def open(self) -> None:
        """Listen; raises PlatformError where `own` is no address of this host, or the port is taken."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: self, local_addr=(str(self._own), PORT), family=socket.AF_INET6
            )
        except OSError as error:
            raise PlatformError(f"dispatch.address: cannot listen on [{self._own}]:{PORT}: {error.strerror}") from error
        self._transport = transport

    async def run(self) -> None:
        """Tell the others and watch them, until cancelled."""
        while True:
            self._tell(_LIVES)
            self._settle()
            await asyncio.sleep(BEAT_SECONDS)

    def close(self) -> None:
        """Say that this one stops, and listen no more."""
        if self._transport is not None:
            self._tell(_STOPS)
            self._transport.close()
            self._transport = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """See DatagramProtocol."""
        peer = IPv6Address(addr[0].partition("%")[0]).packed
        if peer not in self._others or not self._counts(data, peer):
            return
        if data.startswith(_LIVES):
            self._heard[peer] = asyncio.get_running_loop().time()
        else:
            self._heard.pop(peer, None)
        self._settle()

    def status(self) -> dict[str, list[str] | str]:
        """The peers that live and those that do not, for people."""
        live = [str(IPv6Address(peer)) for peer in self.peers.live]
        return {"own": str(self._own), "live": live, "lost": sorted({*map(str, self._others.values())} - {*live})}

    def _counts(self, data: bytes, peer: bytes) -> bool:
        """Whether a datagram is a peer's, for this dispatcher, and neither old nor repeated."""
        key, text = self._key(), data[:-_MAC]
        if not key or len(data) != len(_LIVES) + _TIME + _MAC:
            return False
        if not compare_digest(data, _message(key, text, peer, self._own.packed)):
            return False
        at, now, skew = int.from_bytes(text[-_TIME:], "big"), self._clock(), SKEW_SECONDS * SECOND
        if abs(at - now) > skew:
            if peer not in self._skewed:
                log.warning("another dispatcher's clock is not ours", address=str(IPv6Address(peer)), most=SKEW_SECONDS)
            self._skewed.add(peer)
            return False
        if self._last.get(peer, 0) - now > skew:  # our clock was set back since
            del self._last[peer]
        if at <= self._last.get(peer, 0):
            return False
        self._last[peer] = at
        self._skewed.discard(peer)
        return True

    def _tell(self, words: bytes) -> None:
        key, now = self._key(), self._clock()
        set_back = self._told - now > SKEW_SECONDS * SECOND
        self._told = now if set_back else max(now, self._told + 1)
        text = words + self._told.to_bytes(_TIME, "big")
        for packed, other in self._others.items():
            if key and self._transport is not None:
                with suppress(OSError):  # no route at present
                    self._transport.sendto(_message(key, text, self._own.packed, packed), (str(other), PORT))

    def _settle(self) -> None:
        since = asyncio.get_running_loop().time() - LOST_SECONDS
        live = tuple(peer for peer in self._others if self._heard.get(peer, -LOST_SECONDS) > since)
        if live == self.peers.live:
            return
        for peer, what in [(peer, "lives") for peer in live if peer not in self.peers.live] + [
            (peer, "is lost") for peer in self.peers.live if peer not in live
        ]:
            log.info(f"another dispatcher {what}", address=str(IPv6Address(peer)))
        self.peers = Peers(self._own.packed, live)
        self._changed()


def _message(key: bytes, text: bytes, sender: bytes, receiver: bytes) -> bytes:
    return text + siphash(key, text + sender + receiver).to_bytes(_MAC, "big")
