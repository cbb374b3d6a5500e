"""Hostile servers against the dispatcher's health checks."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from dnsvip.dispatcher.io.health.probes import probe_http
from dnsvip.site import Check
from tests.client.encrypted.authority import Authority

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
