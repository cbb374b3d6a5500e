"""Datagrams that take long: each source in its turn, answers at hand before them, and none that nobody waits for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle

import dns.edns
import dns.message
import pytest

from dnsvip.dns.io import turns
from dnsvip.dns.io.responder import Responder, Waiting
from dnsvip.dns.reply import DnsOutcome
from dnsvip.site.node_dns import Listener
from tests.dns.protection.test_proxy import header, serving
from tests.dns.world import Running, world_snapshot

MANY = 150
"""Fewer than a socket's buffer takes."""

TYPES = cycle(range(65280, 65480))


def miss(cookie: bytes = b"") -> bytes:
    """A question that the fast path has no answer to."""
    options = [dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)] if cookie else []
    return dns.message.make_query("www.example.test", next(TYPES), options=options).to_wire()


@contextmanager
def held(running: Running) -> Iterator[None]:
    """The server's loop stands still, so that all that is sent meanwhile comes at once."""
    go_on, stands = threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        assert go_on.wait(30)

    running.loop.call_soon_threadsafe(stand)
    assert stands.wait(30)
    try:
        yield
    finally:
        go_on.set()


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The senders of what was answered in turns."""
    senders: list[bytes] = []
    answer = Responder.answer

    def noted(self: Responder, waiting: Waiting) -> bytes | None:
        senders.append(waiting.peer)
        return answer(self, waiting)

    monkeypatch.setattr(Responder, "answer", noted)
    monkeypatch.setattr("dnsvip.dns.io.udp.SLICE", 60.0)  # all that has come is read before the first turn
    return senders


def asking(stack: ExitStack, running: Running, source: str) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", running.port))
    sock.settimeout(30)
    return sock


@pytest.mark.parametrize("address", ["127.0.0.1:0", "0.0.0.0:0"])
def test_each_source_in_its_turn(order: list[bytes], address: str) -> None:
    """Behind very many questions of one /24 another's comes next, and a frequent question comes before all of them."""
    with Running(world_snapshot(), (Listener(address),)) as running, ExitStack() as stack:
        many = [asking(stack, running, f"127.9.9.{number}") for number in (1, 2)]
        few, frequent = asking(stack, running, "127.0.0.1"), asking(stack, running, "127.0.0.2")
        hit = dns.message.make_query("www.example.test", "AAAA").to_wire()
        with held(running):
            for number in range(MANY):
                many[number % 2].send(miss())
            question = miss()
            few.send(question)
            frequent.send(hit)
        assert frequent.recv(4096)[:2] == hit[:2]
        assert few.recv(4096)[:2] == question[:2]
        for number in range(MANY):
            many[number % 2].recv(4096)
        assert len(order) == MANY + 1
        assert order.index(bytes((127, 0, 0, 1))) == 1
        assert running.counters()["outcomes"][DnsOutcome.BUSY] == 0


def test_a_requester_with_a_cookie(order: list[bytes]) -> None:
    """Behind very many questions of its own /24 one with a valid cookie comes next, one with a false one does not; and
    however many addresses of a /24 have a cookie, another /24's comes next all the same."""
    with Running(replace(world_snapshot(), cookie_secrets=(bytes(16),))) as running, ExitStack() as stack:
        many, false = (asking(stack, running, f"127.9.9.{number}") for number in (1, 2))
        good = [asking(stack, running, f"127.9.9.{number}") for number in (3, 4, 5)]
        other = asking(stack, running, "127.9.8.1")
        cookies = [cookie_of(sock) for sock in good]
        order.clear()
        with held(running):
            for _ in range(MANY):
                many.send(miss())
            false.send(miss(bytes(24)))
            for sock, cookie in zip(good, cookies, strict=True):
                sock.send(miss(cookie))
            other.send(miss())
        for sock in (other, false, *good):
            sock.recv(4096)
        for _ in range(MANY):
            many.recv(4096)
        last = [sender[3] for sender in order]
        assert (order[1], last[:6]) == (bytes((127, 9, 8, 1)), [1, 1, 3, 4, 5, 1])
        assert last.index(2) == MANY + 4


def cookie_of(sock: socket.socket) -> bytes:
    """A cookie of a server for an address of its own."""
    sock.send(miss(bytes(8)))
    [option] = dns.message.from_wire(sock.recv(4096)).options
    return bytes(option.to_wire())


def test_behind_a_front_end(order: list[bytes]) -> None:
    """Of what a front end sends the requester counts, not the front end."""
    with serving("127.0.0.1/32") as running, ExitStack() as stack:
        front = asking(stack, running, "127.0.0.1")
        with held(running):
            for _ in range(20):
                front.send(header("192.0.2.1") + miss())
            question = miss()
            front.send(header("198.51.100.1") + question)
        ids = [front.recv(4096)[:2] for _ in range(21)]
        assert question[:2] in ids
        assert order.index(bytes((198, 51, 100, 1))) == 1


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has waited too long is dropped, and counted; the outcomes sum to the messages all the same."""
    monkeypatch.setattr(turns, "PATIENCE", -1.0)
    with Running(world_snapshot()) as running, ExitStack() as stack:
        sock = asking(stack, running, "127.0.0.1")
        hit = dns.message.make_query("www.example.test", "AAAA").to_wire()
        for wire in (miss(), miss(), hit):
            sock.send(wire)
        assert sock.recv(4096)[:2] == hit[:2]
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), running.loop).result(10)
        counters = running.counters()
    assert counters["outcomes"][DnsOutcome.BUSY] == 2
    assert sum(counters["outcomes"].values()) == counters["transport"]["udp_messages"] == 3


def test_what_waits_is_forgotten(order: list[bytes]) -> None:
    """On demand nothing of what waits in sockets and for its turn is answered; it is counted, and what comes after is
    answered; the time spent on datagrams grows by that alone."""
    with Running(world_snapshot()) as running, ExitStack() as stack:
        sock = asking(stack, running, "127.0.0.1")
        idle = running.in_loop(running.server.load).spent
        with held(running):
            for _ in range(MANY):
                sock.send(miss())
            running.loop.call_soon_threadsafe(running.server.forget_waiting)
        assert running.in_loop(running.server.load).lost == MANY
        assert not order
        last = miss()
        sock.send(last)
        assert sock.recv(4096)[:2] == last[:2]
        counters, load = running.counters(), running.in_loop(running.server.load)
    assert counters["outcomes"][DnsOutcome.BUSY] == MANY
    assert sum(counters["outcomes"].values()) == counters["transport"]["udp_messages"] == MANY + 1
    assert load.done == 1
    assert 0 <= idle < load.spent < 30


def test_a_change_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits while the site changes is answered by the new one alone: who was identified by the old one is not."""
    with Running(world_snapshot()) as running, ExitStack() as stack:
        sock = asking(stack, running, "127.0.0.1")
        seen: list[bool] = []
        decide = Responder._decide

        def noted(self: Responder, *args: object) -> object:
            seen.append(args[-1] is not None)
            return decide(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Responder, "_decide", noted)
        put = turns.DatagramTurns.put

        def change_then_put(self: turns.DatagramTurns, *args: object) -> None:
            put(self, *args)  # type: ignore[arg-type]
            running.server.update(world_snapshot())

        sock.send(miss())
        sock.recv(4096)
        monkeypatch.setattr(turns.DatagramTurns, "put", change_then_put)
        sock.send(miss())
        sock.recv(4096)
    assert seen == [True, False]
