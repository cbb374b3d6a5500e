"""The address in the answer to a client: its own encoded VIP, its IPv4 class, or the plain VIP.

Pure and without randomness: nonce and session are SipHashes of the requester's identity under keys of the epoch, the
nonce also of the renewal slot. So every worker and node gives the same address within a slot, and a repeated query
costs one dictionary look-up. Who the requester is, is decided in `identify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from math import inf
from struct import Struct
from typing import NamedTuple

from dnsvip.address.classes import ClassTable
from dnsvip.address.keyring import Epoch
from dnsvip.address.mac import siphash
from dnsvip.address.suffix import SuffixCodec, derive_key, is_reserved
from dnsvip.dns.identity.identify import WIDTHS, Classified, Requester
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.errors import CodecError, ObjectError
from dnsvip.site import Anonymous, ClassCluster, Client, Cluster, Service, Snapshot, Tier

ANONYMOUS_PREFIX: Mapping[int, int] = {4: 24, 6: 48}
"""Prefix length that distinguishes anonymous clients, by IP version."""

MAX_NONCES = 16
"""Nonces tried where an address must not be issued; this many misses in a row do not happen."""

MEMO_SIZE = 1 << 16
"""Addresses of the current slot cached per cluster."""


class Kind(StrEnum):
    """The kind of an address and, for a plain VIP, the reason. Each answer is counted under one."""

    ENCODED = "encoded"
    CLASS = "class"
    PLAIN = "plain"
    NO_EPOCH = "no-epoch"
    NO_NONCE = "no-nonce"
    UNFIT = "unfit"


class Vip(NamedTuple):
    """An address (128 or 32 bits), its TTL in seconds, and what it is.

    `scope` is the ECS scope prefix length that this answer needs, where it depends on more of the ECS
    address than the classification did; None: the classification's scope holds.
    """

    address: int
    ttl: int
    kind: Kind
    scope: int | None = None


class VipMaker:
    """Makes the addresses of all clusters of one snapshot. One per thread, as it caches them.

    An answer is the plain VIP of kind NO_EPOCH where no epoch is active, UNFIT where tier, client id
    or an attribute does not fit the layout, NO_NONCE where every nonce gives a reserved address.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._issuers: dict[str, _Issuer] = {}
        self._plain: dict[str, dict[Kind, Vip]] = {}
        self._hides: dict[str, bool] = {}
        self._classes: dict[str, ClassTable] = {}
        self._renewals: set[int] = set()
        for name, cluster in snapshot.site.clusters.items():
            self._plain[name] = {kind: Vip(int(cluster.plain), cluster.ttl, kind) for kind in Kind}
            if isinstance(cluster, ClassCluster):
                self._classes[name] = cluster.table
                continue
            self._hides[name] = cluster.anonymous is Anonymous.PLAIN
            keyring = snapshot.keyrings.get(name)
            if keyring and keyring.active:
                self._renewals.add(cluster.renew_seconds)
                self._issuers[name] = _Issuer(cluster, snapshot.site.tiers, *keyring.active)

    def has(self, cluster: str | None) -> bool:
        """Whether it makes addresses of a cluster."""
        return cluster in self._plain

    def aaaa(self, service: Service, who: Classified, requester: Requester, now: float) -> Vip:
        """The IPv6 address for `who`. `now` in unix seconds."""
        return self._plainly(service, who) or self._issuers[service.cluster].issue(who, requester, now)

    def seal_batch(self, service: Service, asked: Sequence[tuple[Classified, Requester]], now: float) -> list[Vip]:
        """`aaaa` for many at once: the same addresses, several times faster for new ones."""
        plain = [self._plainly(service, who) for who, _ in asked]
        rest = [pair for pair, vip in zip(asked, plain, strict=True) if vip is None]
        sealed = iter(self._issuers[service.cluster].issue_batch(rest, now) if rest else ())
        return [vip or next(sealed) for vip in plain]

    def a(self, service: Service, who: Classified, _requester: Requester, _now: float) -> Vip | None:
        """The IPv4 address for `who`, by its class; None where the service has no IPv4 cluster."""
        name, client = service.cluster4, who.client
        if name is None:
            return None
        plain = self._plain[name][Kind.PLAIN]
        address = self._classes[name].encode(client.tier, client.id) if client else plain.address
        return plain if address == plain.address else Vip(address, plain.ttl, Kind.CLASS)

    def ttl(self, service: Service, rtype: int) -> int | None:
        """The TTL in seconds that every address of the type has for this service, None where it has none. Raises
        ObjectError where its cluster is missing."""
        name = service.cluster if rtype == Type.AAAA else service.cluster4
        if name is not None and name not in self._plain:
            raise ObjectError(f"service.{service.name}", KeyError(name))
        return None if name is None else self._plain[name][Kind.PLAIN].ttl

    def steady(self, now: float) -> tuple[float, float]:
        """The unix seconds around `now` (from, until) between which the same requester gets the same address."""
        slots = [(int(now) // renew, renew) for renew in self._renewals]
        return max((s * renew for s, renew in slots), default=-inf), min(
            ((s + 1) * renew for s, renew in slots), default=inf
        )

    def _plainly(self, service: Service, who: Classified) -> Vip | None:
        """The plain VIP, where no address needs to be sealed."""
        name = service.cluster
        if who.client is None and self._hides[name]:
            return self._plain[name][Kind.PLAIN]
        return None if name in self._issuers else self._plain[name][Kind.NO_EPOCH]


_KEY = Struct("!QBB16s?")
"""What a client's address depends on, in bytes: its id, or 0 and the IP version, length and network of its prefix and
whether it is from ECS. Nonce and session hash all but the last."""

_NOBODY = _KEY.pack(0, 0, 0, bytes(16), False)
_HASHED = _KEY.size - 1
_LENGTH_AT = 9


class _Issuer:
    """The encoded VIPs of one cluster under its active epoch."""

    def __init__(self, cluster: Cluster, tiers: Mapping[str, Tier], epoch: Epoch, codec: SuffixCodec) -> None:
        layout = codec.layout
        self._cluster, self._tiers, self._epoch, self._codec, self._layout = cluster, tiers, epoch, codec, layout
        self._masks = {name: (1 << bits) - 1 for name, bits in layout.fields}
        self._plain = int(cluster.plain)
        self._renew = cluster.renew_seconds
        self._nonce_key = derive_key(epoch.secret, b"dnsvip v1 nonce", layout)
        self._session_key = derive_key(epoch.secret, b"dnsvip v1 session", layout)
        self._by_prefix = "nonce" in self._masks or "session" in self._masks
        self._nonces = min(MAX_NONCES, self._masks.get("nonce", 0) + 1)
        self._personal = [
            (name, layout.pack({n: int(n == name) for n in self._masks}).bit_length() - 1)
            for name in ("nonce", "session")
            if name in self._masks
        ]
        self._slot = self._expiry = -1
        self._slot_bytes = b""
        self._nobody: int | None = None
        self._cache: TwoGenerationCache[bytes, Vip] = TwoGenerationCache(MEMO_SIZE // 2)

    def issue(self, who: Classified, requester: Requester, now: float) -> Vip:
        self._enter_slot(now)
        key = self._key(who, requester)
        return self._cache.get(key) or self._cache.put(key, self._seal(key, who.client))

    def issue_batch(self, asked: Sequence[tuple[Classified, Requester]], now: float) -> list[Vip]:
        self._enter_slot(now)
        keys = [self._key(who, requester) for who, requester in asked]
        vips: dict[bytes, Vip] = {}
        clients: dict[bytes, Client | None] = {}
        payloads: list[int] = []
        for key, (who, _) in zip(keys, asked, strict=True):
            if key in vips or key in clients:
                continue
            vip = self._cache.get(key)
            if vip is not None:
                vips[key] = vip
            elif (payload := self._payload(key, who.client, 0)) is not None:
                clients[key] = who.client
                payloads.append(payload)
            else:
                vips[key] = self._cache.put(key, self._seal(key, who.client))
        for (key, client), address in zip(clients.items(), self._codec.seal_batch(payloads), strict=True):
            fine = not is_reserved(self._layout, address, self._plain)
            vip = self._vip(key, address, Kind.ENCODED) if fine else self._seal(key, client)
            vips[key] = self._cache.put(key, vip)
        return [vips[key] for key in keys]

    def _enter_slot(self, now: float) -> None:
        slot = int(now) // self._renew
        if slot != self._slot:
            self._slot, self._cache = slot, TwoGenerationCache(MEMO_SIZE // 2)
            self._slot_bytes = slot.to_bytes(8, "big")
            self._expiry = self._expiry_in(slot)
            self._nobody = self._pack({**self._values(_NOBODY, None, 0), **{name: 0 for name, _ in self._personal}})

    def _key(self, who: Classified, requester: Requester) -> bytes:
        if who.client:
            return _KEY.pack(who.client.id, 0, 0, b"", False)
        if not self._by_prefix:
            return _NOBODY
        by_ecs = bool(who.ecs and who.ecs.source_prefix)  # SOURCE 0 hides the client, RFC 7871 section 7.1.2
        address = who.ecs.address if who.ecs and by_ecs else requester.source
        version = address.version
        length = ANONYMOUS_PREFIX[version]
        if who.ecs and by_ecs:
            length = max(who.scope, min(who.ecs.source_prefix, length))
        drop = WIDTHS[version] - length
        return _KEY.pack(0, version, length, (int(address) >> drop << drop).to_bytes(16, "big"), by_ecs)

    def _seal(self, key: bytes, client: Client | None) -> Vip:
        """The address with the first of this key's nonces that may be issued."""
        for attempt in range(self._nonces):
            payload = self._payload(key, client, attempt)
            if payload is None:
                return self._vip(key, self._plain, Kind.UNFIT)
            address = self._codec.seal(payload)
            if not is_reserved(self._layout, address, self._plain):
                return self._vip(key, address, Kind.ENCODED)
        return self._vip(key, self._plain, Kind.NO_NONCE)

    def _vip(self, key: bytes, address: int, kind: Kind) -> Vip:
        """The TTL may be the whole of the cluster's: `_expiry_in` leaves that much even at the end of the slot."""
        return Vip(address, self._cluster.ttl, kind, key[_LENGTH_AT] if key[_HASHED] else None)

    def _payload(self, key: bytes, client: Client | None, attempt: int) -> int | None:
        """The fields of an address as one integer; None where one does not fit its bits. Anonymous clients share
        all but their `_personal` fields."""
        if client:
            return self._pack(self._values(key, client, attempt))
        payload = self._nobody
        if payload is not None:
            for name, shift in self._personal:
                payload |= _FIELDS[name](self, key, None, attempt) << shift
        return payload

    def _values(self, key: bytes, client: Client | None, attempt: int) -> dict[str, int]:
        return {
            name: _FIELDS[name](self, key, client, attempt) if name in _FIELDS else self._attribute(client, name)
            for name in self._masks
        }

    def _pack(self, values: Mapping[str, int]) -> int | None:
        try:
            return self._layout.pack(values)
        except CodecError:
            return None

    def _tier(self, _key: bytes, client: Client | None, _attempt: int) -> int:
        tier = self._tiers.get(client.tier if client else self._cluster.default_tier)
        return tier.code if tier else -1

    def _nonce(self, key: bytes, _client: Client | None, attempt: int) -> int:
        message = key[:_HASHED] + self._slot_bytes
        return siphash(self._nonce_key, message) + attempt & self._masks["nonce"]

    def _session(self, key: bytes, _client: Client | None, _attempt: int) -> int:
        return siphash(self._session_key, key[:_HASHED]) & self._masks["session"]

    def _attribute(self, client: Client | None, name: str) -> int:
        """The number for a client's attribute, 0 where it is not set, -1 where it is a word without a number."""
        value = client.attributes.get(name, 0) if client else 0
        number = self._cluster.values.get(name, {}).get(value, value)  # type: ignore[arg-type]  # a number is no key
        return number if isinstance(number, int) else -1

    def _expiry_in(self, slot: int) -> int:
        """Units after the epoch's activation, rounded up, so that an address of this slot's last moment still
        outlives its TTL; the highest value, "as long as the epoch", where the field holds no more."""
        top, unit = self._masks.get("expiry", 0), self._cluster.expiry_unit
        needed = (slot + 1) * self._renew + self._cluster.ttl - self._epoch.activated_at
        return min(top, max(1, -(-needed // unit)))


_FIELDS: Mapping[str, Callable[[_Issuer, bytes, Client | None, int], int]] = {
    "tier": _Issuer._tier,
    "client": lambda _issuer, _key, client, _attempt: client.id if client else 0,
    "expiry": lambda issuer, _key, _client, _attempt: issuer._expiry,
    "nonce": _Issuer._nonce,
    "session": _Issuer._session,
}
"""The values of fields with known names; any other field is an attribute of the client."""
