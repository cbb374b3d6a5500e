"""What DNS serves: zones, services, TSIG keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict

from dnsvip.site.choices import TsigAlgorithm
from dnsvip.site.declare import About
from dnsvip.site.values import STRICT, Base64, DnsName, Name, Network


@dataclass(frozen=True, slots=True)
class Transfer:
    """Who may transfer a zone (AXFR): a secondary in one of `to` that signs with `tsig`; both, where both are given."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    to: Annotated[tuple[Network, ...], About("Networks", "Networks that secondaries transfer the zone from.")] = ()
    tsig: Annotated[
        DnsName | None, About("TSIG key", "Key that secondaries sign their requests with.", refers="tsig")
    ] = None


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone as the text of its zone file (RFC 1035 section 5)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[DnsName, About("Name", "Name of the zone's apex.", listed=1)]
    text: Annotated[str, About("Zone text", "The zone file (RFC 1035 section 5).", media="text/dns")] = field(
        repr=False
    )
    transfer: Annotated[
        Transfer | None, About("Transfer", "Who may transfer the whole zone (AXFR); without it nobody.")
    ] = None


@dataclass(frozen=True, slots=True)
class Service:
    """A name whose AAAA records, and A records and HTTPS hints, are synthesized per client."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[DnsName, About("Name", "Name of the service, inside one of the zones.", listed=1)]
    cluster: Annotated[
        Name,
        About("Cluster", "IPv6 cluster of the service's addresses.", listed=2, filtered=True, refers="cluster"),
    ]
    cluster4: Annotated[
        Name | None,
        About(
            "IPv4 cluster",
            "IPv4 cluster of the service's addresses; without it there is no A record.",
            listed=3,
            refers="cluster",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret of RFC 8945."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[DnsName, About("Name", "Name of the key, as both sides configure it.", listed=1)]
    secret: Annotated[Base64, About("Secret", "The shared secret in base64; it is never shown.", secret=True)] = field(
        repr=False
    )
    algorithm: Annotated[TsigAlgorithm, About("Algorithm", "MAC algorithm of the key.", listed=2, filtered=True)] = (
        TsigAlgorithm.SHA256
    )
