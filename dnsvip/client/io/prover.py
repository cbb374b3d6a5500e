"""The client's proofs with this host's sources and clock: which address and label a connection has, from where.

It keeps the addresses that a single-use client has spent. What happens to an address is decided in
`dnsvip.client.proof`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import NamedTuple

from dnsvip.client.claims import Claims, check_claims
from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io.lookup import Issued
from dnsvip.client.io.system import source_towards
from dnsvip.client.proof import Modifier, Proven, Why
from dnsvip.errors import ClientError, CodecError

NO_SOURCE = IPv6Address(0)
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7); the socket module names it from Python 3.12 on


class Way(NamedTuple):
    """A socket that is bound, the address to connect it to, and the flow label to send (0: the host's own)."""

    sock: socket.socket
    proven: Proven
    label: int = 0


class Prover:
    """The proofs of an enrolment, and what the client says by default (`claims`). `now` is the servers' clock, in unix
    seconds. Raises ClientError for an enrolment that cannot be used, or claims that no cluster knows."""

    def __init__(self, enrolment: Enrolment | None, claims: Claims, now: Callable[[], float]) -> None:
        self._enrolment, self.claims, self._now = enrolment, dict(claims), now
        check_claims(enrolment, self.claims)
        self._used: dict[IPv6Address, float] = {}
        try:
            self._modifiers = {c.name: Modifier(c) for c in enrolment.clusters} if enrolment else {}
        except CodecError as error:
            raise ClientError(f"the enrolment cannot be used: {error}") from None

    @property
    def needs_port(self) -> bool:
        """Whether some proofs are bound to the source port, so that no address is known before connecting."""
        return any(modifier.needs_port for modifier in self._modifiers.values())

    @property
    def proves_per_connection(self) -> bool:
        """Whether some proofs are valid for one connection only, so that an address alone cannot carry them."""
        return any(modifier.needs_port or modifier.single_use for modifier in self._modifiers.values())

    def said(self, claims: Claims | None) -> Claims:
        """What is said of one connection; raises ClientError for claims that no cluster knows."""
        if not claims:
            return self.claims
        check_claims(self._enrolment, claims)
        return {**self.claims, **claims}

    def prove(self, issued: IPv6Address, source: IPv6Address | None, port: int, said: Claims) -> Proven:
        """Prove an address now; by default for the source that this host would use. Raises ClientError without a
        route."""
        modifier = self._modifier(issued)
        if modifier is None:
            return Proven(issued, Why.OUTSIDE if self._enrolment else Why.NOT_ENROLLED)
        now = self._now()
        source = source if source is not None else self._source(modifier, issued)
        proven = modifier.prove(issued, source, port, now, self._used if modifier.single_use else (), said)
        if modifier.single_use and proven.valid_until is not None:
            self._spend(proven.address, now, proven.valid_until + 2 * modifier.slot_seconds)
        return proven

    def label(self, address: IPv6Address, source: IPv6Address | None, port: int, said: Claims) -> int:
        """The flow label of a connection to an address, as it is sent; 0 where nothing is said in it."""
        modifier = self._modifier(address)
        if modifier is None:
            return 0
        return modifier.label(address, source or self._source(modifier, address), port, self._now(), said)

    def way(self, issued: Issued, said: Claims) -> Way:
        """A socket bound to the source address of the proof, and to a port only where the proof needs one."""
        modifier = self._modifier(issued.address)
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if modifier is None:
                return Way(sock, self.prove(issued.address, None, 0, said))
            if not modifier.needs_port:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            source = source_towards(issued.address)
            sock.bind((str(source), 0))
            port = sock.getsockname()[1]
            proven = self.prove(issued.address, source, port, said)
            return Way(sock, proven, self.label(proven.address, source, port, said))
        except BaseException:
            sock.close()
            raise

    def used_up(self, name: str, issued: Issued) -> ClientError:
        """Why a single-use client cannot connect to a name now."""
        modifier, now = self._modifier(issued.address), self._now()
        wait = modifier.slot_end(now) - now if modifier else 0.0
        return ClientError(
            f"{name}: this client's addresses open one connection each and the current ones are used up; the next"
            f' is free in {wait:.0f} s (with proof bind = "address+port" every connection has its own)'
        )

    def _source(self, modifier: Modifier, address: IPv6Address) -> IPv6Address:
        return source_towards(address) if modifier.needs_source(address) else NO_SOURCE

    def _modifier(self, address: IPv6Address) -> Modifier | None:
        cluster = self._enrolment.cluster_of(address) if self._enrolment else None
        return self._modifiers[cluster.name] if cluster else None

    def _spend(self, address: IPv6Address, now: float, until: float) -> None:
        self._used = {spent: end for spent, end in self._used.items() if end > now}
        self._used[address] = until
