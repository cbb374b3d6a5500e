"""Hostile servers against the dispatcher's health checks."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from dnsvip.dispatcher.io.health.checks import Health
from dnsvip.dispatcher.io.health.links import Links
from dnsvip.dispatcher.io.health.probes import probe_http
from dnsvip.site import Address, Check, Pool, Server, ServerState, Site, Snapshot
from tests.client.encrypted.authority import Authority
from tests.ports import free_port

PROBES = 20


@contextmanager
def clinging(folder: Path) -> Iterator[tuple[int, list[socket.socket]]]:
    """A server that answers by HTTPS and neither closes a connection nor reads from it again; those that it has."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(folder).pair("127.0.0.1"))
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    tls = context.wrap_socket(listening.accept()[0], server_side=True)
                    tls.recv(4096)
                    tls.send(b"HTTP/1.1 200 OK\r\n\r\n")
                    held.append(tls)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1], held
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in held:
                one.close()


class SlowLinks(Links):
    """Links that take long to look at, one after the other, as many at once do."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def lost(self, _address: Address) -> str:
        """See Links.lost."""
        async with self._turn:
            self.looks += 1
            await asyncio.sleep(0.05)
        return ""


async def test_servers_that_fail_by_the_hundred() -> None:
    """Hundreds of servers of a pool that fail, so that links are looked at, keep no other pool's server that fails from
    being taken out."""
    refused = free_port()
    check = Check(tcp=refused, interval=0.1, timeout=1.0, fall=1)
    hundreds = tuple(Server(f"s{number}", ip_address("127.0.0.1")) for number in range(400))
    many = Pool("many", hundreds, check=replace(check, fall=10))
    links = SlowLinks()
    health = Health(links)
    health.update(Snapshot(1, Site(pools={"many": many})))
    async with asyncio.timeout(20):
        while links.looks < 3:
            await asyncio.sleep(0.05)
    other = Pool("other", (Server("one", ip_address("127.0.0.1")),), check=check)
    health.update(Snapshot(2, Site(pools={"many": many, "other": other})))
    began = time.monotonic()
    async with asyncio.timeout(30):
        while health.applied().site.pools["other"].servers[0].state is not ServerState.DOWN:
            await asyncio.sleep(0.05)
    assert time.monotonic() - began < 8  # instead of the twenty seconds that the others take
    await health.stop()


async def test_a_server_that_clings_to_connections(tmp_path: Path) -> None:
    """A check by HTTPS leaves no descriptor behind where the server does not close its connection: a hostile pool took
    those of all other checks."""
    with clinging(tmp_path) as (port, held):
        check = Check(http=f"https://{{address}}:{port}/", timeout=5.0, verify=False)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(PROBES):
            assert (await probe_http(ip_address("127.0.0.1"), check)).passed
        await asyncio.sleep(0.1)
        assert len(os.listdir("/proc/self/fd")) - before - len(held) < PROBES // 2
