"""Questions that differ in their ECS address alone: answered at once, and as the engine answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import Any
from unittest import mock

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath import series
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.hits import Hit
from dnsvip.dns.hotpath.series import Series
from dnsvip.site import Snapshot
from dnsvip.site.node_dns import Listener
from tests.dns.hotpath.test_fastpath import decided, numbers, opt, question, run
from tests.long import long_or
from tests.samples import NOW, make_snapshot

ENCODED: Mapping[str, Any] = {"cluster": {"web": {"anonymous": "encoded"}}}
SESSION = [["tier", 4], ["client", 16], ["session", 9], ["nonce", 8]]
LISTENERS = (Listener("127.0.0.1:0", "public"), Listener("127.0.0.1:1", "golden", tier="gold"))
OWN = [{"source": "127.0.0.0/8"}, {"source": "::1/128"}]
BATCHES, BATCH = long_or(25, long=500), 64
COOKIE = b"\0\x0a\0\x08clientco"
NEAR = (IPv4Address("198.51.0.0"), IPv4Address("16.0.0.0"), IPv6Address("2001:db8::"), IPv6Address("2a00::"))
"""Where prefixes are asked for, the first in one block with a client's."""


def ecs(address: IPv4Address | IPv6Address, length: int) -> bytes:
    """An ECS option with a prefix, in as many bytes as it takes."""
    kept = (int(address) >> address.max_prefixlen - length << address.max_prefixlen - length).to_bytes(
        address.max_prefixlen // 8, "big"
    )[: (length + 7) // 8]
    data = bytes((0, 1 if address.version == 4 else 2, length, 0)) + kept
    return b"\0\x08" + len(data).to_bytes(2, "big") + data


def asked(pick: Random) -> bytes:
    """A question that mostly is of a series."""
    near = pick.choice(NEAR)
    width = near.max_prefixlen
    address = near + pick.getrandbits(width - 12)
    length = pick.choice((24, 24, 24, 32, 16, 22, 8, 0) if width == 32 else (56, 56, 48, 64, 128, 44, 32, 24))
    options = ecs(address, length)
    chance = pick.random()
    if chance < 0.1:
        options = options + COOKIE if chance < 0.05 else COOKIE + options
    elif chance < 0.13:  # bits behind the prefix are set, or it says another length
        options = options[:-1] + b"\x03" if chance < 0.11 else options[:6] + bytes((length + 1,)) + options[7:]
    name = pick.choice(("www.example.test", "www.example.test", "WWW.example.test", "mail.example.test"))
    wire = question(name, pick.choice((28, 28, 28, 28, 65, 1)), opt(options, do=0x80 * (pick.random() < 0.1)))
    return pick.randbytes(2) + wire[2:] + b"\0" * (pick.random() < 0.02)


@contextmanager
def answered() -> Iterator[list[Hit | None]]:
    """All that series answer meanwhile."""
    hits: list[Hit | None] = []
    real = Series.answers

    def answers(self: Series, ends: Sequence[bytes], now: float) -> list[Hit | None]:
        made = real(self, ends, now)
        hits.extend(made)
        return made

    with mock.patch.object(Series, "answers", answers):
        yield hits


@pytest.mark.parametrize(
    ("changes", "listener", "is_used"),
    [
        (ENCODED, "public", True),
        (ENCODED, "golden", True),
        (ENCODED | {"classify": {"order": ["ecs", "source"]}}, "golden", True),
        ({"cluster": {"web": {"anonymous": "encoded", "layout": SESSION}}}, "public", True),
        ({"classify": {"order": ["ecs", "listener", "source"]}}, "golden", True),
        (ENCODED | {"classify": {"order": ["source"]}}, "public", False),
        ({"cluster": {"web": {"anonymous": "plain"}}}, "public", False),
        ({"cluster": {"web": {"anonymous": "encoded", "layout": [["tier", 13], ["client", 24]]}}}, "public", False),
        (ENCODED | {"client": {"front": {"id": 7, "tier": "gold", "match": OWN}}}, "public", False),
    ],
    ids=("encoded", "tier", "no step", "session", "listener", "no ecs", "plain", "no prefix", "client"),
)
def test_series_give_what_the_engine_gives(changes: Mapping[str, Any], listener: str, is_used: bool) -> None:
    """Answers and counters are the engine's, in each slot, for prefixes of clients and of nobody, for each address
    that may not be issued too; series answer wherever anonymous requesters have addresses by prefix."""
    snapshot, pick = make_snapshot(changes), Random(5)
    plain, behind = (Engine(snapshot, listeners=LISTENERS) for _ in range(2))
    fast, now = FastPath(behind), NOW
    sources = [ip_address(text).packed for text in ("127.0.0.1", "127.0.0.1", "127.0.0.3", "192.0.2.1", "::1")]
    with answered() as hits:
        for number in range(BATCHES):
            now += 0.2 if number % 5 else 40.0
            wires, peers = [asked(pick) for _ in range(BATCH)], [pick.choice(sources) for _ in range(BATCH)]
            if number % 3 == 0:
                with mock.patch(
                    "dnsvip.dns.synthesis.issuer.reserved_among", lambda _layout, some, _plain: {*some[::2]}
                ):
                    got = run(fast, wires, peers, listener, now)
            else:
                got = run(fast, wires, peers, listener, now)
            for wire, peer, ours in zip(wires, peers, got, strict=True):
                right = decided(plain, wire, ip_address(peer), listener, now)
                answer = ours if isinstance(ours, bytes) else decided(behind, wire, ip_address(peer), listener, now)
                assert answer == right, (wire, peer)
    assert numbers(plain) == numbers(behind)
    assert (len(hits) > BATCHES * BATCH // 10) == is_used
    assert (None in hits) == is_used


def snapshot() -> Snapshot:
    return make_snapshot(ENCODED)


def questions(number: int, first: int = 16 << 16) -> list[bytes]:
    """Questions with so many /24 one after the other."""
    return [question("www.example.test", 28, opt(ecs(IPv4Address(n << 8), 24))) for n in range(first, first + number)]


def test_new_prefixes_are_answered_together() -> None:
    """From the third question of a series on, all prefixes of a batch that are nobody's are answered by it at once; a
    repeated one from memory, and a client's, or one beside it, the long way."""
    fast = FastPath(Engine(snapshot()))
    source = ip_address("127.0.0.1").packed
    for wire in questions(3):
        run(fast, [wire], [source])
    with answered() as hits:
        run(fast, questions(50, 17 << 16), [source] * 50)
        assert len(hits) == 50
        run(fast, questions(50, 17 << 16), [source] * 50)
        assert len(hits) == 100  # kept since they came again
        run(fast, questions(50, 17 << 16), [source] * 50)
        run(fast, questions(3, (198 << 16) + (51 << 8) + 99), [source] * 3)
        assert len(hits) == 100


def test_an_answer_of_its_own_is_no_series() -> None:
    """Where each answer has a nonce, two of a prefix differ."""
    layout = [["tier", 4], ["client", 13], ["nonce", 20]]
    changes = {"cluster": {"web": {"anonymous": "encoded", "layout": layout, "nonce": "answer"}}}
    fast, wire = FastPath(Engine(make_snapshot(changes))), questions(1)
    source = [ip_address("127.0.0.1").packed]
    assert len({str(run(fast, wire, source)) for _ in range(10)}) >= 8


def test_what_is_remembered_is_bounded() -> None:
    """Neither senders nor blocks of addresses fill the memory."""
    fast = FastPath(Engine(snapshot()))
    with mock.patch.object(series, "BLOCKS", 8), mock.patch.object(series, "SERIES", 4):
        for n in range(40):
            source = ip_address(f"127.0.1.{n}").packed
            for some in range(3):
                run(fast, questions(2, (20 + n << 16) + 2 * some), [source] * 2)
        assert len(fast._nobody.blocks) <= 8
        (known,) = fast._rooms["public", 12].series.by_size.values()
        assert 4 <= len(known) <= 8
        assert any(one is not None for one in known.young.values())
