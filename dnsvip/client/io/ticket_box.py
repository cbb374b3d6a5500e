"""A client's tickets and source addresses: fetched with its key, kept in a file beside the enrolment, renewed in time.

Where nobody answers, what is held is used as long as it is good. Nothing here makes a connection fail: without a
ticket the plain VIP is used, as ever.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Protocol

import dns.message

from dnsvip.client.enrolment import EnrolledCluster, Enrolment
from dnsvip.client.io.exchange import first_address
from dnsvip.client.renewal import name_to_ask
from dnsvip.client.tickets import Held, Key, dump, is_usable, parse, source_name, ticket_name
from dnsvip.errors import ClientError
from dnsvip.site.io.safe_file import make_folder, read_regular, write_file

PAUSE = 60.0
"""Seconds before a question is asked again that had no answer, or no address in it."""

PATIENCE = 0.5
"""Seconds that a connection waits for another ticket while it has a good one: the next one may have it."""


class Servers(Protocol):
    """The enrolment's DNS servers (`lookup.Lookup`)."""

    def ask_own(self, name: str, rdtype: str, network: IPv6Network | None = None) -> Awaitable[dns.message.Message]:
        """The verified answer to a signed question; raises ClientError."""
        ...

    def now(self) -> float:
        """Unix seconds by the servers' clock."""
        ...


class TicketBox:
    """What one enrolment holds, in the file at `path` (None: in memory). `servers` gives those to ask now."""

    def __init__(self, enrolment: Enrolment, servers: Callable[[], Servers], path: Path | None = None) -> None:
        self._enrolment, self._servers, self.path = enrolment, servers, path
        self._held: dict[Key, Held] | None = None
        self._paused: dict[Key, float] = {}
        self._fetching: dict[Key, asyncio.Task[None]] = {}

    async def ticket(self, cluster: EnrolledCluster, name: str) -> Held | None:
        """The client's ticket for a name in a cluster; None where there is none to be had."""
        return await self._get(cluster, ticket_name(cluster, name), None)

    async def source(self, cluster: EnrolledCluster, name: str, network: IPv6Network) -> Held | None:
        """The client's own address in its /64 for a name in a cluster; None as of `ticket`."""
        return await self._get(cluster, source_name(cluster, name), network)

    def has_ticket(self, cluster: EnrolledCluster, name: str) -> bool:
        """Whether a good ticket is held, without asking anybody."""
        held = self._all().get((ticket_name(cluster, name) or "", None))
        return held is not None and held.is_good(self._servers().now())

    async def renew(self) -> None:
        """Fetch anew what is due. Whoever does not answer is asked again later."""
        clusters = {cluster.name: cluster for cluster in self._enrolment.clusters}
        for held in list(self._all().values()):
            if held.is_due(self._servers().now()) and held.cluster in clusters:
                await self._get(clusters[held.cluster], held.name, held.network)

    async def fetch_all(self) -> int:
        """Fetch the tickets of all services anew, wildcards aside; how many there are then."""
        for cluster in self._enrolment.clusters:
            for service in cluster.services:
                name = None if service.startswith("*.") else ticket_name(cluster, service)
                if name:
                    await self._fetch(cluster, name, None)
        return sum(held.network is None for held in self._all().values())

    async def _get(self, cluster: EnrolledCluster, name: str | None, network: IPv6Network | None) -> Held | None:
        if name is None or name_to_ask(self._enrolment) is None:
            return None
        key = name, network
        held, now = self._all().get(key), self._servers().now()
        if (held is None or held.is_due(now)) and self._paused.get(key, now) <= now:
            fetching = self._fetching.get(key)
            if fetching is None:
                fetching = self._fetching[key] = asyncio.create_task(self._fetch(cluster, name, network))
                fetching.add_done_callback(lambda _: self._fetching.pop(key))
            good = held is not None and held.is_good(now)
            await asyncio.wait((fetching,), timeout=PATIENCE if good else None)
            if fetching.done():
                fetching.result()
            held = self._all().get(key)
        return held if held is not None and held.is_good(self._servers().now()) else None

    async def _fetch(self, cluster: EnrolledCluster, name: str, network: IPv6Network | None) -> None:
        """Ask, and keep the answer; what is held stays where there is none."""
        try:
            address_ttl = first_address(await self._servers().ask_own(name, "AAAA", network))
        except ClientError:
            address_ttl = None
        now = self._servers().now()
        if address_ttl is not None:
            held = Held(cluster.name, name, IPv6Address(address_ttl[0]), now, now + address_ttl[1], network)
            if is_usable(cluster, held):
                self._keep(held)
                return
        self._paused = {key: until for key, until in self._paused.items() if until > now}
        self._paused[name, network] = now + PAUSE

    def _all(self) -> dict[Key, Held]:
        if self._held is None:
            self._held = self._read()
        return self._held

    def _keep(self, held: Held) -> None:
        """Keep it, with what other processes have written meanwhile. Without a file it is in memory."""
        now = self._servers().now()
        known = [each for each in (*self._all().values(), *self._read().values(), held) if each.is_good(now)]
        self._held = {each.key: each for each in sorted(known, key=lambda each: each.since)}
        if held.is_good(now):
            self._held[held.key] = held  # also where a clock that was ahead has dated another one later
        if self.path is not None:
            with suppress(ClientError):
                make_folder(self.path.parent, error=ClientError)
                write_file(self.path, dump(self._enrolment, self._held.values()), error=ClientError)

    def _read(self) -> dict[Key, Held]:
        """What is in the file; nothing where others may have read it."""
        if self.path is None:
            return {}
        try:
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                return {}
            return parse(read_regular(self.path), self._enrolment, self._servers().now())
        except OSError:
            return {}
