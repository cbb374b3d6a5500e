"""What DNS serves: zones, services, TSIG keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site.values import STRICT, Base64, DnsName, Name, Network


@dataclass(frozen=True, slots=True)
class Transfer:
    """Who may have a whole zone (AXFR): who asks from one of `to` and signs with the key `tsig`; both, where both
    are given."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    to: tuple[Network, ...] = ()
    tsig: DnsName | None = None


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone as the text of its zone file (RFC 1035 section 5). Without `transfer` nobody gets it whole."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    text: str = field(repr=False)
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A name whose AAAA (and A, and HTTPS/SVCB hints) are made per client."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    cluster: Name
    cluster4: Name | None = None


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret of RFC 8945; `secret` is base64 as in every other name server's config."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    secret: Base64 = field(repr=False)
    algorithm: Annotated[str, Field(pattern=r"^hmac-(sha1|sha224|sha256|sha384|sha512)$")] = "hmac-sha256"
