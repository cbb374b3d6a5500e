"""NOTIFY to secondaries (RFC 1996): who gets it, how it is signed, and how often it is sent."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from ipaddress import ip_network

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.io.notifying import MOST_AT_ONCE, Sending
from dnsvip.dns.replication.notices import notice, recipients, soa_of
from dnsvip.site import Site, Snapshot, Transfer, Zone
from dnsvip.site.duty import DUTY, on_duty
from dnsvip.site.epochs import NodeReport

TEXT = """$TTL 60
@ SOA ns1 hostmaster 7 3600 600 86400 60
@ NS ns1
@ NS ns2
@ NS Dual.other.test.
@ NS far.example.org.
@ NS missing
ns1 A 192.0.2.1
ns2 A 192.0.2.2
"""
OTHER = "$TTL 60\n@ SOA a b 1 3600 600 86400 60\n@ NS dual\ndual AAAA 2001:db8::2\ndual A 192.0.2.3\n"
ZONE = Zone("example.test", TEXT, Transfer(to=(ip_network("0.0.0.0/0"),)), notify=("192.0.2.9:5353",))


@pytest.mark.parametrize(
    ("zone", "targets", "names"),
    [
        (
            ZONE,
            [("192.0.2.9", 5353), ("192.0.2.2", 53), ("2001:db8::2", 53), ("192.0.2.3", 53)],
            ["far.example.org."],
        ),
        (replace(ZONE, notify_ns=False), [("192.0.2.9", 5353)], []),
        (replace(ZONE, transfer=None), [("192.0.2.9", 5353)], []),
    ],
)
def test_recipients(zone: Zone, targets: list[tuple[str, int]], names: list[str]) -> None:
    """Those of `notify`, and of a zone that may be transferred its name servers but that of the SOA."""
    engine = Engine(Snapshot(1, Site(zones={zone.name: zone, "other.test": Zone("other.test", OTHER)})))
    compiled = engine.zones.by_apex[b"example", b"test"]
    assert compiled
    found = recipients(zone, compiled, engine.zones)
    assert (list(found.targets), list(found.names)) == (targets, names)


class Secondary:
    """A socket that answers the NOTIFY messages from the `after`th on, with an rcode."""

    def __init__(self, after: int, rcode: int = 0) -> None:
        self.messages: list[dns.message.Message] = []
        self._after, self._rcode = after, rcode
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.target = ("127.0.0.1", self._socket.getsockname()[1])

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            wire, peer = await loop.sock_recvfrom(self._socket, 512)
            message = dns.message.from_wire(wire)
            self.messages.append(message)
            if len(self.messages) >= self._after:
                answer = dns.message.make_response(message)
                answer.set_rcode(dns.rcode.Rcode(self._rcode))
                self._socket.sendto(answer.to_wire(), peer)


@pytest.mark.parametrize(
    ("after", "rcode", "wrong", "number"),
    [
        (1, dns.rcode.NOERROR, None, 1),
        (3, dns.rcode.NOERROR, None, 3),
        (1, dns.rcode.REFUSED, "answers REFUSED", 1),
        (9, dns.rcode.NOERROR, "does not answer (3 tries)", 3),
    ],
)
async def test_retries(after: int, rcode: int, wrong: str | None, number: int) -> None:
    """It is sent until there is an answer, whatever that says, and a bounded number of times."""
    engine = Engine(Snapshot(1, Site(zones={ZONE.name: ZONE})))
    compiled = engine.zones.by_apex[b"example", b"test"]
    assert compiled
    secondary = Secondary(after, rcode)
    answering = asyncio.create_task(secondary.run())
    pauses = (0.1, 0.1, 0.1) if after == 9 else (0.1, 0.1, 30.0)
    message = notice(ZONE.name, soa_of(compiled))
    assert await Sending().notify(ZONE.name, message, secondary.target, pauses) == wrong
    answering.cancel()
    assert len(secondary.messages) == number
    message = secondary.messages[0]
    assert message.opcode() == dns.opcode.NOTIFY
    assert message.flags & (dns.flags.AA | dns.flags.RD | dns.flags.QR) == dns.flags.AA
    assert message.question[0].to_text() == "example.test. IN SOA"
    assert (
        message.answer[0].to_text()
        == "example.test. 60 IN SOA ns1.example.test. hostmaster.example.test. 7 3600 600 86400 60"
    )


async def test_secondaries_that_do_not_answer_keep_no_others_waiting() -> None:
    """More than are waited for at a time: another zone is told in its turn, after the shortest of their pauses."""
    engine = Engine(Snapshot(1, Site(zones={ZONE.name: ZONE})))
    compiled = engine.zones.by_apex[b"example", b"test"]
    assert compiled
    silent, secondary, sending = Secondary(10_000), Secondary(1), Sending()
    message, loop = notice(ZONE.name, soa_of(compiled)), asyncio.get_running_loop()
    answering = [asyncio.create_task(one.run()) for one in (silent, secondary)]
    pauses = (0.2, 60.0)
    dead = [
        asyncio.create_task(sending.notify("silent.test", message, silent.target, pauses))
        for _ in range(3 * MOST_AT_ONCE)
    ]
    while len(silent.messages) < MOST_AT_ONCE:
        await asyncio.sleep(0.01)
    start = loop.time()
    assert await asyncio.wait_for(sending.notify(ZONE.name, message, secondary.target), 30) is None
    assert loop.time() - start < 20
    for task in (*answering, *dead):
        task.cancel()
    sending.close()


def report(instance: str, started: float, **more: object) -> NodeReport:
    """What a process reported at 100."""
    detail = more.pop("detail", {DUTY: True})
    return NodeReport("n", frozenset({"dns"}), 1, "1", 100.0, 5.0, instance, started, detail=detail)  # type: ignore[arg-type]


def test_duty() -> None:
    """Of the processes that report, the one that has run longest is on duty; with equal starts one of them, for all."""
    old, new = report("b", 10.0), report("a", 20.0)
    assert on_duty([old, new], 101.0) == on_duty([new, old], 101.0) == "b"
    assert on_duty([replace(old, seen_at=90.0), new], 101.0) == "a"
    assert on_duty([report("b", 10.0, detail={"stopped": True}), new], 101.0) == "a"
    assert on_duty([report("b", 10.0, detail={}), new], 101.0) == "a"
    assert on_duty([report("b", 10.0), report("a", 10.0)], 101.0) == "a"
    assert on_duty([], 101.0) is None
