"""Who tells the address of a name: the enrolment's servers, another resolver, and in place of the plain VIP a ticket.

The enrolment's servers are asked with the client's key. Any other resolver tells everybody's address; of it the plain
VIP of a cluster counts, for which the client has a ticket, so that nothing that it could forge is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path

import dns.message

from dnsvip.client import certificate
from dnsvip.client.enrolment import EnrolledCluster, Enrolment
from dnsvip.client.io.certificate_files import CertificateFiles
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.io.encrypted.credentials import Credentials
from dnsvip.client.io.exchange import first_text
from dnsvip.client.io.files import save, tickets_path
from dnsvip.client.io.lookup import Issued, IssuedIPv4, Lookup, NoIPv6Address
from dnsvip.client.io.ticket_box import TicketBox
from dnsvip.client.io.upstream import system_servers
from dnsvip.client.renewal import name_to_ask, parse_renewal, renewed
from dnsvip.client.tickets import network_of
from dnsvip.errors import ClientError
from dnsvip.site.server_forms import is_encrypted


class Naming:
    """The names of one client. `servers` are asked in place of the enrolment's. With `resolver` (ADDRESS:PORT) it tells
    the addresses of all names of the enrolment, else `resolvers` (default: the system's) do where the enrolment's
    servers are silent and a ticket is held. `timeout` is in seconds for one attempt at one server. `warn` is told where
    a server is asked in plain text because encrypted ones are silent.
    """

    def __init__(
        self,
        enrolment: Enrolment | None,
        servers: Sequence[str],
        timeout: float,
        clock: Callable[[], float],
        *,
        resolver: str | None = None,
        resolvers: Sequence[str] | None = None,
        warn: Callable[[str], None],
    ) -> None:
        self.enrolment = enrolment
        self._path: Path | None = None
        self._given, self._settings, self._warn = tuple(servers), (timeout, clock), warn
        self._channels = Channels(warn=warn)
        """For others: who the client is, is for the enrolment's servers."""
        self._own_channels = self._channels_of(enrolment)
        self._servers = Lookup(enrolment, servers, timeout, clock, channels=self._own_channels)
        self._resolver = self._asking((resolver,)) if resolver else None
        self._resolvers = resolvers
        self._renewable = None if servers or enrolment is None else name_to_ask(enrolment)
        self.tickets = self._box()

    def keep_in(self, path: Path) -> None:
        """Keep what changes of the enrolment in its file, and tickets beside it."""
        self._path = path
        self._use(self.enrolment)

    def close(self) -> None:
        """Close the connections to servers."""
        self._channels.close()
        self._own_channels.close()

    @property
    def now(self) -> float:
        """Unix seconds by the servers' clock."""
        return self._servers.now()

    @property
    def offset(self) -> float:
        """Seconds by which the servers' clock is ahead of ours."""
        return self._servers.offset

    async def renew(self) -> bool:
        """Fetch the servers of the enrolment anew, signed by the client's TSIG key or on a verified channel, and keep
        them in its file; whether they have changed. Nothing happens without either, and with servers that the caller
        has given.

        Raises ClientError where no server answers, or the file cannot be written.
        """
        if self.enrolment is None or self._renewable is None:
            return False
        text = first_text(await self._servers.ask_own(self._renewable, "TXT"))
        if text is None:
            return False  # a server of an earlier version
        new = renewed(self.enrolment, parse_renewal(text, self._renewable))
        if new is self.enrolment:
            return False
        self._use(new)
        if self._path is not None:
            save(new, self._path)
        return True

    async def certify(self, *, new: bool = False) -> certificate.Chain | None:
        """The certificate of this client, another one where it is time; with `new` in any case, for a key that is made
        where there is none yet. None where it has none, or no file that its enrolment is in.

        Raises ClientError where no server issues one, or a file cannot be read or written.
        """
        if self.enrolment is None or self._path is None:
            return None
        files, now = CertificateFiles(self._path), self.now
        held = files.read_chain()
        if not new and (held is None or not held.is_due(now)):
            return held
        if held is not None and not held.is_good(now):
            self._use(self.enrolment)  # it is shown no more
        key = files.made_key().public_key()
        asked = certificate.name_to_ask(self.enrolment, key)
        if asked is None:
            raise ClientError("certificates come from encrypted DNS servers, and the enrolment has none")
        text = first_text(await self._servers.ask_encrypted(asked, "TXT"))
        if text is None:
            raise ClientError("the DNS servers of the enrolment issue no certificate to this client")
        chain = certificate.read_chain(certificate.chain_in(text), "the DNS server's answer", key)
        files.save(chain)
        self._use(self.enrolment)
        return chain

    async def issued(self, name: str, *, fresh: bool = False) -> Issued | None:
        """The address for a name, cached unless `fresh`: as issued, a ticket in place of the plain VIP where the client
        has one, else the plain VIP. None where the system's resolver is responsible, and for a service that has an
        IPv4 address only. Raises ClientError where a service has no address or nobody answers."""
        issued = await self._told(name, fresh=fresh)
        cluster = self.cluster_of(issued.address) if issued else None
        if issued is None or cluster is None or issued.address != cluster.plain or self.tickets is None:
            return issued
        return await self._by_ticket(cluster, name, issued) or issued

    async def ask(self, name: str, rdtype: str) -> dns.message.Message:
        """The answer of those who are asked for names of the enrolment; raises ClientError."""
        return await (self._resolver or self._servers).ask(name, rdtype)

    async def ipv4(self, name: str) -> IssuedIPv4 | None:
        """The name's A record, cached; None where it has none or nobody answers."""
        return await (self._resolver or self._servers).ipv4(name)

    async def ipv4_alone(self, name: str) -> IssuedIPv4 | None:
        """As `ipv4`, for a name without an AAAA record; None too where the system's resolver is responsible."""
        return await self.ipv4(name) if self._servers.asks_for(name) else None

    async def own_address(self, cluster: EnrolledCluster, name: str, near: IPv6Address) -> IPv6Address | None:
        """The client's own address for a name in a cluster, in the /64 around an address; None where there is none."""
        held = await self.tickets.source(cluster, name, network_of(near)) if self.tickets else None
        return held.address if held else None

    async def elsewhere(self, name: str) -> Issued | None:
        """The ticket for a name whose address another resolver tells, which is the plain VIP; None without either."""
        if self.enrolment is None or self.tickets is None:
            return None
        if not any(self.tickets.has_ticket(cluster, name) for cluster in self.enrolment.clusters):
            return None
        servers = tuple(system_servers() if self._resolvers is None else self._resolvers)
        if any(map(is_encrypted, self.enrolment.servers)) and not self.enrolment.plaintext_fallback:
            servers = tuple(filter(is_encrypted, servers))  # the name asked for would be readable
        if not servers:
            return None
        try:
            told = await self._asking(servers).issued(name)
        except ClientError:
            return None
        cluster = self.cluster_of(told.address) if told else None
        if told is None or cluster is None or told.address != cluster.plain:
            return None
        return await self._by_ticket(cluster, name, told)

    def cluster_of(self, address: IPv6Address) -> EnrolledCluster | None:
        """The enrolled cluster of an address."""
        return self.enrolment.cluster_of(address) if self.enrolment else None

    async def _told(self, name: str, *, fresh: bool) -> Issued | None:
        try:
            return await self._by_whom_is_asked(name, fresh=fresh)
        except NoIPv6Address:
            if await self.ipv4(name):
                return None
            raise
        except ClientError:
            with suppress(ClientError):
                if await self.renew():
                    return await self._servers.issued(name, fresh=fresh)
            if self._resolver is None and (issued := await self.elsewhere(name)) is not None:
                return issued
            raise

    async def _by_whom_is_asked(self, name: str, *, fresh: bool) -> Issued | None:
        """The address that those tell who are asked first."""
        if self._resolver is None or not self._servers.asks_for(name):
            return await self._servers.issued(name, fresh=fresh)
        return await self._resolver.issued(name, fresh=fresh)

    async def _by_ticket(self, cluster: EnrolledCluster, name: str, told: Issued) -> Issued | None:
        ticket = await self.tickets.ticket(cluster, name) if self.tickets else None
        return Issued(ticket.address, min(told.expires, ticket.until)) if ticket else None

    def _asking(self, resolvers: Sequence[str]) -> Lookup:
        return Lookup(None, resolvers, *self._settings, recursive=True, channels=self._channels)

    def _use(self, enrolment: Enrolment | None) -> None:
        """Go on with another enrolment, or with other files."""
        self._own_channels.close()
        self._own_channels = self._channels_of(enrolment)
        offset = self._servers.offset
        self.enrolment = enrolment
        self._servers = Lookup(enrolment, self._given, *self._settings, channels=self._own_channels)
        self._servers.offset = offset
        self.tickets = self._box()

    def _channels_of(self, enrolment: Enrolment | None) -> Channels:
        """Channels that show who the client is: by its certificate, else by its TSIG key, else by its token, which over
        TLS and QUIC everybody on the way can read."""
        if enrolment is None:
            return Channels(warn=self._warn)
        files = self._certificate()
        without = Credentials(enrolment.trust, None if enrolment.tsig else enrolment.token)
        if files is None:
            return Channels(without, self._warn)
        known_without = enrolment.tsig is not None or enrolment.token is not None
        return Channels(Credentials(enrolment.trust, None, files), self._warn, without if known_without else None)

    def _certificate(self) -> tuple[Path, Path] | None:
        """The files of the client's certificate, where servers take it."""
        held = CertificateFiles(self._path) if self._path else None
        chain = held.read_chain() if held else None
        if held is None or chain is None:
            return None
        if not chain.is_good(self._settings[1]()):
            self._warn(f"{held.chain} has expired and is not shown: get another one with `dnsvip client certify`")
            return None
        return held.chain, held.key

    def _box(self) -> TicketBox | None:
        if self.enrolment is None:
            return None
        return TicketBox(self.enrolment, lambda: self._servers, tickets_path(self._path) if self._path else None)
