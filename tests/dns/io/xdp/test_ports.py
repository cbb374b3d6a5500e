"""What all processes lose at a port."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest

from dnsvip.dns.io.listen import Endpoint
from dnsvip.dns.io.server import Load
from dnsvip.dns.io.xdp.ports import PortLosses, SharedLoad

SENT = 200


def bound(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    made.bind((host, port))
    return made


@pytest.fixture(params=["127.0.0.1", "::1"])
def sharing(request: pytest.FixtureRequest) -> Iterator[Sequence[socket.socket]]:
    """Two sockets of one port, as of two workers, and another one."""
    first = bound(request.param, 0)
    sockets = [first, bound(request.param, first.getsockname()[1]), bound(request.param, 0)]
    yield sockets
    for each in sockets:
        each.close()


def endpoint_of(which: socket.socket, scheme: str = "") -> Endpoint:
    host, port, *_ = which.getsockname()
    return Endpoint("public", host, port, scheme)


def flood(to: socket.socket) -> None:
    """More than there is room for, from one port."""
    with socket.socket(to.family, socket.SOCK_DGRAM) as sender:
        for _ in range(SENT):
            sender.sendto(bytes(100), to.getsockname())


def taken(sockets: Sequence[socket.socket]) -> int:
    """How many datagrams wait."""
    number = 0
    for each in sockets:
        each.setblocking(False)
        try:
            while each.recv(200):
                number += 1
        except BlockingIOError:
            pass
    return number


def test_losses_of_all_sockets_count(sharing: Sequence[socket.socket]) -> None:
    """Whichever socket of the port has no room, what is lost counts, once; that of other ports does not."""
    *pair, other = sharing
    losses, endpoints = PortLosses(), [endpoint_of(pair[0]), endpoint_of(pair[1]), endpoint_of(other, "quic")]
    assert losses.look(endpoints) == (0, 0)
    flood(other)
    assert losses.look(endpoints) == (0, 0)
    missing = 0
    for _ in range(8):
        flood(pair[0])
        lost, held = losses.look(endpoints)
        assert held > 0
        assert losses.look(endpoints) == (lost, held)
        missing += SENT - taken(pair)
        assert losses.look(endpoints) == (missing, 0)
    assert missing > 8


def test_sockets_that_come_and_go(sharing: Sequence[socket.socket]) -> None:
    """What a worker has lost stays counted when it ends; the next one begins with none."""
    first, second, _ = sharing
    losses, endpoints = PortLosses(), [endpoint_of(first)]
    flood(first)
    assert losses.look(endpoints)[0] == 0  # whatever was before
    flood(first)
    flood(second)
    before, _ = losses.look(endpoints)
    assert before > 0
    host, port, *_ = first.getsockname()
    for each in (first, second):
        each.close()
    assert losses.look(endpoints) == (before, 0)
    with bound(host, port) as third:
        flood(third)
        assert losses.look(endpoints)[0] == before + SENT - taken([third])


class OneOfTwo:
    """A server with a worker beside it."""

    workers = 2

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints

    def load(self) -> Load:
        return Load(done=7, lost=3, spent=0.5, waiting=1, held=5)


def test_the_load_of_all_workers(sharing: Sequence[socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have lost is added to a server's own load; where the kernel says no more, none comes to it."""
    server = OneOfTwo([endpoint_of(sharing[0])])
    shared = SharedLoad(server)  # type: ignore[arg-type]  # all that it uses
    assert shared.read() == server.load()
    flood(sharing[0])
    load = shared.read()
    assert load.lost > 3
    assert load.held > 5
    assert (load.done, load.waiting) == (7, 1)

    def refuse(*_: object) -> None:
        raise OSError(2, "no udp_diag")

    monkeypatch.setattr(PortLosses, "look", refuse)
    assert [shared.read(), shared.read()] == [server.load()._replace(lost=load.lost)] * 2
