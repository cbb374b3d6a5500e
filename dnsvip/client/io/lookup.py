"""Asking DNS as the enrolled client, keeping what it issued for its TTL, and telling the servers' time.

It knows names and issued addresses; what becomes of an address is decided in `modifier`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

import dns.exception
import dns.message
import dns.name

from dnsvip.client.enrolment import Enrolment
from dnsvip.client.io.exchange import ask, first_address, time_signed
from dnsvip.client.io.system import is_address
from dnsvip.errors import ClientError

SKEW = 2
"""Seconds by which clocks may differ before the DNS server's is trusted over ours (a signature has whole ones)."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An address as DNS gave it, and when its TTL ends by `Lookup.now`."""

    address: IPv6Address
    expires: float


class Lookup:
    """Questions of one client. `timeout` is seconds for one try at one server."""

    def __init__(
        self, enrolment: Enrolment | None, servers: Sequence[str], timeout: float, clock: Callable[[], float]
    ) -> None:
        self._enrolment = enrolment
        self._servers = tuple(servers) or (enrolment.servers if enrolment else ())
        self._timeout = timeout
        self._clock = clock
        self._kept: dict[str, Issued] = {}
        self.offset = 0.0
        """Seconds that the servers' clock is ahead of ours, as far as they sign their answers."""

    def now(self) -> float:
        """Unix seconds by the clock of the DNS server that last signed an answer, by ours before that."""
        return self._clock() + self.offset

    async def ask(self, name: str, rdtype: str) -> dns.message.Message:
        """The servers' own answer about a name, verified, addresses as issued; raises ClientError."""
        tsig = self._enrolment.tsig if self._enrolment else None
        answer = await ask(name, rdtype, self._servers, tsig, self._timeout)
        signed = time_signed(answer)
        if signed is not None:
            skew = signed - self._clock()
            self.offset = skew if abs(skew) > SKEW else 0.0
        return answer

    async def issued(self, name: str, *, fresh: bool = False) -> Issued | None:
        """The address issued for a name, kept or `fresh`; None where the system's resolver is the one to ask.

        Raises ClientError where a service name has no address or no server answers.
        """
        if not self._asks_for(name):
            return None
        kept = self._kept.get(name)
        if kept and not fresh and kept.expires > self.now():
            return kept
        found = await self._asked(name)
        if found is not None:
            self._kept = {other: it for other, it in self._kept.items() if it.expires > self.now()}
            self._kept[name] = found
        return found

    def _asks_for(self, name: str) -> bool:
        if is_address(name) or not self._servers:
            return False
        return self._enrolment is None or self._enrolment.covers(name)

    async def _asked(self, name: str) -> Issued | None:
        required = self._enrolment is None or self._enrolment.is_service(name)
        try:
            found = first_address(await self.ask(name, "AAAA"))
        except ClientError:
            if required:
                raise
            return None  # a neighbour of the services: the rest of the world may know it
        if found is None and required:
            raise ClientError(f"{name}: has no AAAA record, says the DNS server")
        return Issued(found[0], self.now() + found[1]) if found else None


def canonical(name: str) -> str:
    """A name as the enrolment writes it: lower case, no last dot, IDNA where it is not ASCII; raises ClientError."""
    if name.isascii():
        return name.lower().rstrip(".")
    try:
        return dns.name.from_text(name).to_text(omit_final_dot=True).lower()
    except dns.exception.DNSException as error:
        raise ClientError(f"{name!r} is not a domain name: {error}") from None
