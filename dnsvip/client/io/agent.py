"""The client agent: resolves a name as the enrolled client, proves the address, connects from the right source.

    agent = Agent.load()
    reader, writer = await agent.open_connection("www.example.test", 443, ssl=True)
    sock = agent.create_connection("www.example.test", 80)          # the same, blocking
    sock = agent.create_connection("www.example.test", 80, claims={"content": "video"})

Names outside the enrolment, and all names without one, are resolved and connected as the system does it. The agent
puts together who tells an address (`naming`), how it is proven (`prover`) and sockets.
"""

from __future__ import annotations

import asyncio
import socket
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

import dns.message

from dnsvip.client.certificate import Chain
from dnsvip.client.claims import Claims, labelled
from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io.files import default_path, find_enrolment
from dnsvip.client.io.flow_label import use_label
from dnsvip.client.io.lookup import Issued, IssuedIPv4, canonical
from dnsvip.client.io.naming import Naming
from dnsvip.client.io.own_address import bound_to
from dnsvip.client.io.prover import Prover
from dnsvip.client.io.resolved import Resolved
from dnsvip.client.io.system import (
    Unreachable,
    connect_as_system,
    connected,
    is_unreachable,
    source_towards,
    system_addresses,
)
from dnsvip.client.proof import Proven, Why
from dnsvip.errors import ClientError

Result = TypeVar("Result")


