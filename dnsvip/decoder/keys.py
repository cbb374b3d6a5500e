"""Decoding keys: what a server needs to read the addresses of one cluster, as values and as a JSON document.

They hold the two keys of each epoch (address/README.md, "Keys"), but neither its secret nor anything of a client.
Whoever has them can read and check issued addresses of this cluster and, as both keys are symmetric, make some; they
prove no address and say nothing about other clusters. README.md describes the document; `version` is 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.suffix import EpochKeys, epoch_keys
from dnsvip.errors import CodecError, ConfigError, InvalidSite
from dnsvip.site import STRICT, ClassCluster, Cluster, Name, Site, Snapshot, Tier
from dnsvip.site.plain import JsonObject, SiteObject, dump, parse, problem_of
from dnsvip.site.values import HexKey

VERSION: Literal[1] = 1

CARRIED = (
    *("name", "prefix", "plain", "layout", "tag_bits", "values", "classes"),
    *("default_tier", "expiry_unit", "on_invalid", "claims"),
)
"""The fields of a cluster that decoding depends on; claims where there are some, as earlier versions know none."""


@dataclass(frozen=True, slots=True)
class DecodingEpoch:
    """One epoch of a cluster, with its keys instead of its secret. `activated_at` is in unix seconds, 0 before."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    slot: Annotated[int, Field(ge=0, le=3)]
    state: EpochState
    encryption_key: HexKey = field(repr=False)
    tag_key: HexKey = field(repr=False)
    activated_at: int = 0


@dataclass(frozen=True, slots=True)
class DecodingKeys:
    """What decodes the addresses of one cluster: its form, the codes of the tiers, and its epochs (IPv4: none)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    cluster: Mapping[str, Any]
    tiers: Mapping[Name, int]
    epochs: tuple[DecodingEpoch, ...] = ()
    version: Literal[1] = VERSION


_ADAPTER: TypeAdapter[DecodingKeys] = TypeAdapter(DecodingKeys)


def make(snapshot: Snapshot, cluster: Cluster | ClassCluster) -> DecodingKeys:
    """The decoding keys of a cluster under a snapshot."""
    shown = dump(cluster)
    tiers = {tier.name: tier.code for tier in snapshot.site.tiers.values()}
    keyring = snapshot.keyrings.get(cluster.name)
    epochs = tuple(_epoch(epoch, keyring) for epoch in keyring.epochs) if keyring else ()
    return DecodingKeys(
        {name: shown[name] for name in CARRIED if name in shown and (shown[name] or name != "claims")}, tiers, epochs
    )


def _epoch(epoch: Epoch, keyring: Keyring) -> DecodingEpoch:
    keys = epoch_keys(epoch.secret, keyring.layout)
    return DecodingEpoch(epoch.slot, epoch.state, keys.encryption, keys.tag, epoch.activated_at)


def to_json(keys: DecodingKeys) -> JsonObject:
    """The document as JSON-ready data, a secret as a whole."""
    document: JsonObject = _ADAPTER.dump_python(keys, mode="json")
    return document


def read(text: str | bytes, source: str) -> DecodingKeys:
    """The decoding keys in a JSON document; raises ConfigError with every problem, under `source`, and shows no key."""
    try:
        data = json.loads(text)
    except ValueError:
        raise ConfigError(f"{source}: is not a document of decoding keys: not JSON") from None
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ConfigError(f"{source}: is not a document of decoding keys that this dnsvip reads (version {VERSION})")
    try:
        keys = _ADAPTER.validate_python(data)
        snapshot_of([keys])
    except ValidationError as error:
        problems = [problem_of("", DecodingKeys, {**item, "input": None}) for item in error.errors()]
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems)) from None
    except (InvalidSite, CodecError) as error:
        raise ConfigError(f"{source}: {error}") from None
    return keys


def snapshot_of(documents: Iterable[DecodingKeys]) -> Snapshot:
    """The snapshot that a verifier decodes with: clusters, tiers and keys, without clients, pools and zones.

    Raises InvalidSite or CodecError where a document's cluster or epochs make no sense.
    """
    clusters: dict[str, Cluster | ClassCluster] = {}
    tiers: dict[str, Tier] = {}
    keyrings: dict[str, Keyring] = {}
    for keys in documents:
        cluster = _cluster(keys)
        clusters[cluster.name] = cluster
        tiers.update({name: Tier(name, code) for name, code in keys.tiers.items()})
        if isinstance(cluster, Cluster):
            keyrings[cluster.name] = _keyring(cluster, keys.epochs)
    return Snapshot(0, Site(clusters, tiers), keyrings)


def _cluster(keys: DecodingKeys) -> Cluster | ClassCluster:
    cluster: SiteObject = parse("cluster", str(keys.cluster.get("name", "")), keys.cluster)
    assert isinstance(cluster, Cluster | ClassCluster)  # noqa: S101 - the kind has these two
    return cluster


def _keyring(cluster: Cluster, epochs: Iterable[DecodingEpoch]) -> Keyring:
    """A keyring of epochs whose secrets are not known here."""
    held = list(epochs)
    keys = {epoch.slot: EpochKeys(epoch.encryption_key, epoch.tag_key) for epoch in held}
    known = (Epoch(epoch.slot, epoch.state, b"", activated_at=epoch.activated_at) for epoch in held)
    return Keyring(cluster.address_layout, known, keys)
