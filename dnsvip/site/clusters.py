"""Where encoded addresses live: clusters of both families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.address.classes import ClassTable
from dnsvip.address.layout import Layout
from dnsvip.site.choices import Anonymous, OnInvalid
from dnsvip.site.values import STRICT, Name, Seconds


@dataclass(frozen=True)
class Cluster:
    """An IPv6 cluster: where its prefix is, what its addresses carry, how they live.

    `layout` lists (field, bits); `values` gives an attribute's table, value -> number. `address_layout`
    is derived and raises CodecError where the numbers do not add up. A new key epoch is published every
    `rotate_every` seconds; without it only when an operator asks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    prefix: IPv6Network
    plain: IPv6Address
    layout: tuple[tuple[Name, Annotated[int, Field(strict=True, ge=1, le=64)]], ...]
    tag_bits: int
    default_tier: Name
    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    expiry_unit: Seconds = 900
    ttl: Annotated[int, Field(strict=True, ge=0, le=86_400)] = 60
    renew: Seconds | None = None
    anonymous: Anonymous = Anonymous.PLAIN
    on_invalid: OnInvalid = OnInvalid.DROP
    slot_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 30
    session_lifetime: Seconds = 3600
    rotate_every: Seconds | None = None

    @property
    def address_layout(self) -> Layout:
        """The bits of this cluster's addresses."""
        return Layout(self.prefix, self.layout, self.tag_bits)

    @property
    def renew_seconds(self) -> int:
        """How long a client keeps the same nonce and expiry; the TTL where the site does not say."""
        return self.renew or max(self.ttl, 1)


@dataclass(frozen=True)
class ClassCluster:
    """An IPv4 cluster: host numbers of its subnet stand for tiers, without cryptography."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    prefix: IPv4Network
    plain: IPv4Address
    classes: Mapping[Name, tuple[int, ...]]
    default_tier: Name
    ttl: Annotated[int, Field(strict=True, ge=0, le=86_400)] = 60

    @property
    def table(self) -> ClassTable:
        """The addresses by tier; raises CodecError for numbers that cannot be used."""
        return ClassTable(self.prefix, self.plain, self.classes)