class Agent:
    """A client of encoded addresses. Safe to share between tasks, not between threads.

    Without an enrolment, names are queried at `servers` or else resolved by the system. `timeout`
    is in seconds for one attempt at one DNS server. `claims` are what the client says of every connection to a cluster
    that knows them; methods take others for one. With `resolver` (ADDRESS:PORT) that one tells the addresses, and
    tickets stand in for the plain VIP; without it `resolvers` (default: the system's) are asked where the enrolment's
    servers are silent. With `own_address` connections to clusters with `source` go to the plain VIP, from this client's
    own address. `warn` is told what the user should know. Raises ClientError for claims that no cluster knows.

    Connections to encrypted servers stay open for a minute; `close` closes them.
    """

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        enrolment: Enrolment | None = None,
        *,
        servers: Sequence[str] = (),
        timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
        claims: Claims | None = None,
        resolver: str | None = None,
        resolvers: Sequence[str] | None = None,
        own_address: bool = False,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._naming = Naming(enrolment, servers, timeout, clock, resolver=resolver, resolvers=resolvers, warn=warn)
        self._prover = Prover(enrolment, claims or {}, lambda: self._naming.now)
        self._own_address = own_address

    @classmethod
    def load(cls, path: Path | None = None, **settings: Any) -> Agent:
        """An agent with the imported enrolment, or the one at `path`. It is no error if none was imported."""
        agent = cls(find_enrolment(path), **settings)
        agent._naming.keep_in(path or default_path())
        return agent

    @property
    def enrolment(self) -> Enrolment | None:
        """The enrolment, with the servers that it has now."""
        return self._naming.enrolment

    @property
    def services(self) -> tuple[str, ...]:
        """The names whose addresses are synthesized per client; none without an enrolment."""
        return self.enrolment.services if self.enrolment else ()

    @property
    def needs_port(self) -> bool:
        """Whether some proofs are bound to the source port, so that no address is known before connecting."""
        return self._prover.needs_port

    @property
    def proves_per_connection(self) -> bool:
        """Whether some proofs are valid for one connection only, so that an address alone cannot carry them."""
        return self._prover.proves_per_connection

    @property
    def needs_sockets(self) -> str | None:
        """What of this agent's settings an address alone cannot carry, None where nothing does."""
        if self._own_address:
            return "a source address of this client's own"
        names = labelled(self.enrolment, self._prover.claims)
        return f"the flow label, into which the claim {names[0]!r} goes" if names else None

    def close(self) -> None:
        """Close the connections to DNS servers; the agent can be used again."""
        self._naming.close()

    # -- the enrolment ----------------------------------------------------------------------------

    async def renew(self) -> bool:
        """Fetch the servers of the enrolment anew, as `Naming.renew`, and tickets and a certificate that are due;
        whether the servers have changed. Raises ClientError where no server answers, or a file cannot be written."""
        changed = await self._naming.renew()
        if self._naming.tickets:
            await self._naming.tickets.renew()
        await self._naming.certify()
        return changed

    async def certify(self) -> Chain:
        """Fetch a certificate for this client's own key, which is made where there is none yet. Raises ClientError."""
        chain = await self._naming.certify(new=True)
        if chain is None:
            raise ClientError("a certificate is kept beside an enrolment's file, and there is none")
        return chain

    async def fetch_tickets(self) -> int:
        """Fetch the tickets of all services anew; how many are held then."""
        return await self._naming.tickets.fetch_all() if self._naming.tickets else 0

    # -- for callers ------------------------------------------------------------------------------

    async def resolve(
        self, name: str, *, source: IPv6Address | None = None, port: int = 0, claims: Claims | None = None
    ) -> Resolved:
        """The address for `name`, proven for `source` (default: the one this host would use) and source `port`. What
        `claims` say of this connection goes before what those of the agent say.

        A single-use client gets another address with each call. Where this host has no way to the IPv6 address and
        the service has an IPv4 address, that one. Raises ClientError where there is none.
        """
        name, said = canonical(name), self._prover.said(claims)
        issued = await self._naming.issued(name)
        if issued is None:
            alone = await self._naming.ipv4_alone(name)
            return self._resolved4(name, alone, Why.NO_AAAA) if alone else await self._system(name)
        if (own := await self._from_own_address(name, issued)) is not None:
            return own
        if source is None and (ipv4 := await self._ipv4_instead(name, issued)) is not None:
            return ipv4
        proven = self._prover.prove(issued.address, source, port, said)
        if proven.why is Why.USED_UP:
            issued = await self._naming.issued(name, fresh=True) or issued
            proven = self._prover.prove(issued.address, source, port, said)
        if proven.why is Why.USED_UP:
            raise self._prover.used_up(name, issued)
        label = self._prover.label(proven.address, source, port, said)
        return self._resolved(name, issued, proven, label)

    async def connect(self, name: str, port: int, *, claims: Claims | None = None) -> socket.socket:
        """A connected, non-blocking TCP socket to `name`, from the source that the proof is bound to. `claims` as in
        `resolve`; those of flow labels are in its packets.

        Where this host has no way to the IPv6 address, and the service has an IPv4 address, to that one.
        Raises ClientError where there is no usable address, OSError where connecting fails.
        """
        name, said = canonical(name), self._prover.said(claims)
        issued = await self._naming.issued(name)
        if issued is None:
            alone = await self._naming.ipv4_alone(name)
            return await _connect4(alone, port) if alone else await connect_as_system(name, port)
        if (own := await self._from_own_address(name, issued)) is not None:
            return await connected(bound_to(*own.way), str(own.address), port)
        try:
            return await self._connect_proven(name, issued, port, said)
        except (ClientError, OSError) as error:
            ipv4 = await self._naming.ipv4(name) if is_unreachable(error) else None
            if ipv4 is None:
                raise
        return await _connect4(ipv4, port)

    async def ask(self, name: str, rdtype: str) -> dns.message.Message:
        """The answer of those who are asked for the enrolment's names, with addresses as issued. Raises ClientError."""
        return await self._naming.ask(name, rdtype)

    async def ticket_for(self, name: str) -> Issued | None:
        """The ticket that stands in for the plain VIP of a name; None where there is none, or no need for it."""
        issued = await self._naming.issued(name)
        cluster = self._naming.cluster_of(issued.address) if issued else None
        return issued if issued and cluster and issued.address != cluster.plain else None

    async def elsewhere(self, name: str) -> Issued | None:
        """The ticket for a name whose plain VIP another resolver tells, for when the enrolment's servers are silent."""
        return await self._naming.elsewhere(canonical(name))

    def prove(self, issued: IPv6Address, *, source: IPv6Address | None = None, port: int = 0) -> Proven:
        """Prove `issued` now; `valid_until` is by this machine's clock. Raises ClientError without a route."""
        proven = self._prover.prove(issued, source, port, self._prover.claims)
        until = proven.valid_until
        return proven if until is None else replace(proven, valid_until=until - self._naming.offset)

    async def open_connection(
        self, name: str, port: int, *, claims: Claims | None = None, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`asyncio.open_connection` to `name`; with `ssl` the certificate is verified against `name`."""
        sock = await self.connect(name, port, claims=claims)
        if options.get("ssl"):
            options.setdefault("server_hostname", name)
        try:
            return await asyncio.open_connection(sock=sock, **options)
        except BaseException:
            sock.close()
            raise

    def resolve_sync(
        self, name: str, *, source: IPv6Address | None = None, port: int = 0, claims: Claims | None = None
    ) -> Resolved:
        """`resolve` for code without an event loop."""
        return self._run(lambda: self.resolve(name, source=source, port=port, claims=claims))

    def create_connection(
        self, name: str, port: int, timeout: float | None = None, *, claims: Claims | None = None
    ) -> socket.socket:
        """A connected, blocking socket, as `socket.create_connection` returns it; `timeout` in seconds."""

        async def connect() -> socket.socket:
            async with asyncio.timeout(timeout):
                return await self.connect(name, port, claims=claims)

        sock = self._run(connect)
        sock.settimeout(timeout)
        return sock

    def _run(self, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        async def closing() -> Result:
            try:
                return await make()
            finally:
                self.close()  # the loop ends, and its connections with it

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(closing())
        raise RuntimeError("an event loop is running here: await the async method")

    # -- the ways to an address ------------------------------------------------------------------------

    async def _connect_proven(self, name: str, issued: Issued, port: int, said: Claims) -> socket.socket:
        way = self._prover.way(issued, said)
        if way.proven.why is Why.USED_UP:
            way.sock.close()
            issued = await self._naming.issued(name, fresh=True) or issued
            way = self._prover.way(issued, said)
        if way.proven.why is Why.USED_UP:
            way.sock.close()
            raise self._prover.used_up(name, issued)
        try:
            if way.label:
                use_label(way.sock, way.proven.address, way.label)
        except ClientError:
            way.sock.close()
            raise
        return await connected(way.sock, str(way.proven.address), port, way.label)

    async def _from_own_address(self, name: str, issued: Issued) -> Resolved | None:
        """The plain VIP, to be reached from this client's own address; None where it is not asked for, or the cluster
        reads none. Raises ClientError where there is no such address."""
        cluster = self._naming.cluster_of(issued.address) if self._own_address else None
        if cluster is None or not cluster.source:
            return None
        own = await self._naming.own_address(cluster, name, source_towards(cluster.plain))
        if own is None:
            raise ClientError(f"{name}: the DNS servers of the enrolment give no source address for this network")
        plain = Issued(cluster.plain, issued.expires)
        return self._resolved(name, plain, Proven(cluster.plain, Why.SOURCE), 0, own)

    async def _system(self, name: str) -> Resolved:
        infos = await system_addresses(name, 0)
        address = ip_address(infos[0][4][0].partition("%")[0])
        return Resolved(name, address, address, 0, self._naming.now - self._naming.offset, Why.NOT_ENROLLED)

    async def _ipv4_instead(self, name: str, issued: Issued) -> Resolved | None:
        """The name's IPv4 address where this host has no way to the issued one; None where it has, or without A."""
        try:
            source_towards(issued.address)
        except Unreachable:
            ipv4 = await self._naming.ipv4(name)
        else:
            return None
        if ipv4 is None or ipv4.address is None:
            return None
        return self._resolved4(name, ipv4, Why.NO_IPV6)

    def _resolved4(self, name: str, ipv4: IssuedIPv4, why: Why) -> Resolved:
        assert ipv4.address is not None  # noqa: S101 - for mypy; who asks has looked
        ttl = max(0, round(ipv4.expires - self._naming.now))
        return Resolved(name, ipv4.address, ipv4.address, ttl, ipv4.expires - self._naming.offset, why)

    def _resolved(
        self, name: str, issued: Issued, proven: Proven, label: int, source: IPv6Address | None = None
    ) -> Resolved:
        until = issued.expires if proven.valid_until is None else min(issued.expires, proven.valid_until)
        ttl = max(0, round(issued.expires - self._naming.now))
        offset = self._naming.offset
        return Resolved(name, proven.address, issued.address, ttl, until - offset, proven.why, label, source)


async def _connect4(ipv4: IssuedIPv4, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    return await connected(sock, str(ipv4.address), port)
