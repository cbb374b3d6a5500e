"""The client agent: resolves a name as the enrolled client, proves the address, connects from the right source.

    agent = Agent.load()
    reader, writer = await agent.open_connection("www.example.test", 443, ssl=True)
    sock = agent.create_connection("www.example.test", 80)          # the same, blocking

Names outside the enrolment, and all names without one, are resolved and connected as the system does it. The agent
owns sockets and the clock; `dnsvip.client.proof` decides what happens to an address.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

import dns.message

from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io.files import find_enrolment
from dnsvip.client.io.lookup import Issued, Lookup, canonical
from dnsvip.client.io.system import (
    Unreachable,
    connect_as_system,
    connected,
    is_unreachable,
    source_towards,
    system_addresses,
)
from dnsvip.client.proof import Modifier, Proven, Why
from dnsvip.errors import ClientError, CodecError

Result = TypeVar("Result")
NO_SOURCE = IPv6Address(0)
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7); the socket module names it from Python 3.12 on


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where to connect for a name. `issued` is DNS's answer and `ttl` (seconds) its remaining TTL.

    New connections need a fresh answer after `valid_until` (unix seconds). `why` says that the address was proven, or
    why it was not.
    """

    name: str
    address: IPv4Address | IPv6Address
    issued: IPv4Address | IPv6Address
    ttl: int
    valid_until: float
    why: Why

    @property
    def proven(self) -> bool:
        """Whether `address` carries this client's proof."""
        return self.why is Why.PROVEN


