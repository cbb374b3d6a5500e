"""Where encoded addresses live: clusters of both families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from dnsvip.address.classes import ClassTable
from dnsvip.address.label import LabelFormat
from dnsvip.address.layout import Layout
from dnsvip.address.source import SourceFormat
from dnsvip.site.choices import Anonymous, NonceOf, OnExpired, OnInvalid
from dnsvip.site.claims import Claims, Label, LayoutField, Source
from dnsvip.site.declare import About
from dnsvip.site.routing import Select
from dnsvip.site.values import STRICT, Name, Seconds

Ttl = Annotated[int, Field(strict=True, ge=0, le=86_400), About("TTL", "TTL of answers.", unit="s", listed=4)]
DefaultTier = Annotated[
    Name,
    About(
        "Default tier",
        "Tier of the plain address and of clients that are not identified.",
        listed=5,
        heading="DEFAULT",
        filtered=True,
        refers="tier",
    ),
]
IdentifySource = Annotated[
    bool,
    About(
        "Identify sources",
        "A new flow to the plain address from a network (ecs and source) that identifies a client is that "
        "client's; so is one to an address that counts as unproven.",
    ),
]
MinServers = Annotated[
    int,
    Field(strict=True, ge=0, le=4096),
    About(
        "Min servers",
        "Healthy servers of its pools, counted once each, below which a dispatcher is not ready for the cluster and "
        "withdraws its route; with 0 it never does so for want of servers.",
        unit="servers",
    ),
]


@dataclass(frozen=True)
class Cluster:
    """An IPv6 cluster: its prefix, what its addresses carry, and how long they live.

    `address_layout`, `label_format` and `source_format` are derived and raise CodecError where numbers do not add up.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the cluster.", listed=1)]
    prefix: Annotated[IPv6Network, About("Prefix", "Network that the cluster's addresses are in.", listed=2)]
    plain: Annotated[IPv6Address, About("Plain address", "Address that every client may use.", listed=3)]
    layout: Annotated[
        tuple[LayoutField, ...],
        About(
            "Layout",
            "Fields of the encrypted part of an address and their widths. Prefix, 3 bits for mode and epoch, "
            "fields, claims and tag make 128 bits.",
            listed=6,
            heading="CARRIES",
            most=64,
        ),
    ]
    tag_bits: Annotated[
        int, About("Tag bits", "Width of the tag: a forged address passes once in 2^bits; use 16 or more.", unit="bits")
    ]
    default_tier: DefaultTier
    values: Annotated[
        Mapping[str, Mapping[str, int]],
        About("Attribute values", "For each attribute or claim, its words and their numbers, from 1.", most=256),
    ] = field(default_factory=dict)
    expiry_unit: Annotated[
        Seconds, About("Expiry unit", "Time that one step of the expiry field covers.", unit="s")
    ] = 900
    ttl: Ttl = 60
    renew: Annotated[
        Seconds | None,
        About("Renew", "Time a client keeps the same nonce and expiry; by default as long as the TTL.", unit="s"),
    ] = None
    nonce: Annotated[NonceOf, About("Nonce", "What has a nonce of its own: a time of renew, or each answer.")] = (
        NonceOf.SLOT
    )
    anonymous: Annotated[Anonymous, About("Anonymous clients", "Which address an unidentified client receives.")] = (
        Anonymous.PLAIN
    )
    on_invalid: Annotated[
        OnInvalid, About("Invalid addresses", "What happens to packets to a forged, expired or revoked address.")
    ] = OnInvalid.DROP
    on_expired: Annotated[
        OnExpired | None,
        About(
            "Expired addresses",
            "What happens to packets to an authentic address that has expired; by default as to other invalid ones.",
        ),
    ] = None
    slot_seconds: Annotated[
        int,
        Field(strict=True, ge=1, le=3600),
        About("Proof slot", "Length of the time slots that proofs are made for.", unit="s"),
    ] = 30
    session_lifetime: Annotated[
        Seconds,
        About(
            "Session lifetime",
            "Time that addresses of a retired key are still accepted, and running flows of expired ones after their "
            "dispatcher is lost.",
            unit="s",
        ),
    ] = 3600
    resume_rate: Annotated[
        int,
        Field(strict=True, ge=0, le=1_000_000_000),
        About(
            "Resume rate",
            "Running flows that each dispatcher takes over from others per second, five times as many at once. With 0 "
            "their packets are treated like those of new flows.",
            unit="1/s",
        ),
    ] = 20_000
    rotate_every: Annotated[
        Seconds | Literal["never"] | None,
        About(
            "Rotate every",
            "Time between two key epochs, always shorter than the layout's expiry field lasts; without a value that "
            'long, 30 days at most. With "never", or without value and field, keys rotate on request only.',
            unit="s",
        ),
    ] = None
    identify_source: IdentifySource = False
    select: Select = ()
    min_servers: MinServers = 1
    claims: Claims = ()
    label: Annotated[
        Label | None, About("Flow label", "Claims in the IPv6 flow label; without it labels are not looked at.")
    ] = None
    source: Annotated[
        Source | None,
        About("Source addresses", "What clients' own addresses say to the plain address; without it, nothing."),
    ] = None

    @property
    def address_layout(self) -> Layout:
        """The bits of this cluster's addresses."""
        return Layout(self.prefix, self.layout, self.tag_bits, self.claims)

    @property
    def label_format(self) -> LabelFormat | None:
        """The bits of flow labels to this cluster."""
        return LabelFormat(self.label.claims, self.label.mac_bits) if self.label else None

    @property
    def source_format(self) -> SourceFormat | None:
        """The bits of clients' own addresses that this cluster reads."""
        return SourceFormat(self.prefix, self.source.layout, self.source.tag_bits) if self.source else None

    @property
    def claimed(self) -> dict[str, int]:
        """What clients claim, in addresses and labels: names and widths."""
        return dict(self.claims) | dict(self.label.claims if self.label else ())

    @property
    def widths(self) -> dict[str, int]:
        """Every field that a flow may carry, of layout, claims, label and source addresses, and its greatest width."""
        widths = dict(self.layout) | self.claimed
        for name, bits in self.source.layout if self.source else ():
            widths[name] = max(bits, widths.get(name, 0))
        return widths

    @property
    def serves_expired(self) -> bool:
        """Whether an expired address opens flows in the default tier."""
        if self.on_expired is None:
            return self.on_invalid is OnInvalid.DEFAULT_TIER
        return self.on_expired is OnExpired.DEFAULT_TIER

    @property
    def renew_seconds(self) -> int:
        """How long a client keeps the same nonce and expiry; the TTL where the site does not say."""
        return self.renew or max(self.ttl, 1)


@dataclass(frozen=True)
class ClassCluster:
    """An IPv4 cluster: host numbers of its subnet represent tiers, without cryptography."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the cluster.", listed=1)]
    prefix: Annotated[IPv4Network, About("Prefix", "Network that the cluster's addresses are in.", listed=2)]
    plain: Annotated[IPv4Address, About("Plain address", "Address that every client may use.", listed=3)]
    classes: Annotated[
        Mapping[Name, tuple[int, ...]],
        About(
            "Classes",
            "For each tier, the host numbers of its addresses.",
            listed=6,
            heading="CARRIES",
            refers="tier",
            most=1024,
        ),
    ]
    default_tier: DefaultTier
    ttl: Ttl = 60
    identify_source: IdentifySource = False
    select: Select = ()
    min_servers: MinServers = 1

    @property
    def table(self) -> ClassTable:
        """The addresses by tier; raises CodecError for numbers that cannot be used."""
        return ClassTable(self.prefix, self.plain, self.classes)
