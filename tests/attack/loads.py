"""What loads a node, as programs: each runs until its standard input ends, and says "ready" once it is under way.

python -m tests.attack.loads NAME DNS-PORT API-PORT TOKEN [MORE]
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tests.attack.probes import LOAD_PRIORITY, cpus, settle
from tests.dns.io.test_fairness import QUESTIONS

HOST = "127.0.0.1"
TOKENS = 12


@dataclass(frozen=True, slots=True)
class Target:
    """The node, and tokens of its API."""

    dns: int
    api: int
    tokens: list[str]
    more: int = 0

    def send(self, method: str, path: str, body: object, kind: str, token: str = "") -> int:
        """The status of a request, 0 where the connection broke."""
        connection = http.client.HTTPConnection(HOST, self.api, timeout=600)
        headers = {"Authorization": f"Bearer {token or self.tokens[0]}", "Content-Type": kind}
        try:
            connection.request(method, f"/api/v1/{path}", body, headers, encode_chunked=True)  # type: ignore[arg-type]
            answer = connection.getresponse()
            while answer.read(1 << 16):
                pass
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def ready() -> None:
    print("ready", flush=True)


def streams(target: Target) -> None:
    """Eight TCP connections that send the most expensive questions without a pause."""
    burst = b"".join(len(message).to_bytes(2, "big") + message for message in QUESTIONS.values())

    async def flood() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, target.dns)
                reading = asyncio.ensure_future(_drain(reader))
                with suppress(OSError):
                    while not reading.done():
                        writer.write(burst)
                        await writer.drain()
                reading.cancel()
                writer.close()

    asyncio.run(_all(flood, 8))


async def _drain(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(1 << 16):
            pass


async def _all(work: Callable[[], object], number: int) -> None:
    tasks = [asyncio.ensure_future(work()) for _ in range(number)]  # type: ignore[call-overload]
    await asyncio.sleep(0.5)
    ready()
    await asyncio.gather(*tasks)


def half_heads(target: Target) -> None:
    """3,000 connections that send half a head; each that is closed is opened again."""

    async def hold() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, target.api)
                writer.write(b"GET /api/v1/clients HTTP/1.1\r\nHost: x\r\nX-Long: ")
                with suppress(OSError):
                    await reader.read(1)
                writer.close()
            await asyncio.sleep(1)

    asyncio.run(_all(hold, 3000))


def hostile_zones(target: Target) -> None:
    """Twelve PUTs at once of zones that take longest to check, again and again."""
    head = "$ORIGIN hostile{}.test.\n$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    many = "$GENERATE 1-65000 h$ A 192.0.2.1\n" + "".join(f"a{n} A 192.0.2.1\n" for n in range(400_000))
    bodies = [head.format(n).encode() + many.encode() for n in range(TOKENS)]

    def put(number: int) -> None:
        while True:
            token = target.tokens[number % len(target.tokens)]
            target.send("PUT", f"zones/hostile{number}.test", bodies[number], "text/dns", token)
            time.sleep(0.2)

    _threads(put, TOKENS)


def bulk_import(target: Target) -> None:
    """An import of many clients, again and again, the same ones after the first time."""

    def lines() -> Iterator[bytes]:
        for first in range(0, target.more, 500):
            yield b"".join(map(client, range(first, min(first + 500, target.more))))

    def post(_: int) -> None:
        while True:
            target.send("POST", "clients/import", lines(), "application/x-ndjson")

    _threads(post, 1)


def client(number: int) -> bytes:
    """A client as a line of an import."""
    body = {
        "name": f"c{number:07}",
        "id": 10_000 + number,
        "tier": ("gold", "standard")[number % 2],
        "match": [{"source": f"2001:{0xDB9 + (number >> 16):x}:{number & 0xFFFF:x}::/48"}],
    }
    return json.dumps(body).encode() + b"\n"


def export(target: Target) -> None:
    """Exports of every client, one after the other."""

    def get(_: int) -> None:
        while True:
            for form in ("ndjson", "csv"):
                target.send("GET", f"clients/export?format={form}", None, "application/json")

    _threads(get, 1)


def connects(target: Target) -> None:
    """A stream of connections without a TLS handshake; up to a thousand are open."""
    held: list[socket.socket] = []
    begun = False
    while True:
        for port in (target.api, target.dns):
            with suppress(OSError):
                held.append(socket.create_connection((HOST, port), 1))
        if len(held) > 1000:
            for sock in held[:500]:
                sock.close()
            del held[:500]
        if not begun and len(held) > 500:
            begun = True
            ready()


def _threads(work: Callable[[int], None], number: int) -> None:
    for at in range(number):
        threading.Thread(target=work, args=(at,), daemon=True).start()
    time.sleep(0.5)
    ready()
    threading.Event().wait()


LOADS: Mapping[str, Callable[[Target], None]] = {
    load.__name__: load for load in (streams, half_heads, hostile_zones, bulk_import, export, connects)
}


def main() -> None:
    name, dns, api, tokens, more = sys.argv[1:]
    settle(os.getpid(), cpus()[1], LOAD_PRIORITY)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    LOADS[name](Target(int(dns), int(api), tokens.split(","), int(more)))


if __name__ == "__main__":
    main()
