"""A whole site of real processes on one database: DNS servers on loopback, dispatchers in their own namespaces.

Besides tier and client each address carries `seq`, the number of the latest change it reflects, so that an
answer shows which state its server was in.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, Self

import dns.edns
import dns.message
import dns.rdatatype

from dnsvip.demo.netns import World
from dnsvip.site import Client, Site, Snapshot
from dnsvip.site.plan import Change, plan
from dnsvip.store import KeyEncryptionKey, Store
from tests import preloaded
from tests.network.dispatching import wait_until
from tests.network.hosted import start_on
from tests.ports import free_port
from tests.samples import make_site

SITE: Mapping[str, Any] = {
    "cluster": {
        "web": {
            "layout": [["tier", 4], ["client", 12], ["expiry", 7], ["seq", 14]],
            "ttl": 1,
            "renew": 1,
        },
        "legacy": None,
    },
    "service": {"www.example.test": {"cluster4": None}},
}
NODE = """
database = "{url}"
key_file = "{key}"
state_dir = "{name}"
node = "{name}"
[[dns.listen]]
name = "public"
address = "127.0.0.1:{port}"
[dispatch]
flows = 5000
[log]
format = "json"
"""
SENDER = """
import socket, sys
for line in sys.stdin:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.sendto(b"\\0hello", (line.strip(), 7000))
"""
HEALTHY = ("issued", "proven", "plain")


@dataclass
class Server:
    """A DNS server, queried as the client acme."""

    name: str
    port: int
    process: preloaded.Process

    def ask(self) -> int:
        """The address that acme gets; raises OSError or ValueError if there is none."""
        query = dns.message.make_query("www.example.test", "AAAA", use_edns=True)
        query.use_edns(options=[dns.edns.ECSOption("198.51.100.7", 32)])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(5)
            one.connect(("127.0.0.1", self.port))
            one.send(query.to_wire())
            answer = dns.message.from_wire(one.recv(4096))
        found = [rdata for rrset in answer.answer for rdata in rrset if rrset.rdtype == dns.rdatatype.AAAA]
        if answer.id != query.id or len(found) != 1:
            raise ValueError(answer.to_text())
        return int(IPv6Address(found[0].address))


@dataclass
class Dispatcher:
    """A dispatcher, and a host in front of it that sends packets to it."""

    name: str
    folder: Path
    process: preloaded.Process | subprocess.Popen[bytes]
    sender: subprocess.Popen[bytes]

    def send(self, address: int) -> None:
        """Send a datagram, the first of a flow, to an address."""
        assert self.sender.stdin
        self.sender.stdin.write(f"{IPv6Address(address)}\n".encode())
        self.sender.stdin.flush()

    def status(self) -> dict[str, Any]:
        """The dispatcher's status."""
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(self.folder / self.name / "dispatch.sock"))
            one.sendall(b'{"do": "status"}\n')
            with one.makefile() as text:
                next(text)  # the version of the stream
                document: dict[str, Any] = json.loads(next(text))
                return document

    def rejected(self) -> dict[str, int]:
        """Rejected packets by reason."""
        wrong = ("unknown-epoch", "bad-tag", "bad-payload", "expired", "revoked", "no-server", "unproven")
        return {reason: count for reason, count in self.status()["counters"].items() if count and reason in wrong}


