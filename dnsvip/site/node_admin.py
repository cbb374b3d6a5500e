"""The table `[admin]` of the node file: each setting declared once, with what people read about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field

from dnsvip.site import STRICT, Network, parse_endpoint
from dnsvip.site.declare import About
from dnsvip.site.node_oidc import OidcSettings

UNIX = "unix:"

X_FORWARDED_FOR: Literal["X-Forwarded-For"] = "X-Forwarded-For"
FORWARDED: Literal["Forwarded"] = "Forwarded"
"""Headers in which HTTP proxies say for whom they ask; the second is that of RFC 7239."""


def _checked_admin_listen(text: str) -> str:
    if text.startswith(UNIX):
        if len(text) == len(UNIX) or "\0" in text:
            raise ValueError("must be unix:PATH")
    else:
        parse_endpoint(text)
    return text


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate (with its chain) and its key, PEM files; read again when they change."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    certificate: Annotated[
        Path, About("Certificate", "PEM file with the API's certificate and chain; reloaded when renewed.")
    ]
    key: Annotated[Path, About("Key", "PEM file of its key.")]


NEAR: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32",
            "::/127", "fe80::/10", "fd00:ec2::/32", "::ffff:0:0/96",
        ),
    )
)  # fmt: skip
"""This machine, its links, and the services of clouds that tell a machine its own secrets."""

Number: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes: TypeAlias = Annotated[int, Field(ge=1 << 10, le=1 << 40)]
Seconds: TypeAlias = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """`[admin.limits]`: what one peer, one token and all together may take of the node by way of the API.

    Expensive operations (checks of zones over a few kB, edits of zones, `apply`, imports, exports) run in processes,
    `processes` at a time and `per_token` for one token; `waiting` others wait, a quarter of them of one token, and no
    longer than `turn_seconds` for their own token; more are refused, but for tokens with less than their part. Each
    ends when its caller goes away. Requests that use the database are bounded likewise, `database_requests` at a time
    and `database_per_token` of one token; the next is that of the token with the fewest.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    connections: Annotated[
        Number,
        About(
            "Connections",
            "Maximum connections, fewer where the process may open few descriptors; beyond, one of the network (/24, "
            "/48) with most makes room.",
        ),
    ] = 1024
    per_source: Annotated[
        Number, About("Per source", "Maximum connections of one source (an IPv4 address, an IPv6 /64).")
    ] = 128
    head_seconds: Annotated[Seconds, About("Head", "Time for a TLS handshake and a request's head.", unit="s")] = 10.0
    idle_seconds: Annotated[Seconds, About("Idle time", "Time between two requests of a connection.", unit="s")] = 75.0
    body_seconds: Annotated[
        Seconds, About("Body", "Time for a body, and as much longer as `body_rate` takes.", unit="s")
    ] = 10.0
    body_rate: Annotated[Number, About("Body rate", "Rate at which a large body may take longer.", unit="bytes/s")] = (
        1 << 16
    )
    write_seconds: Annotated[
        Seconds,
        About(
            "Write",
            "Close a connection whose peer reads its answer at less than an eighth of `body_rate` for this long.",
            unit="s",
        ),
    ] = 30.0
    body_bytes: Annotated[
        Bytes, About("Largest body", "Maximum body of a request that has no limit of its own.", unit="bytes")
    ] = 1 << 20
    zone_bytes: Annotated[
        Bytes, About("Largest zone", "Maximum body of a zone, and maximum text of one that is edited.", unit="bytes")
    ] = 16 << 20
    acme_names: Annotated[
        Number,
        About(
            "ACME names", "Maximum names `_acme-challenge` of a zone where a token that may set nothing else adds one."
        ),
    ] = 100
    apply_bytes: Annotated[Bytes, About("Largest site", "Maximum body of `apply`.", unit="bytes")] = 256 << 20
    import_bytes: Annotated[Bytes, About("Largest import", "Maximum body of an import.", unit="bytes")] = 2 << 30
    import_lines: Annotated[int, Field(ge=1, le=1 << 40), About("Longest import", "Maximum lines of an import.")] = (
        10_000_000
    )
    processes: Annotated[
        int,
        Field(ge=1, le=256),
        About("Processes", "Processes for expensive operations (zones, `apply`, imports, exports) at a time."),
    ] = 2
    per_token: Annotated[
        int, Field(ge=1, le=256), About("Per token", "Expensive operations of one token at a time; its others wait.")
    ] = 1
    turn_seconds: Annotated[
        Seconds,
        About(
            "Turn",
            "Time that an expensive operation, or a request for the database, waits for others of its token; then it "
            "gets 429.",
            unit="s",
        ),
    ] = 60.0
    database_requests: Annotated[
        int,
        Field(ge=1, le=1000),
        About(
            "Database",
            "Requests that use the database at a time, each by a connection; the node's own duties have others.",
        ),
    ] = 16
    database_per_token: Annotated[
        int, Field(ge=1, le=1000), About("Database per token", "Those of one token at a time; its others wait.")
    ] = 6
    waiting: Annotated[
        Number,
        About(
            "Waiting",
            "Expensive operations that wait; more are refused with 503, but for tokens with less than their part.",
        ),
    ] = 64
    check_seconds: Annotated[Seconds, About("Check", "Maximum time of a zone's check or edit.", unit="s")] = 120.0
    transfer_seconds: Annotated[
        Seconds, About("Transfer", "Maximum time of an `apply`, import or export.", unit="s")
    ] = 3600.0
    denied_targets: Annotated[
        tuple[Network, ...],
        About(
            "Denied targets",
            "Networks of servers that a token for some zones only may not name in `primaries`, `notify` and "
            "`parental_agents`, which the nodes then send to.",
        ),
    ] = NEAR
    process_bytes: Annotated[
        int,
        Field(ge=128 << 20, le=1 << 40),
        About("Process memory", "Address space of each such process.", unit="bytes"),
    ] = 2 << 30


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """`[admin.audit]`: how much of the audit stays. Of the nodes with an API each deletes the oldest rows once an hour;
    those of the last day stay in any case, and the newest thousand."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    keep_days: Annotated[
        int, Field(ge=1, le=36_500), About("Days", "Audit rows that are older are deleted.", unit="days")
    ] = 400
    keep_rows: Annotated[
        int,
        Field(ge=1000, le=1 << 40),
        About(
            "Rows",
            "Audit rows beyond so many are deleted: first the oldest of transfers, catalogs and DNS updates; "
            "of people's so many stay.",
        ),
    ] = 5_000_000


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """`[admin]`: where the HTTP API listens, ADDRESS:PORT or unix:PATH, and its certificate; without one it is plain
    HTTP, which is safe on this machine only. Proxies in `proxy_from` append the address of their peer to the header
    `proxy_header`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    listen: Annotated[
        str,
        AfterValidator(_checked_admin_listen),
        About(
            "Listen", "Address of HTTP API and console, ADDRESS:PORT or `unix:PATH`; without the table there are none."
        ),
    ] = "127.0.0.1:8053"
    tls: Annotated[
        TlsFiles | None,
        About("TLS", "Certificate of the API; without one it is plain HTTP, which is safe on this machine only."),
    ] = None
    proxy_from: Annotated[
        tuple[Network, ...],
        About("Proxies", "HTTP proxies in front of the API, which say for whom they ask; a Unix socket is 127.0.0.1."),
    ] = ()
    proxy_header: Annotated[
        Literal["X-Forwarded-For", "Forwarded"],
        About("Proxy header", "Header to which each appends the address of its peer; that of any other is ignored."),
    ] = X_FORWARDED_FOR
    limits: Annotated[
        AdminLimits, About("Limits", "What one peer, one token and all together may take of the node.")
    ] = field(default_factory=AdminLimits)
    audit: Annotated[AuditSettings, About("Audit", "How much of the audit stays.")] = field(
        default_factory=AuditSettings
    )
    oidc: Annotated[OidcSettings | None, About("OpenID Connect", "Users who sign in to the console.")] = None
