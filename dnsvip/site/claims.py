"""What clients themselves say: claims in their addresses and flow labels, and in addresses of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.address.label import MAX_MAC_BITS, MIN_MAC_BITS
from dnsvip.address.layout import MAX_CLAIM_BITS, MAX_TAG_BITS, MIN_TAG_BITS
from dnsvip.site.declare import About
from dnsvip.site.values import STRICT, Name

LayoutField = tuple[
    Annotated[Name, About("Field", "Name of the field: tier, client, expiry, nonce, session or an attribute.")],
    Annotated[int, Field(strict=True, ge=1, le=64), About("Bits", "Width of the field.", unit="bits")],
]
Claim = tuple[
    Annotated[Name, About("Claim", "Name of the claim: session, priority or an attribute.")],
    Annotated[int, Field(strict=True, ge=1, le=MAX_CLAIM_BITS), About("Bits", "Width of the claim.", unit="bits")],
]
Claims = Annotated[
    tuple[Claim, ...],
    About(
        "Claims",
        "Fields that an enrolled client sets itself for each connection, proven with its key, and their widths: 24 "
        "bits at most in all, beside those of layout and tag. Names differ from those of the layout.",
        most=64,
    ),
]


@dataclass(frozen=True, slots=True)
class Label:
    """Claims in the flow label (20 bits) of the first packet of a flow, with the client's MAC."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    claims: Annotated[
        tuple[Claim, ...],
        Field(min_length=1),
        About(
            "Claims",
            "Fields that an enrolled client sets in the IPv6 flow label, and their widths. Fields and MAC make 20 "
            "bits; names differ from those of layout and claims.",
        ),
    ]
    mac_bits: Annotated[
        int,
        Field(strict=True, ge=MIN_MAC_BITS, le=MAX_MAC_BITS),
        About("MAC bits", "Width of the MAC: a label that is no claim passes for one once in 2^bits.", unit="bits"),
    ]


@dataclass(frozen=True, slots=True)
class Source:
    """Addresses of clients, in a /64 of their own, that say who they are to the plain address."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    layout: Annotated[
        tuple[LayoutField, ...],
        About(
            "Layout",
            "Fields of the encrypted part of a client's own address and their widths. 3 bits for mode and epoch, "
            "fields and tag make 64 bits.",
        ),
    ]
    tag_bits: Annotated[
        int,
        Field(strict=True, ge=MIN_TAG_BITS, le=MAX_TAG_BITS),
        About("Tag bits", "Width of the tag: a forged address passes once in 2^bits; use 16 or more.", unit="bits"),
    ]