class Agent:
    """A client of encoded addresses. Safe to share between tasks, not between threads.

    Without an enrolment, names are queried at `servers` (each ADDRESS:PORT) or else resolved by the system. `timeout`
    is in seconds for one attempt at one DNS server.
    """

    def __init__(
        self,
        enrolment: Enrolment | None = None,
        *,
        servers: Sequence[str] = (),
        timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.enrolment = enrolment
        self._lookup = Lookup(enrolment, servers, timeout, clock)
        self._used: dict[IPv6Address, float] = {}
        self._modifiers = _modifiers(enrolment)

    @classmethod
    def load(cls, path: Path | None = None, **settings: Any) -> Agent:
        """An agent with the imported enrolment, or the one at `path`. It is no error if none was imported."""
        return cls(find_enrolment(path), **settings)

    @property
    def services(self) -> tuple[str, ...]:
        """The names whose addresses are synthesized per client; none without an enrolment."""
        clusters = self.enrolment.clusters if self.enrolment else ()
        return tuple(name for cluster in clusters for name in cluster.services)

    @property
    def needs_port(self) -> bool:
        """Whether some proofs are bound to the source port, so that no address is known before connecting."""
        return any(modifier.needs_port for modifier in self._modifiers.values())

    @property
    def proves_per_connection(self) -> bool:
        """Whether some proofs are valid for one connection only, so that an address alone cannot carry them."""
        return any(modifier.needs_port or modifier.single_use for modifier in self._modifiers.values())

    # -- for callers ------------------------------------------------------------------------------

    async def resolve(self, name: str, *, source: IPv6Address | None = None, port: int = 0) -> Resolved:
        """The address for `name`, proven for `source` (default: the one this host would use) and source `port`.

        A single-use client gets another address with each call. Where this host has no way to the IPv6 address and
        the service has an IPv4 address, that one. Raises ClientError where there is none.
        """
        name = canonical(name)
        issued = await self._lookup.issued(name)
        if issued is None:
            return await self._system(name)
        if source is None and (ipv4 := await self._ipv4_instead(name, issued)) is not None:
            return ipv4
        proven = self._prove(issued.address, source, port)
        if proven.why is Why.USED_UP:
            issued = await self._lookup.issued(name, fresh=True) or issued
            proven = self._prove(issued.address, source, port)
        if proven.why is Why.USED_UP:
            raise self._used_up(name, issued)
        return self._resolved(name, issued, proven)

    async def connect(self, name: str, port: int) -> socket.socket:
        """A connected, non-blocking TCP socket to `name`, from the source that the proof is bound to.

        Where this host has no way to the IPv6 address, and the service has an IPv4 address, to that one.
        Raises ClientError where there is no usable address, OSError where connecting fails.
        """
        name = canonical(name)
        issued = await self._lookup.issued(name)
        if issued is None:
            return await connect_as_system(name, port)
        try:
            return await self._connect_proven(name, issued, port)
        except (ClientError, OSError) as error:
            ipv4 = await self._lookup.ipv4(name) if is_unreachable(error) else None
            if ipv4 is None:
                raise
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        return await connected(sock, str(ipv4.address), port)

    async def _connect_proven(self, name: str, issued: Issued, port: int) -> socket.socket:
        sock, proven = self._bound_socket(issued)
        if proven.why is Why.USED_UP:
            sock.close()
            issued = await self._lookup.issued(name, fresh=True) or issued
            sock, proven = self._bound_socket(issued)
        if proven.why is Why.USED_UP:
            sock.close()
            raise self._used_up(name, issued)
        return await connected(sock, str(proven.address), port)

    async def ask(self, name: str, rdtype: str) -> dns.message.Message:
        """The enrolled servers' answer for a name, verified, with addresses as issued; raises ClientError."""
        return await self._lookup.ask(name, rdtype)

    def prove(self, issued: IPv6Address, *, source: IPv6Address | None = None, port: int = 0) -> Proven:
        """Prove `issued` now; `valid_until` is by this machine's clock. Raises ClientError without a route."""
        proven = self._prove(issued, source, port)
        return (
            proven
            if proven.valid_until is None
            else replace(proven, valid_until=proven.valid_until - self._lookup.offset)
        )

    async def open_connection(
        self, name: str, port: int, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`asyncio.open_connection` to `name`; with `ssl` the certificate is verified against `name`."""
        sock = await self.connect(name, port)
        if options.get("ssl"):
            options.setdefault("server_hostname", name)
        try:
            return await asyncio.open_connection(sock=sock, **options)
        except BaseException:
            sock.close()
            raise

    def resolve_sync(self, name: str, *, source: IPv6Address | None = None, port: int = 0) -> Resolved:
        """`resolve` for code without an event loop."""
        return _run(lambda: self.resolve(name, source=source, port=port))

    def create_connection(self, name: str, port: int, timeout: float | None = None) -> socket.socket:
        """A connected, blocking socket, as `socket.create_connection` returns it; `timeout` in seconds."""

        async def connect() -> socket.socket:
            async with asyncio.timeout(timeout):
                return await self.connect(name, port)

        sock = _run(connect)
        sock.settimeout(timeout)
        return sock

    async def _system(self, name: str) -> Resolved:
        infos = await system_addresses(name, 0)
        address = ip_address(infos[0][4][0].partition("%")[0])
        return Resolved(name, address, address, 0, self._lookup.now() - self._lookup.offset, Why.NOT_ENROLLED)

    async def _ipv4_instead(self, name: str, issued: Issued) -> Resolved | None:
        """The name's IPv4 address where this host has no way to the issued one; None where it has, or without A."""
        try:
            source_towards(issued.address)
        except Unreachable:
            ipv4 = await self._lookup.ipv4(name)
        else:
            return None
        if ipv4 is None or ipv4.address is None:
            return None
        ttl = max(0, round(ipv4.expires - self._lookup.now()))
        return Resolved(name, ipv4.address, ipv4.address, ttl, ipv4.expires - self._lookup.offset, Why.NO_IPV6)

    # -- proving ---------------------------------------------------------------------------------------

    def _modifier(self, address: IPv6Address) -> Modifier | None:
        cluster = self.enrolment.cluster_of(address) if self.enrolment else None
        return self._modifiers[cluster.name] if cluster else None

    def _prove(self, issued: IPv6Address, source: IPv6Address | None, port: int) -> Proven:
        modifier = self._modifier(issued)
        if modifier is None:
            return Proven(issued, Why.OUTSIDE if self.enrolment else Why.NOT_ENROLLED)
        now = self._lookup.now()
        if source is None:
            source = source_towards(issued) if modifier.needs_source(issued) else NO_SOURCE
        proven = modifier.prove(issued, source, port, now, self._used if modifier.single_use else ())
        if modifier.single_use and proven.valid_until is not None:
            self._spend(proven.address, now, proven.valid_until + 2 * modifier.slot_seconds)
        return proven

    def _spend(self, address: IPv6Address, now: float, until: float) -> None:
        self._used = {spent: end for spent, end in self._used.items() if end > now}
        self._used[address] = until

    def _used_up(self, name: str, issued: Issued) -> ClientError:
        modifier, now = self._modifier(issued.address), self._lookup.now()
        wait = modifier.slot_end(now) - now if modifier else 0.0
        return ClientError(
            f"{name}: this client's addresses open one connection each and the current ones are used up; the next"
            f' is free in {wait:.0f} s (with proof bind = "address+port" every connection has its own)'
        )

    def _bound_socket(self, issued: Issued) -> tuple[socket.socket, Proven]:
        """A socket bound to the source address of the proof, and to a port only where the proof needs one."""
        modifier = self._modifier(issued.address)
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if modifier is None:
                return sock, self._prove(issued.address, None, 0)
            if not modifier.needs_port:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            source = source_towards(issued.address)
            sock.bind((str(source), 0))
            return sock, self._prove(issued.address, source, sock.getsockname()[1])
        except BaseException:
            sock.close()
            raise

    def _resolved(self, name: str, issued: Issued, proven: Proven) -> Resolved:
        until = issued.expires if proven.valid_until is None else min(issued.expires, proven.valid_until)
        ttl = max(0, round(issued.expires - self._lookup.now()))
        return Resolved(name, proven.address, issued.address, ttl, until - self._lookup.offset, proven.why)


def _modifiers(enrolment: Enrolment | None) -> dict[str, Modifier]:
    try:
        return {cluster.name: Modifier(cluster) for cluster in enrolment.clusters} if enrolment else {}
    except CodecError as error:
        raise ClientError(f"the enrolment cannot be used: {error}") from None


def _run(make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    raise RuntimeError("an event loop is running here: await the async method")
