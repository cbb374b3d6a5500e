"""A primary that lets its transfers drip keeps the zones of others neither from being checked nor transferred."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rrset

from tests.dns.primaries import PRIMARIES
from tests.node.serving import node, within
from tests.node.test_secondary import KEY, apply, declared, text

ZONES = 6
"""More than are transferred at a time."""


class Dripping:
    """A primary at 127.66.6.6 that has a serial for every zone, and never sends one."""

    def __init__(self) -> None:
        self.transfers: list[socket.socket] = []
        self._udp, self._tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        self._udp.bind(("127.66.6.6", 0))
        self.port = self._udp.getsockname()[1]
        self._tcp.bind(("127.66.6.6", self.port))
        self._tcp.listen(64)
        for work in (self._answer, self._accept):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """End all of it."""
        for one in (self._udp, self._tcp, *self.transfers):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _answer(self) -> None:
        with suppress(OSError, dns.exception.DNSException):
            while True:
                wire, peer = self._udp.recvfrom(4096)
                query = dns.message.from_wire(wire)
                zone = query.question[0].name.to_text()
                answer = dns.message.make_response(query)
                answer.flags |= dns.flags.AA
                answer.answer.append(dns.rrset.from_text(zone, 60, "IN", "SOA", f"ns.{zone} h.{zone} 1 60 60 600 60"))
                self._udp.sendto(answer.to_wire(), peer)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                connection.sendall(struct.pack("!H", 1000))
                self.transfers.append(connection)


def test_a_primary_that_drips_leaves_places(tmp_path: Path) -> None:
    """While it holds all transfers that one may have, the zone of another is transferred."""
    (tmp_path / "node").mkdir()
    with ExitStack() as stack:
        made = stack.enter_context(node(tmp_path / "node"))
        good = text("good.test", 1)
        primary = stack.enter_context(PRIMARIES["bind"](tmp_path / "bind", "good.test", good, made.dns))
        slow = Dripping()
        stack.callback(slow.close)
        zones = [f'[zone."slow-{n}.test"]\nprimaries = ["127.66.6.6:{slow.port}"]\n' for n in range(ZONES)]
        apply(made, "".join(zones))
        made.start("--token-file", "token")
        within(30, lambda: len(slow.transfers) >= 3)
        apply(made, KEY + declared("good.test", primary.port))
        within(30, lambda: made.dig("SOA", "good.test"))
        assert len(slow.transfers) == 3
