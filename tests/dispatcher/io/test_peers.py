"""The datagrams by which dispatchers tell each other that they live: each counts once, and for one receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import cast

import pytest

from dnsvip.dispatcher.io.peers import LOST_SECONDS, PORT, SKEW_SECONDS, PeerWatch
from dnsvip.dispatcher.token_bucket import SECOND

A, B, C = (IPv6Address(f"fd00:10::{n}") for n in range(2, 5))
KEY = bytes(range(16))
NOW = 1_800_000_000 * SECOND


class Wire:
    """A transport that keeps what is sent, by its receiver."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, IPv6Address]] = []

    def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        assert to[1] == PORT
        self.sent.append((data, IPv6Address(to[0])))

    def close(self) -> None:
        """Nothing to close."""


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Lab:
    """A sees B and C, of which B runs too, each with its clock."""

    def __init__(self, key: bytes = KEY, others_key: bytes = KEY) -> None:
        self.clock, self.others_clock = Clock(), Clock()
        self.changes = 0
        self.a = PeerWatch(A, [A, B, C], lambda: key, self._changed, self.clock)
        self.wire = Wire()
        self.b = PeerWatch(B, [A, B, C], lambda: others_key, lambda: None, self.others_clock)
        self.b._transport = cast("asyncio.DatagramTransport", self.wire)

    def _changed(self) -> None:
        self.changes += 1

    def beat(self, to: IPv6Address = A) -> bytes:
        """What B now sends to tell another that it lives."""
        self.others_clock.now += SECOND // 4
        self.clock.now += SECOND // 4
        return self._sent(lambda: self.b._tell(b"dnsvip lives"), to)

    def stop(self) -> bytes:
        """What B sends to A when it stops."""
        self.others_clock.now += 1
        return self._sent(lambda: self.b._tell(b"dnsvip stops"), A)

    def _sent(self, work: Callable[[], None], to: IPv6Address) -> bytes:
        self.wire.sent.clear()
        work()
        return next(data for data, receiver in self.wire.sent if receiver == to)

    def hears(self, data: bytes, sender: IPv6Address = B) -> tuple[bytes, ...]:
        """Who lives, as A sees it after a datagram."""
        self.a.datagram_received(data, (str(sender), PORT))
        return self.a.peers.live


def run(work: Callable[[], None]) -> None:
    """In an event loop, whose clock says who has been silent."""

    async def within() -> None:
        work()

    asyncio.run(within())


def test_a_beat_counts_once() -> None:
    """Neither "stops" nor "lives" that was seen before changes anything: the owner of a key stays who it is."""

    def work() -> None:
        lab = Lab()
        lives, stops = lab.beat(), lab.stop()
        assert lab.hears(lives) == (B.packed,)
        assert lab.hears(stops) == ()
        assert lab.hears(lives) == ()
        for _ in range(3):
            assert lab.hears(lab.beat()) == (B.packed,)
            assert lab.hears(stops) == (B.packed,)
            assert lab.hears(lives) == (B.packed,)
        assert lab.changes == 3

    run(work)


def test_a_beat_is_for_one_receiver_and_of_one_sender() -> None:
    """What B has sent to C tells A nothing, nor does it from C's address, under another key, or changed anywhere."""

    def work() -> None:
        lab = Lab()
        assert lab.hears(lab.beat(C)) == ()
        beat = lab.beat()
        assert lab.hears(beat, C) == ()
        assert lab.hears(beat, IPv6Address("fd00:10::9")) == ()
        for at in range(len(beat)):
            assert lab.hears(beat[:at] + bytes((beat[at] ^ 1,)) + beat[at + 1 :]) == ()
            assert lab.hears(beat[:at]) == ()
        assert Lab(others_key=bytes(16)).hears(beat) == (B.packed,)
        assert lab.hears(beat) == (B.packed,)

    run(work)


@pytest.mark.parametrize("ahead", [-1, 1])
def test_clocks_may_differ_a_little(ahead: int) -> None:
    """By a time slot of proofs; beyond it B is not heard, until its clock is right."""

    def work() -> None:
        lab = Lab()
        lab.others_clock.now += ahead * (SKEW_SECONDS + 1) * SECOND
        assert lab.hears(lab.beat()) == ()
        lab.others_clock.now -= ahead * 2 * SECOND
        assert [lab.hears(lab.beat()) for _ in range(8)][-1] == (B.packed,)

    run(work)


def test_a_clock_set_back() -> None:
    """B goes on counting where its clock is set back; where A's is, what it has heard before no longer matters."""

    def work() -> None:
        lab = Lab()
        first = lab.beat()
        assert lab.hears(first) == (B.packed,)
        lab.others_clock.now -= 10 * SECOND
        assert lab.hears(lab.stop()) == ()
        lab.clock.now -= 3600 * SECOND
        lab.others_clock.now -= 3590 * SECOND
        assert lab.hears(first) == ()
        assert lab.hears(lab.beat()) == (B.packed,)

    run(work)


def test_silence() -> None:
    """Who has not been heard is lost."""

    async def work() -> None:
        lab = Lab()
        assert lab.hears(lab.beat()) == (B.packed,)
        lab.a._heard[B.packed] -= LOST_SECONDS
        assert lab.hears(b"") == (B.packed,)
        lab.a._settle()
        assert lab.a.peers.live == ()

    asyncio.run(work())


def test_without_keys_nothing_is_sent_or_taken() -> None:
    """A site without IPv6 clusters has no key; nothing that anybody can compute stands in for it."""

    def work() -> None:
        lab = Lab(key=b"")
        for key in (b"", bytes(16)):
            lab = Lab(key=b"", others_key=key)
            lab.b._tell(b"dnsvip lives")
            assert bool(lab.wire.sent) == bool(key)
            for data, _ in lab.wire.sent:
                assert lab.hears(data) == ()

    run(work)
