"""The encoded VIPs of one cluster under its active epoch.

Pure and without randomness: nonce and session are SipHashes of the requester's identity under keys of the epoch, the
nonce also of the renewal slot. So every worker and node gives the same address within a slot, and a repeated query
costs one dictionary look-up. With `nonce = "answer"` the nonce is of the answer's moment and number instead, and each
is sealed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from struct import Struct
from typing import NamedTuple

from dnsvip.address.keyring import Epoch
from dnsvip.address.mac import siphash, siphashes
from dnsvip.address.session import field_value
from dnsvip.address.suffix import SuffixCodec, derive_key, is_reserved, reserved_among
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.identity import (
    HASHED,
    NOBODY,
    around_prefixes,
    ecs_length,
    in_session,
    named_session,
    of_client,
    of_requester,
    tier_of,
)
from dnsvip.dns.two_generation_cache import TwoGenerationCache
from dnsvip.errors import CodecError
from dnsvip.site import Client, Cluster, NonceOf, Tier
from dnsvip.site.routing import number_of

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


_ANSWER, _MOST = Struct("!dI"), 0xFFFF_FFFF

_NO_ATTRIBUTES: Mapping[str, str | int] = {}


class Recipe(NamedTuple):
    """What all encoded VIPs of a requester are made of, whatever the slot: what nonces are hashes of besides the slot,
    and all fields but nonce and expiry as one integer."""

    hashed: bytes
    payload: int


class AnswerCount:
    """Tells the answers of one maker apart: what a nonce of an answer is made for."""

    def __init__(self) -> None:
        self._number = 0

    def next(self, now: float) -> bytes:
        """The next answer: its moment (unix seconds), and its number."""
        self._number = self._number + 1 & _MOST
        return _ANSWER.pack(now, self._number)


def attribute_number(cluster: Cluster, asked: Mapping[str, str | int], client: Client | None, name: str) -> int:
    """The number for what is `asked` for, or a client's attribute; 0 where it is not set, -1 where it is a word without
    a number."""
    value = asked.get(name) or (client.attributes.get(name, 0) if client else 0)
    number = number_of(cluster.values, name, value)
    return -1 if number is None else number


class Issuer:
    """The encoded VIPs of one cluster under its active epoch; `attributes` are sealed in place of the clients' own."""

    def __init__(
        self,
        cluster: Cluster,
        tiers: Mapping[str, Tier],
        epoch: Epoch,
        codec: SuffixCodec,
        attributes: Mapping[str, str | int] = _NO_ATTRIBUTES,
        *,
        shared: bool = False,
    ) -> None:
        layout = codec.layout
        self._attributes = attributes
        self._cluster, self._tiers, self._epoch, self._codec, self._layout = cluster, tiers, epoch, codec, layout
        self._is_shared = shared
        self._session_bits = layout.bits("session")
        self._own_sessions = (1 << self._session_bits) - 1 >> shared  # the others are those of labels
        self._masks = {name: (1 << bits) - 1 for name, bits in layout.fields}
        self._plain = int(cluster.plain)
        self._renew = cluster.renew_seconds
        self._nonce_key = derive_key(epoch.secret, b"dnsvip v1 nonce", layout)
        self._session_key = derive_key(epoch.secret, b"dnsvip v1 session", layout)
        self._by_prefix = "nonce" in self._masks or "session" in self._masks
        self._hashes = {
            "nonce": (self._nonce_key, self._masks.get("nonce", 0), True),
            "session": (self._session_key, self._own_sessions, False),
        }
        self._nonces = min(MAX_NONCES, self._masks.get("nonce", 0) + 1)
        self._personal = [
            (name, layout.pack({n: int(n == name) for n in self._masks}).bit_length() - 1)
            for name in ("nonce", "session")
            if name in self._masks
        ]
        self._client_shift, self._session_shift = (
            layout.pack({n: int(n == name) for n in self._masks}).bit_length() - 1 if name in self._masks else 0
            for name in ("client", "session")
        )
        self._alike: dict[tuple[object, ...], int | None] = {}
        self._is_fresh = cluster.nonce is NonceOf.ANSWER
        self._answers = AnswerCount()
        self._slot = self._expiry = -1
        self._moment = b""
        self._nobody: dict[bytes, int | None] = {}
        self._cache: TwoGenerationCache[bytes, Vip] = TwoGenerationCache(MEMO_SIZE // 2)

    def asked_for(self, attributes: Mapping[str, str | int]) -> Issuer:
        """One that seals these attributes in place of the clients' own."""
        return Issuer(self._cluster, self._tiers, self._epoch, self._codec, attributes, shared=self._is_shared)

    def issue(self, who: Classified, requester: Requester, now: float, session: int | None = None) -> Vip:
        """The address for `who` at `now` (unix seconds), of the session that a label named."""
        self._enter_slot(now)
        key = of_requester(who, requester, by_prefix=self._by_prefix)
        if session is not None:
            key = in_session(key, session)
        if self._is_fresh:
            return self._seal_fresh(key, who.client, now)
        return self._cache.get(key) or self._cache.put(key, self._seal(key, who.client))

    @property
    def nonce_key(self) -> bytes:
        """The key of SipHash that nonces are made with."""
        return self._nonce_key

    @property
    def epoch(self) -> Epoch:
        """The epoch whose keys it uses."""
        return self._epoch

    @property
    def cluster(self) -> Cluster:
        """The cluster whose addresses it makes."""
        return self._cluster

    def recipe(self, who: Classified, requester: Requester) -> Recipe | None:
        """For whoever makes the addresses that `issue` gives, but for those whose first nonce must not be issued; None
        where a field does not fit."""
        key = of_requester(who, requester, by_prefix=self._by_prefix)
        values = self._values(key, who.client, 0)
        payload = self._pack(values | dict.fromkeys(values.keys() & {"nonce", "expiry"}, 0))
        return None if payload is None else Recipe(key[:HASHED], payload)

    def payload(self, client: Client) -> int | None:
        """The payload of a client's recipe. What clients of a tier with the same attributes share is made once."""
        alike = client.tier, *client.attributes.items()
        shared = self._alike.get(alike, -1)
        if shared == -1:
            values = self._values(NOBODY, client, 0)
            own = values.keys() & {"client", "session", "nonce", "expiry"}
            shared = self._alike[alike] = self._pack(values | dict.fromkeys(own, 0))
            if len(self._alike) > MEMO_SIZE:
                self._alike = {}
        if shared is None or client.id > self._masks.get("client", client.id):
            return None
        if "client" in self._masks:
            shared |= client.id << self._client_shift
        if "session" in self._masks:
            shared |= self._session(of_client(client), client, 0) << self._session_shift
        return shared

    @property
    def basis(self) -> tuple[object, ...]:
        """What recipes are made with besides the cluster and tiers."""
        return tuple(self._attributes.items()), self.session_of

    @property
    def has_prefixes(self) -> bool:
        """Whether anonymous requesters have addresses by their prefix."""
        return self._by_prefix

    @property
    def session_of(self) -> tuple[bytes, int, int]:
        """How a session is made of what nonces are hashes of: the key of SipHash, the bits of the hash that are taken,
        and where they go in the payload; no bits where the layout has no session."""
        return (self._session_key, self._own_sessions, self._session_shift) if self._session_bits else (b"", 0, 0)

    def issue_batch(self, asked: Sequence[tuple[Classified, Requester]], now: float) -> list[Vip]:
        """`issue` for many at once."""
        self._enter_slot(now)
        keys = [of_requester(who, requester, by_prefix=self._by_prefix) for who, requester in asked]
        if self._is_fresh:
            return [self._seal_fresh(key, who.client, now) for key, (who, _) in zip(keys, asked, strict=True)]
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

    def seal_prefixes(
        self, prefixes: Sequence[bytes], version: int, of_listener: str | None, now: float
    ) -> list[int | None]:
        """The addresses at `now` (unix seconds) of anonymous requesters whose ECS gave these prefixes of one length, in
        whole bytes and not longer than ANONYMOUS_PREFIX; `of_listener` as in `Classified`. As `issue` for each, but
        without remembering; None for what takes another nonce, or does not fit."""
        self._enter_slot(now)
        shared = self._shared(of_listener.encode() if of_listener else b"")
        if shared is None:
            return [None] * len(prefixes)
        before, after = around_prefixes(version, len(prefixes[0]))
        payloads = [shared] * len(prefixes)
        for name, shift in self._personal:
            key, mask, moment = self._hashes[name]
            end = after + self._moment if moment else after
            hashed = siphashes(key, [before + prefix + end for prefix in prefixes])
            payloads = [payload | (number & mask) << shift for payload, number in zip(payloads, hashed, strict=True)]
        addresses = self._codec.seal_batch(payloads)
        reserved = reserved_among(self._layout, addresses, self._plain)
        return [None if address in reserved else address for address in addresses] if reserved else [*addresses]

    def _enter_slot(self, now: float) -> None:
        slot = int(now) // self._renew
        if slot != self._slot:
            self._slot, self._cache = slot, TwoGenerationCache(MEMO_SIZE // 2)
            self._moment = slot.to_bytes(8, "big")
            self._expiry = self._expiry_in(slot)
            self._nobody = {}

    def _seal_fresh(self, key: bytes, client: Client | None, now: float) -> Vip:
        """An address of this answer alone: its moment and number stand in place of the slot."""
        self._moment = self._answers.next(now)
        return self._seal(key, client)

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
        return Vip(address, self._cluster.ttl, kind, ecs_length(key))

    def _payload(self, key: bytes, client: Client | None, attempt: int) -> int | None:
        """The fields of an address as one integer; None where one does not fit its bits. Anonymous clients share
        all but their `_personal` fields."""
        if client:
            return self._pack(self._values(key, client, attempt))
        payload = self._shared(tier_of(key))
        if payload is not None:
            for name, shift in self._personal:
                payload |= _FIELDS[name](self, key, None, attempt) << shift
        return payload

    def _shared(self, tier: bytes) -> int | None:
        """What anonymous clients of a tier (b"": the default tier) share."""
        if tier not in self._nobody:
            values = self._values(NOBODY + tier, None, 0) | dict.fromkeys((name for name, _ in self._personal), 0)
            self._nobody[tier] = self._pack(values)
        return self._nobody[tier]

    def _values(self, key: bytes, client: Client | None, attempt: int) -> dict[str, int]:
        return {
            name: _FIELDS[name](self, key, client, attempt)
            if name in _FIELDS
            else attribute_number(self._cluster, self._attributes, client, name)
            for name in self._masks
        }

    def _pack(self, values: Mapping[str, int]) -> int | None:
        try:
            return self._layout.pack(values)
        except CodecError:
            return None

    def _tier(self, key: bytes, client: Client | None, _attempt: int) -> int:
        given = tier_of(key).decode()
        tier = self._tiers.get(client.tier if client else given or self._cluster.default_tier)
        return tier.code if tier else -1

    def _nonce(self, key: bytes, _client: Client | None, attempt: int) -> int:
        message = key[:HASHED] + self._moment
        return siphash(self._nonce_key, message) + attempt & self._masks["nonce"]

    def _session(self, key: bytes, _client: Client | None, _attempt: int) -> int:
        if (named := named_session(key)) is not None:
            return field_value(named, self._session_bits)
        return siphash(self._session_key, key[:HASHED]) & self._own_sessions

    def _expiry_in(self, slot: int) -> int:
        """Units after the epoch's activation, rounded up, so that an address of this slot's last moment still
        outlives its TTL; the highest value, "as long as the epoch", where the field holds no more."""
        top, unit = self._masks.get("expiry", 0), self._cluster.expiry_unit
        needed = (slot + 1) * self._renew + self._cluster.ttl - self._epoch.activated_at
        return min(top, max(1, -(-needed // unit)))


_FIELDS: Mapping[str, Callable[[Issuer, bytes, Client | None, int], int]] = {
    "tier": Issuer._tier,
    "client": lambda _issuer, _key, client, _attempt: client.id if client else 0,
    "expiry": lambda issuer, _key, _client, _attempt: issuer._expiry,
    "nonce": Issuer._nonce,
    "session": Issuer._session,
}
"""The values of fields with known names; any other field is an attribute of the client."""
