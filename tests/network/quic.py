"""QUIC connections (RFC 9000) for the tests, both ends, by aioquic: run with `-m tests.network.quic` in a host.

    server NAME FOLDER      UDP 8443: answers each line of a stream with NAME before; FOLDER has cert.pem, key.pem
    client FLOWS ADDRESS... connections that each send a line in EVERY seconds and wait for the answer; commands on
                                standard input and the result are those of `traffic.py download`

A connection is unharmed when one server answered every line, in order.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration

from tests.network.traffic import until_told

PORT = 8443
EVERY = 0.3
PROTOCOL = "lines"
AT_ONCE = 20
"""Handshakes at a time: each takes some milliseconds of Python at both ends."""


class FromVip(asyncio.DatagramTransport):
    """Sends to each peer from the address that it asked, one of many here (RFC 3542 section 6)."""

    def __init__(self) -> None:
        self.asked: dict[Any, bytes] = {}
        self.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self.socket.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND: VIPs are not addresses of an interface
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("::", PORT))

    def receive(self) -> tuple[bytes, Any]:
        """The next datagram and its sender."""
        data, ancillary, _, peer = self.socket.recvmsg(2048, 256)
        for _, kind, value in ancillary:
            if kind == socket.IPV6_PKTINFO:
                self.asked[peer] = value[:16] + bytes(4)
        return data, peer

    def sendto(self, data: Any, addr: Any = None) -> None:
        """See DatagramTransport."""
        self.socket.sendmsg([data], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, self.asked[addr])], 0, addr)


async def serve(name: str, folder: Path) -> None:
    """Serve until killed."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[PROTOCOL])
    configuration.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(f"{name} ".encode() + line)

    def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(answer(reader, writer)))

    tasks: list[asyncio.Future[None]] = []
    transport = FromVip()
    server = QuicServer(configuration=configuration, stream_handler=streams)
    server.connection_made(transport)
    asyncio.get_running_loop().add_reader(transport.socket, lambda: server.datagram_received(*transport.receive()))
    await asyncio.Event().wait()


async def client(flows: int, addresses: list[str]) -> dict[str, object]:
    """Run connections and report on them."""
    over = asyncio.Event()
    received, harmed, servers = [0] * flows, {}, dict[str, str]()
    handshakes = asyncio.Semaphore(AT_ONCE)
    configuration = QuicConfiguration(alpn_protocols=[PROTOCOL], verify_mode=ssl.CERT_NONE, idle_timeout=60)

    async def one(number: int) -> None:
        label = str(number)
        try:
            await handshakes.acquire()
            async with connect(addresses[number % len(addresses)], PORT, configuration=configuration) as connection:
                reader, writer = await connection.create_stream()
                while not over.is_set():
                    writer.write(f"{received[number]}\n".encode())
                    async with asyncio.timeout(30):
                        name, _, count = (await reader.readline()).decode().strip().partition(" ")
                    if servers.setdefault(label, name) != name or count != str(received[number]):
                        harmed[label] = f"{name} {count} after {received[number]} of {servers[label]}"
                        return
                    received[number] += 1
                    if received[number] == 1:
                        handshakes.release()
                        if min(received) > 0:
                            print("running", flush=True)
                    await asyncio.sleep(EVERY)
        except (OSError, ValueError, TimeoutError) as error:
            if not over.is_set():
                harmed[label] = f"{type(error).__name__} {error}"
                if not received[number]:
                    print(json.dumps(harmed), flush=True)

    tasks = [asyncio.ensure_future(one(number)) for number in range(flows)]
    await until_told(received, harmed, over)
    await asyncio.wait(tasks, timeout=10)
    return {"servers": dict(Counter(servers.values())), "by_flow": servers, "harmed": harmed}


def main() -> None:
    """Run the command line."""
    command, *words = sys.argv[1:]
    if command == "server":
        asyncio.run(serve(words[0], Path(words[1])))
    else:
        print(json.dumps(asyncio.run(client(int(words[0]), words[1:]))), flush=True)


if __name__ == "__main__":
    main()
