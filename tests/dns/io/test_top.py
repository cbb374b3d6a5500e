"""What a server is asked most: counted over UDP and TCP, by bytes that the fast path knows as well, in few places."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.io.top import ELSEWHERE, DnsTop
from dnsvip.node.dns_service import _counting
from dnsvip.node.figures import anonymised
from dnsvip.node.reload import LiveConfig
from dnsvip.site.node_dns import DnsSettings, Listener
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.node_log import SampleSettings
from tests.samples import make_snapshot


def question(name: str, number: int = 1) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.rstrip(".").split("."))
    return number.to_bytes(2, "big") + b"\0\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\34\0\1"


async def served(settings: SampleSettings | None = None) -> tuple[DnsServer, DnsTop]:
    server = DnsServer(DnsSettings(listen=(Listener("127.0.0.1:0", "here"),)), Engine(make_snapshot()))
    await server.start()
    top = DnsTop(lambda: server.engine, lambda: partial(anonymised, settings))
    server.show_top(top)
    return server, top


async def ask(port: int, *wires: bytes) -> None:
    """Datagrams, each answered."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        for wire in wires:
            await loop.sock_sendall(sock, wire)
            await asyncio.wait_for(loop.sock_recv(sock, 4096), 5)


async def test_names_and_resolvers() -> None:
    """Each name with the zone or service that it is of; what is in none is one row; networks are cut."""
    server, top = await served()
    port = server.endpoints[0].port
    names = ["www.example.test"] * 6 + ["mail.example.test"] * 3 + [f"x{n}.elsewhere.invalid" for n in range(2)]
    await ask(port, *(question(name, number) for number, name in enumerate(names)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = question("www.example.test")
    writer.write(len(wire).to_bytes(2, "big") + wire)
    await reader.readexactly(2)
    writer.close()
    shown = top.shown()
    await server.stop()
    rates = {row["name"]: row["rate"] for row in shown["names"]}
    assert list(rates) == ["www.example.test.", "mail.example.test.", ELSEWHERE]
    assert rates["www.example.test."] == pytest.approx(7 / 3 * rates["mail.example.test."], rel=0.01)
    assert {row["name"]: row.get("service") or row.get("zone") for row in shown["names"]} == {
        "www.example.test.": "www.example.test",
        "mail.example.test.": "example.test",
        ELSEWHERE: None,
    }
    assert [row["network"] for row in shown["resolvers"]] == ["127.0.0.0/24"]


async def test_whole_addresses() -> None:
    """Where the query log keeps whole addresses, so does this."""
    server, top = await served(SampleSettings(keep4=32))
    await ask(server.endpoints[0].port, question("www.example.test"))
    assert [row["network"] for row in top.shown()["resolvers"]] == ["127.0.0.1"]
    await server.stop()


async def test_a_flood_is_thinned() -> None:
    """Of many questions few are looked at, and they stand for all: the rate is right."""
    server, top = await served()
    looked = 0
    take = top.take

    def counted(*given: object) -> None:
        nonlocal looked
        looked += 1
        take(*given)  # type: ignore[arg-type] - as it was called

    top.take = counted  # type: ignore[method-assign] - to see how often
    wires = [question("www.example.test", number) for number in range(3000)]
    await ask(server.endpoints[0].port, *wires)
    rows = top.shown()["names"]
    await server.stop()
    assert looked < 500
    assert server.counters()["outcomes"]["service"] == 3000
    assert [row["name"] for row in rows] == ["www.example.test."]


async def test_latency_is_counted() -> None:
    """The datagrams of one batch in 16 are in the histogram: of single ones, one in 16."""
    server, _ = await served()
    await ask(server.endpoints[0].port, *(question("www.example.test", number) for number in range(200)))
    counts = dict(server.counters()["latency"])
    await server.stop()
    assert 0 < counts.pop("microseconds") < 13 * 500_000
    assert 10 <= sum(counts.values()) <= 13


def test_it_costs_the_kernel_nothing() -> None:
    """What is asked most is no sample of the query log: the program in the kernel samples nothing for it."""
    server = DnsServer(DnsSettings(listen=(Listener("127.0.0.1:0", "here"),)), Engine(make_snapshot()))
    server.show_top(DnsTop(lambda: server.engine, lambda: partial(anonymised, None)))
    assert not server.logs


async def test_an_operator_turns_it_off() -> None:
    """With `[log] top = false` nothing is looked at, also after a reload; with it, it goes on."""
    server, _ = await served()
    node = NodeConfig("sqlite:///x.db")
    live = LiveConfig(Path("node.toml"), replace(node, log=replace(node.log, top=False)))
    shown = _counting(live, server)
    assert shown(totals=True)["figures"]["top"] == {}
    await ask(server.endpoints[0].port, question("www.example.test"))
    live.node = node
    assert shown(totals=True)["figures"]["top"]["names"] == []
    await ask(server.endpoints[0].port, question("www.example.test"))
    assert len(shown(totals=False)["figures"]["top"]["names"]) == 1
    await server.stop()
