"""The client's address modifier: turns an issued address into the proven one (address/README.md, "Proven").

Source, port and time are arguments. It returns until when the proof is valid, and returns an address that it cannot
prove unchanged, with the reason. It cannot decode an address: only holders of the cluster's keys know whether DNS
issued it to this client.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from dnsvip.address.proof import Bind, acceptable_slots, prove
from dnsvip.address.suffix import is_reserved
from dnsvip.client.claims import Claims, claims_of, label_claims_of
from dnsvip.client.enrolment import EnrolledCluster


class Why(StrEnum):
    """Whether an address was proven, or why not."""

    PROVEN = "proven"
    PLAIN = "the plain VIP: it works for everybody and needs no proof"
    OUTSIDE = "outside the cluster's prefix"
    NO_KEY = "the enrolment has no key for this cluster"
    NOT_ENROLLED = "not a name of the enrolment"
    NO_IPV6 = "this host cannot reach the IPv6 address: the service's IPv4 address, which carries no proof"
    NO_AAAA = "the service has an IPv4 address only, which carries no proof"
    NEEDS_PORT = "the proof is bound to the source port, which is not known yet"
    SOURCE = "the plain VIP, reached from this client's own address, which says who it is"
    USED_UP = "single use: no unused proof of this address is left in this slot"


@dataclass(frozen=True, slots=True)
class Proven:
    """An address to connect to; its proof opens connections until `valid_until` (unix seconds), None without one."""

    address: IPv6Address
    why: Why
    valid_until: float | None = None


class Modifier:
    """Proves the addresses of one enrolled cluster. Raises CodecError for a layout that does not add up."""

    __slots__ = ("_cluster", "_label", "_layout", "_plain")

    def __init__(self, cluster: EnrolledCluster) -> None:
        self._cluster = cluster
        self._layout, self._label = cluster.address_layout, cluster.label_format
        self._plain = int(cluster.plain)

    @property
    def needs_port(self) -> bool:
        """Whether a proof is bound to the source port: the socket must be bound before the proof is made."""
        proof = self._cluster.proof
        return proof is not None and proof.bind is Bind.ADDRESS_PORT

    def needs_source(self, issued: IPv6Address) -> bool:
        """Whether the source address matters: the address can be proven and its proof is bound."""
        proof = self._cluster.proof
        return proof is not None and proof.bind is not Bind.NONE and issued != self._cluster.plain

    @property
    def single_use(self) -> bool:
        """Whether a proven address opens one flow only."""
        proof = self._cluster.proof
        return proof is not None and proof.single_use

    @property
    def slot_seconds(self) -> int:
        """Length of a proof's time slot."""
        return self._cluster.slot_seconds

    def slot_end(self, now: float) -> float:
        """The end of the slot that contains `now`, unix seconds."""
        return float((int(now) // self.slot_seconds + 1) * self.slot_seconds)

    def prove(
        self,
        issued: IPv6Address,
        source: IPv6Address,
        port: int,
        now: float,
        used: Container[IPv6Address] = (),
        said: Claims | None = None,
    ) -> Proven:
        """The address to connect to from `source` and `port` (0: unknown) at `now` (unix seconds), with what the client
        says (`said`) of what this cluster knows. Raises ClientError for a value that it does not know.

        `used` are the proven addresses that a single-use client has spent. The proof is made for the current slot;
        dispatchers accept it for one slot beyond `valid_until`, which tolerates clock skew. Where the current slot
        yields a spent or reserved address, a neighbouring slot is used.
        """
        proof = self._cluster.proof
        refusal = self._refusal(issued, port)
        if refusal is not None or proof is None:
            return Proven(issued, refusal or Why.NO_KEY)
        claims = claims_of(self._cluster, said or {})
        slot, before, after = acceptable_slots(now, self.slot_seconds)
        for candidate in (slot, after, before):
            number = prove(self._layout, int(issued), proof.key, proof.bind, int(source), port, candidate, claims)
            address = IPv6Address(number)
            if address not in used and not is_reserved(self._layout, number, self._plain):
                return Proven(address, Why.PROVEN, self.slot_end(now))
        return Proven(issued, Why.USED_UP)

    def label(self, address: IPv6Address, source: IPv6Address, port: int, now: float, said: Claims) -> int:
        """The flow label of a connection to `address`, as it is sent, that says what this cluster reads of `said` in
        labels; 0: nothing. Other arguments as of `prove`.

        It is made for the current slot, or a neighbouring one where that gives 0, which is no label.
        """
        proof, claims = self._cluster.proof, label_claims_of(self._cluster, said)
        if self._label is None or proof is None or not claims or self._refusal(address, port) is not None:
            return 0
        slot, before, after = acceptable_slots(now, self.slot_seconds)
        labels = (
            self._label.make(int(address), proof.key, proof.bind, int(source), port, each, claims)
            for each in (slot, after, before)
        )
        return next((label for label in labels if label), 0)

    def _refusal(self, issued: IPv6Address, port: int) -> Why | None:
        rules = (
            (issued not in self._cluster.prefix, Why.OUTSIDE),
            (issued == self._cluster.plain, Why.PLAIN),
            (self._cluster.proof is None, Why.NO_KEY),
            (self.needs_port and not port, Why.NEEDS_PORT),
        )
        return next((why for holds, why in rules if holds), None)
