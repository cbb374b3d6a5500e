"""What an enrolled client asks for itself: its ticket, and its own source address (address/README.md, "Where a client
gets them").

Both are good as long as their epoch. A service has two more names for them, at which there is nothing for anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dnsvip.address.fields import Fields
from dnsvip.address.keyring import Epoch
from dnsvip.address.mac import siphash
from dnsvip.address.source import SourceCodec
from dnsvip.address.suffix import SuffixCodec, derive_key, is_reserved, is_reserved_identifier
from dnsvip.dns.protocol.names import MAX_NAME, Labels, name_length
from dnsvip.dns.synthesis.identity import HASHED, of_client
from dnsvip.dns.synthesis.issuer import MAX_NONCES, AnswerCount, Kind, Vip, attribute_number
from dnsvip.dns.zones.record import WILD
from dnsvip.errors import CodecError
from dnsvip.site import ClassCluster, Client, Cluster, NonceOf, Service, Tier
from dnsvip.site.epochs import keep_seconds

TICKET, SOURCE = b"_ticket", b"_source"
"""The labels before a service's name."""

OWN = frozenset({TICKET, SOURCE})

LONGEST_TTL = 86_400
"""Seconds; that of any address."""

NETWORK_BITS = 64
"""The prefix length of the network that a source address is in."""


def own_names(
    services: Mapping[Labels, Service], clusters: Mapping[str, Cluster | ClassCluster]
) -> Iterator[tuple[Labels, Service]]:
    """The names at which the services of a site have what clients ask for themselves."""
    for name, service in services.items():
        cluster = clusters.get(service.cluster or "")
        if not isinstance(cluster, Cluster) or name[:1] == (WILD,) or name_length((TICKET, *name)) > MAX_NAME:
            continue
        yield (TICKET, *name), service
        if cluster.source is not None:
            yield (SOURCE, *name), service


class OwnMaker:
    """Tickets and source addresses of one cluster under its active epoch. `shared`: the upper half of the sessions is
    that of labels."""

    def __init__(
        self, cluster: Cluster, tiers: Mapping[str, Tier], epoch: Epoch, codec: SuffixCodec, *, shared: bool
    ) -> None:
        self._cluster, self._tiers, self._codec, self._shared = cluster, tiers, codec, shared
        self._nonce_key = derive_key(epoch.secret, b"dnsvip v1 nonce", codec.layout)
        self._session_key = derive_key(epoch.secret, b"dnsvip v1 session", codec.layout)
        form = cluster.source_format
        self._source = SourceCodec(form, epoch.secret, epoch.slot) if form else None
        self._answers = AnswerCount()
        self._ttl = min(keep_seconds(cluster), LONGEST_TTL)

    def ticket(self, service: Service, client: Client, now: float) -> Vip | None:
        """The client's ticket for a service at `now` (unix seconds); None where its values do not fit."""
        layout, plain = self._codec.layout, int(self._cluster.plain)
        for values in self._tried(b"t", layout.fields, service, client, now):
            try:
                address = self._codec.encode(values)
            except CodecError:
                return None
            if not is_reserved(layout, address, plain):
                return Vip(address, self._ttl, Kind.ENCODED)
        return None

    def source(self, service: Service, client: Client, network: int, now: float) -> Vip | None:
        """The client's own address in the /64 around an address; None where the cluster reads none, or its values do
        not fit."""
        if self._source is None:
            return None
        form = self._source.format
        for values in self._tried(b"s", form.fields, service, client, now):
            try:
                address = self._source.seal(network, form.pack(values))
            except CodecError:
                return None
            if not is_reserved_identifier(address):
                return Vip(address, self._ttl, Kind.ENCODED)
        return None

    def _tried(
        self, kind: bytes, fields: Fields, service: Service, client: Client, now: float
    ) -> Iterator[Mapping[str, int]]:
        """The values of an address, with one nonce after the other."""
        tops = {name: (1 << bits) - 1 for name, bits in fields}
        values = {name: self._value(name, top, service, client) for name, top in tops.items()}
        if "nonce" not in tops:
            yield values
            return
        first = siphash(self._nonce_key, of_client(client)[:HASHED] + kind + self._moment(now))
        for attempt in range(min(MAX_NONCES, tops["nonce"] + 1)):
            yield {**values, "nonce": first + attempt & tops["nonce"]}

    def _moment(self, now: float) -> bytes:
        """What a nonce is made for: a renewal slot, or an answer."""
        if self._cluster.nonce is NonceOf.SLOT:
            return (int(now) // self._cluster.renew_seconds).to_bytes(8, "big")
        return self._answers.next(now)

    def _value(self, name: str, top: int, service: Service, client: Client) -> int:
        """One field's value but the nonce's; -1 where it has none that fits."""
        if name == "tier":
            tier = self._tiers.get(client.tier)
            return tier.code if tier else -1
        if name == "client":
            return client.id
        if name in ("expiry", "nonce"):
            return top
        if name == "session":
            return siphash(self._session_key, of_client(client)[:HASHED]) & top >> self._shared
        return attribute_number(self._cluster, service.attributes, client, name)
