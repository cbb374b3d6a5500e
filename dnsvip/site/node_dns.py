"""The table `[dns]` of the node file: each setting declared once, with what people read about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site import STRICT, Network
from dnsvip.site.declare import About
from dnsvip.site.node_listen import Listener as Listener  # noqa: PLC0414 - others take it from here
from dnsvip.site.node_listen import ListenerTls

ShortText = Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,255}$")]
"""Printable ASCII, as much as one string of a TXT record holds."""


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """`[dns.tcp]`, for each worker: limits on connections in total and per source (an IPv4 address, an IPv6 /64;
    twice as many per /56, four times per IPv4 /24 or IPv6 /48), and the seconds without a complete query after which a
    connection is closed. Where the total is reached, one of the network (/24, /48) with most makes room, that idle
    longest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    connections: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        About(
            "Connections", "Maximum connections per worker; beyond, one of the network (/24, /48) with most makes room."
        ),
    ] = 1000
    per_source: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        About(
            "Per source",
            "Maximum connections per source (an IPv4 address, an IPv6 /64; an IPv6 /56 has twice, an IPv4 /24 or an "
            "IPv6 /48 four times as many).",
        ),
    ] = 64
    idle_seconds: Annotated[
        float,
        Field(ge=0.1, le=3600, allow_inf_nan=False),
        About("Idle time", "Close a connection after this long without a complete query.", unit="s"),
    ] = 10.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`[dns] rate_limit`, for each worker: identical responses per second to one prefix (/24, /56) over UDP; of those
    beyond, every `slip`-th is sent truncated, so that the client retries over TCP (0: none)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    responses_per_second: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        About("Responses", "Identical UDP answers per second to one prefix (/24, /56), per worker."),
    ]
    slip: Annotated[
        int,
        Field(ge=0, le=100),
        About("Slip", "Every n-th answer beyond that is truncated, so that requesters retry over TCP; 0: none."),
    ] = 2


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """`[dns.updates]`, for each worker: dynamic updates (RFC 2136) of one key per second, and of all that wait."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    per_second: Annotated[
        float,
        Field(ge=0.01, le=10_000, allow_inf_nan=False),
        About("Rate", "Dynamic updates of one key per second, ten times as many at once, per worker.", unit="1/s"),
    ] = 10.0
    waiting: Annotated[
        int,
        Field(ge=1, le=10_000),
        About(
            "Waiting",
            "Updates that wait to be written, per worker, a quarter of one key; more get SERVFAIL, but for keys with "
            "less than their part.",
        ),
    ] = 256


FixedTimeAes = Annotated[
    bool,
    About(
        "Fixed-time AES",
        "Without AES in hardware: leave it to the kernel instead of using tables, which are faster and whose "
        "timing other programs on the same CPU may observe.",
    ),
]


@dataclass(frozen=True, slots=True)
class XdpSettings:
    """`[dns] xdp`: frequent questions over UDP are answered by a program on `interface` before they reach the server,
    with the answers that the server gives."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    interface: Annotated[str, About("Interface", "Interface that questions come in by, such as `eth0`.")]
    generic: Annotated[bool, About("Generic", "Attach in generic mode, for drivers without native XDP; slower.")] = (
        False
    )
    keep: Annotated[
        bool,
        About(
            "Keep",
            "Leave the program when the server stops: it answers what it knows for 20 s, until the server is back.",
        ),
    ] = False
    fixed_time_aes: FixedTimeAes = False
    requesters: Annotated[
        int,
        Field(ge=1024, le=16_777_216),
        About("Requesters", "Requesters that the program knows, of each cluster that they ask for, at 264 bytes each."),
    ] = 262_144
    prefixes: Annotated[
        int,
        Field(ge=0, le=16_777_216),
        About(
            "Prefixes",
            "Prefixes of clients that the program identifies requesters by, at 64 bytes each; 0: by none, so that the "
            "server answers who has not asked before.",
        ),
    ] = 262_144
    templates: Annotated[
        int,
        Field(ge=1024, le=1_048_576),
        About(
            "Templates",
            "Names and types that the program answers, at 1,008 bytes each; a quarter for names not in a zone.",
        ),
    ] = 16_384
    pins: Annotated[
        Path, About("Pins", "Folder in a BPF file system, which keeps the program while the server starts again.")
    ] = Path("/sys/fs/bpf/dnsvip")


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """`[dns]`: listeners and processes, and what the server says about itself; by default nothing.

    `identity` answers CHAOS TXT hostname.bind and id.server, `version` (true: the program's own) version.bind and
    version.server (RFC 4892), `nsid` the EDNS option of RFC 5001. With `require_cookies` a UDP query whose cookie is
    none of ours gets BADCOOKIE and a good one (RFC 7873); queries without any cookie are answered. Front ends in
    `proxy_from` give the requester's address in a PROXY header, version 2, before each datagram and at the start of
    each stream.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    listen: Annotated[tuple[Listener, ...], About("Listeners", "Addresses that the DNS server answers on.")] = (
        Listener("127.0.0.1:5353"),
        Listener("[::1]:5353"),
    )
    tls: Annotated[ListenerTls | None, About("TLS", "Certificate of the encrypted listeners.")] = None
    workers: Annotated[
        int, Field(ge=1, le=256), About("Workers", "DNS processes that share the ports; one per core.")
    ] = 1
    identity: Annotated[
        ShortText | None,
        About("Identity", "Answer to CHAOS TXT id.server and hostname.bind (RFC 4892); by default none."),
    ] = None
    version: Annotated[
        bool | ShortText,
        About("Version", "Answer to version.server and version.bind (RFC 4892); true: the program's version."),
    ] = False
    nsid: Annotated[ShortText | None, About("NSID", "EDNS option NSID (RFC 5001); by default none.")] = None
    require_cookies: Annotated[
        bool,
        About("Require cookies", "Answer UDP queries whose cookie has no valid server part with BADCOOKIE (RFC 7873)."),
    ] = False
    rate_limit: Annotated[RateLimit | None, About("Rate limit", "Limits on identical responses.")] = None
    tcp: Annotated[TcpSettings, About("TCP", "Limits on connections.")] = field(default_factory=TcpSettings)
    updates: Annotated[UpdateSettings, About("Updates", "Limits on dynamic updates.")] = field(
        default_factory=UpdateSettings
    )
    proxy_from: Annotated[
        tuple[Network, ...],
        About("PROXY from", "Front ends whose PROXY header, version 2, gives the requester's address."),
    ] = ()
    xdp: Annotated[
        XdpSettings | None,
        About("XDP", "Answer frequent questions in the kernel, as the server does."),
    ] = None

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The listeners, each encrypted one with its certificate."""
        return tuple(
            replace(listener, tls=listener.tls or self.tls) if listener.scheme else listener for listener in self.listen
        )
