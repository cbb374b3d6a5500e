"""What an address says, as a value and as the line that programs read.

The verdict is that of the dispatcher's verifier, under a snapshot that has no clients: `keys.snapshot_of`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from dnsvip.address.layout import RESERVED_NAMES
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.errors import ConfigError
from dnsvip.site import Cluster, OnInvalid, Snapshot

Address: TypeAlias = IPv4Address | IPv6Address
_AUTHENTIC = (AddressReason.ISSUED, AddressReason.PROVEN)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What an address says. `verdict` is a reason of the dispatcher (`dnsvip.dispatcher.reason`) and `accepted` whether
    a new flow to the address is that of who it names.

    Of an authentic address, an expired one too, `tier` and `client` (its id; 0: anonymous) are as they were when it was
    made, `session` is its number, and `attributes` are words or, where the cluster has no word, numbers. Otherwise
    `tier` is the cluster's default tier for a plain VIP, and None for what is not to be believed.
    """

    address: str
    verdict: str
    accepted: bool = False
    cluster: str | None = None
    tier: str | None = None
    client: int = 0
    session: int = 0
    attributes: Mapping[str, str | int] = field(default_factory=dict)


class AddressReader:
    """Reads addresses under one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._verifier = AddressVerifier(snapshot)
        self._tiers = {tier.code: tier.name for tier in snapshot.site.tiers.values()}

    def read(self, address: Address, now: float) -> Decoded:
        """What `address` says at `now` (unix seconds)."""
        verdict = self._verifier.verify(int(address), 0, 0, now)
        cluster, name = verdict.cluster, str(address)
        if cluster is None:
            return Decoded(name, verdict.reason.value)
        if not isinstance(cluster, Cluster) or not verdict.values:
            tier = verdict.tier.name if verdict.tier and verdict.accepted else None
            return Decoded(name, verdict.reason.value, verdict.accepted, cluster.name, tier)
        reason, values = _proof(cluster, verdict), verdict.values
        tier = self._tiers.get(values["tier"]) if "tier" in values else cluster.default_tier
        attributes = _attributes(cluster, values)
        accepted = reason in _AUTHENTIC
        return Decoded(name, reason.value, accepted, cluster.name, tier, verdict.client, verdict.session, attributes)


def _proof(cluster: Cluster, verdict: AddressVerdict) -> AddressReason:
    """The reason, with the dispatcher's word for a proof, which takes the client's key: what it found wrong has been
    dropped, unless the cluster serves that too."""
    if verdict.reason is not AddressReason.BAD_PROOF:
        return verdict.reason
    return AddressReason.PROVEN if cluster.on_invalid is OnInvalid.DROP else AddressReason.UNPROVEN


def _attributes(cluster: Cluster, values: Mapping[str, int]) -> dict[str, str | int]:
    """The fields that the operator named, with their words; those that are not set are left out."""
    attributes: dict[str, str | int] = {}
    for name, number in values.items():
        if name not in RESERVED_NAMES and number:
            words = {value: word for word, value in cluster.values.get(name, {}).items()}
            attributes[name] = words.get(number, number)
    return attributes


def to_line(decoded: Decoded) -> str:
    """The answer to one line: a JSON object."""
    return json.dumps(asdict(decoded), separators=(",", ":"))


def from_line(line: str | bytes) -> Decoded:
    """The answer in a line; raises ConfigError with what the decoder says where it could not answer."""
    answer = json.loads(line)
    if "error" in answer:
        raise ConfigError(answer["error"])
    return Decoded(**answer)