@dataclass
class Fleet:
    """The processes, and the test's own store for changing the site."""

    folder: Path
    url: str
    world: World
    store: Store
    servers: list[Server] = field(default_factory=list)
    dispatchers: list[Dispatcher] = field(default_factory=list)
    seq: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    async def start(cls, folder: Path, url: str, world: World, *, servers: int = 3, dispatchers: int = 2) -> Self:
        """Create the site, start everything and wait until it works."""
        store = await Store.open(url, KeyEncryptionKey.load(folder / "key", {}))
        await store.objects.apply(plan(Site(), make_site(SITE), {}), "test", "site")
        fleet = cls(folder, url, world, store)
        for number in range(servers):
            fleet._serve(f"ns{number}")
        for number in range(dispatchers):
            fleet._dispatch(f"d{number}")
        for server in fleet.servers:
            await asyncio.to_thread(wait_until, lambda server=server: '"event": "ready"' in fleet.log(server), 60)
        for each in fleet.dispatchers:
            await asyncio.to_thread(wait_until, lambda each=each: '"event": "dispatching"' in fleet.log(each), 60)
        return fleet

    async def stop(self) -> None:
        """Stop the processes that the topology does not stop."""
        for server in self.servers:
            server.process.terminate()
        for server in self.servers:
            await asyncio.to_thread(server.process.wait, 20)
        for dispatcher in self.dispatchers:
            dispatcher.sender.kill()
            dispatcher.sender.wait()
        await self.store.close()

    def log(self, which: Server | Dispatcher) -> str:
        """The log of a process."""
        return (self.folder / f"{which.name}.log").read_text()

    async def change(self, **changes: Any) -> int:
        """Change acme; by default only the number that its addresses carry, which is returned."""
        before = await self.store.objects.get("client", "acme")
        assert isinstance(before, Client)
        self.seq += 1
        after = replace(before, attributes={"seq": self.seq}, **changes)
        await self.store.objects.apply([Change("client", "acme", "~", before, after)], "test", "api")
        return self.seq

    async def snapshot(self) -> Snapshot:
        """The current snapshot of the database."""
        return await self.store.snapshots.load()

    def _serve(self, name: str) -> None:
        port = free_port()
        with (self.folder / f"{name}.log").open("wb") as log:
            process = preloaded.start("serve", self._node(name, port), out=log, error=log)
        self.servers.append(Server(name, port, process))

    def _dispatch(self, name: str) -> None:
        front, host = self.world.host(f"c{name}"), self.world.host(name)
        number = len(self.dispatchers)
        self.world.link(
            front, host,
            a_addrs=[f"2001:db8:{number}::1/64", "fd00:10::11/64", "fd00:10::21/64"],
            b_addrs=[f"2001:db8:{number}::2/64", "fd00:10::2/64"],
            a_name="eth0", b_name="eth0",
        )  # fmt: skip
        host.forwarding()
        host.route("default", "via", f"2001:db8:{number}::1")
        front.route("2001:db8:a:1::/64", "via", f"2001:db8:{number}::2")
        process = start_on(host, "dispatch", self._node(name, 53), log=self.folder / f"{name}.log")
        sender = subprocess.Popen(front.command(sys.executable, "-c", SENDER), stdin=subprocess.PIPE)
        self.dispatchers.append(Dispatcher(name, self.folder, process, sender))

    def _node(self, name: str, port: int) -> Path:
        file = self.folder / f"{name}.toml"
        file.write_text(NODE.format(url=self.url, key=self.folder / "key", name=name, port=port))
        return file


@dataclass
class Seen:
    """One answer: when it was requested and received (monotonic seconds), and the address, or None."""

    server: str
    asked: float
    came: float
    address: int | None


class Watch:
    """Queries every server of a fleet continuously and sends each answered address to every dispatcher."""

    def __init__(self, fleet: Fleet, pause: float = 0.04) -> None:
        self.seen: list[Seen] = []
        self._fleet, self._pause = fleet, pause
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server,)) for server in fleet.servers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, server: Server) -> None:
        turn = 0
        while not self._ended.is_set():
            start = time.monotonic()
            try:
                address: int | None = server.ask()
            except (OSError, ValueError):
                address = None
            self.seen.append(Seen(server.name, start, time.monotonic(), address))
            turn += 1
            if address is not None and turn % 5 == 0:
                for dispatcher in self._fleet.dispatchers:
                    dispatcher.send(address)
            self._ended.wait(self._pause)


def decoded(seen: Iterable[Seen], snapshot: Snapshot) -> list[tuple[Seen, Mapping[str, int]]]:
    """The decoded payload of each answer's address; fails if one is missing or forged."""
    ring = snapshot.keyrings["web"]
    found = []
    for each in seen:
        assert each.address is not None, each
        known = ring.of(each.address)
        assert known is not None, f"{each}: an epoch that never was"
        assert known[1].authentic(each.address), each
        found.append((each, known[1].decode(each.address)))
    return found


def delays(
    committed: Mapping[int, float], answers: Iterable[tuple[Seen, Mapping[str, int]]], servers: Iterable[str]
) -> list[float]:
    """For each change and server, seconds from commit to the first answer that reflects it."""
    by_server: dict[str, list[tuple[float, int]]] = {name: [] for name in servers}
    for seen, values in answers:
        by_server[seen.server].append((seen.came, values["seq"]))
    found = []
    for seq, at in committed.items():
        for states in by_server.values():
            arrived = [came for came, state in states if state >= seq]
            found.append(max(0.0, min(arrived) - at))
    return found
