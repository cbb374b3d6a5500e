"""DNS look-ups as the enrolled client: a cache by TTL, and the servers' clock from their signed answers.

It knows names and issued addresses, and nothing about proofs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import dns.exception
import dns.message
import dns.name

from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.io.exchange import Silent, ask, first_address, time_signed
from dnsvip.client.io.system import is_address
from dnsvip.errors import ClientError
from dnsvip.site.server_forms import is_encrypted

SKEW = 2
"""Seconds of clock skew above which the DNS server's clock is used instead of ours; signatures have whole seconds."""

NO_IPV4_SECONDS = 30
"""How long an answer without A record is kept, for hosts without IPv6 that keep asking."""


class NoIPv6Address(ClientError):
    """A service has no AAAA record."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An address as DNS issued it, and when its TTL expires by `Lookup.now`."""

    address: IPv6Address
    expires: float


@dataclass(frozen=True, slots=True)
class IssuedIPv4:
    """An IPv4 address of a service, None where it has none, and when its TTL expires by `Lookup.now`."""

    address: IPv4Address | None
    expires: float


class Lookup:
    """Look-ups of one client, or without an enrolment of anybody; `recursive` at resolvers. `timeout` is in seconds for
    one attempt at one server. Encrypted servers are asked on `channels`, which show them who the client is."""

    def __init__(
        self,
        enrolment: Enrolment | None,
        servers: Sequence[str],
        timeout: float,
        clock: Callable[[], float],
        *,
        recursive: bool = False,
        channels: Channels | None = None,
    ) -> None:
        self._enrolment = enrolment
        self._servers = tuple(servers) or (enrolment.asked_servers if enrolment else ())
        self._channels = channels or Channels()
        self._timeout, self._recursive = timeout, recursive
        self._clock = clock
        self._cache: dict[str, Issued] = {}
        self._ipv4: dict[str, IssuedIPv4] = {}
        self.offset = 0.0
        """Seconds by which the servers' clock is ahead of ours; 0 where they do not sign their answers."""

    def now(self) -> float:
        """Unix seconds by the clock of the DNS server that last signed an answer, else by ours."""
        return self._clock() + self.offset

    async def ask(self, name: str, rdtype: str, network: IPv6Network | None = None) -> dns.message.Message:
        """The servers' answer for a name, verified, with addresses as issued; a `network` goes with the question.
        Raises ClientError, or Silent where nobody else may be asked in plain text."""
        return await self._ask(name, rdtype, self._servers, network)

    async def ask_own(self, name: str, rdtype: str, network: IPv6Network | None = None) -> dns.message.Message:
        """As `ask`, for what is this client's own and nobody could forge: without a TSIG key encrypted servers alone
        are asked."""
        signs = self._enrolment is not None and self._enrolment.tsig is not None
        servers = [server for server in self._servers if signs or is_encrypted(server)]
        return await self._ask(name, rdtype, servers, network)

    async def ask_encrypted(self, name: str, rdtype: str) -> dns.message.Message:
        """As `ask`, at encrypted servers alone."""
        return await self._ask(name, rdtype, [server for server in self._servers if is_encrypted(server)], None)

    async def _ask(
        self, name: str, rdtype: str, servers: Sequence[str], network: IPv6Network | None
    ) -> dns.message.Message:
        tsig = self._enrolment.tsig if self._enrolment else None
        try:
            answer = await ask(
                name, rdtype, servers, tsig, self._timeout, network, recursive=self._recursive, channels=self._channels
            )
        except Silent as silent:
            if self._enrolment is not None and self._enrolment.plaintext_fallback:
                raise ClientError(str(silent)) from None
            raise
        signed = time_signed(answer)
        if signed is not None:
            skew = signed - self._clock()
            self.offset = skew if abs(skew) > SKEW else 0.0
        return answer

    async def issued(self, name: str, *, fresh: bool = False) -> Issued | None:
        """The address issued for a name, cached unless `fresh`; None where the system's resolver is responsible.

        Raises ClientError where a service name has no address or no server answers.
        """
        if not self.asks_for(name):
            return None
        cached = self._cache.get(name)
        if cached and not fresh and cached.expires > self.now():
            return cached
        issued = await self._query(name)
        if issued is not None:
            self._cache = {cached: entry for cached, entry in self._cache.items() if entry.expires > self.now()}
            self._cache[name] = issued
        return issued

    async def ipv4(self, name: str) -> IssuedIPv4 | None:
        """The name's A record at the same servers, cached; None where it has none or nobody answers."""
        cached = self._ipv4.get(name)
        if cached is None or cached.expires <= self.now():
            try:
                address_ttl = first_address(await self.ask(name, "A"))
            except ClientError:
                return None
            address, ttl = (IPv4Address(address_ttl[0]), address_ttl[1]) if address_ttl else (None, NO_IPV4_SECONDS)
            cached = IssuedIPv4(address, self.now() + ttl)
            self._ipv4 = {key: entry for key, entry in self._ipv4.items() if entry.expires > self.now()}
            self._ipv4[name] = cached
        return cached if cached.address else None

    def asks_for(self, name: str) -> bool:
        """Whether these servers are asked for a name, and not the system's resolver."""
        if is_address(name) or not self._servers:
            return False
        return self._enrolment is None or self._enrolment.covers(name)

    async def _query(self, name: str) -> Issued | None:
        required = self._enrolment is None or self._enrolment.is_service(name)
        try:
            address_ttl = first_address(await self.ask(name, "AAAA"))
        except ClientError as error:
            if required or isinstance(error, Silent):
                raise
            return None  # a name next to the services: public DNS may have it
        if address_ttl is None and required:
            raise NoIPv6Address(f"{name}: has no AAAA record, says the DNS server")
        return Issued(IPv6Address(address_ttl[0]), self.now() + address_ttl[1]) if address_ttl else None


def canonical(name: str) -> str:
    """A name as the enrolment writes it: lower case, no trailing dot, IDNA for non-ASCII; raises ClientError."""
    if name.isascii():
        return name.lower().rstrip(".")
    try:
        return dns.name.from_text(name).to_text(omit_final_dot=True).lower()
    except dns.exception.DNSException as error:
        raise ClientError(f"{name!r} is not a domain name: {error}") from None
