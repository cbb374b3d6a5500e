"""The node file: what only one node needs, from parsed TOML tables to checked settings.

One class for each table; deploy/node.md lists every setting. `dnsvip.site.io.files` reads the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.errors import ConfigError, InvalidSite, Problem
from dnsvip.site import STRICT, Endpoint, Name, Network, parse_endpoint
from dnsvip.site.plain import problem_of


@dataclass(frozen=True, slots=True)
class Listener:
    """One address the DNS server answers on, UDP and TCP; `name` is what a client's `listener` match refers to."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    address: Endpoint
    name: Name = "default"


ShortText = Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,255}$")]
"""Printable ASCII, as much as one string of a TXT record holds."""


@dataclass(frozen=True, slots=True)
class TcpSettings:
    """`[dns.tcp]`, for each worker: limits on connections in total and per source (an IPv4 address, an IPv6 /64;
    twice as many per /56, four times per /48), and the seconds without a complete query after which a connection is
    closed. Where the total is reached, the connection idle longest makes room."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    per_source: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    idle_seconds: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] = 10.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`[dns] rate_limit`, for each worker: identical responses per second to one prefix (/24, /56) over UDP; of those
    beyond, every `slip`-th is sent truncated, so that the client retries over TCP (0: none)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    responses_per_second: Annotated[int, Field(ge=1, le=1_000_000)]
    slip: Annotated[int, Field(ge=0, le=100)] = 2


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
    listen: tuple[Listener, ...] = (Listener("127.0.0.1:5353"), Listener("[::1]:5353"))
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    identity: ShortText | None = None
    version: bool | ShortText = False
    nsid: ShortText | None = None
    require_cookies: bool = False
    rate_limit: RateLimit | None = None
    tcp: TcpSettings = field(default_factory=TcpSettings)
    proxy_from: tuple[Network, ...] = ()


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
    certificate: Path
    key: Path


Number: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes: TypeAlias = Annotated[int, Field(ge=1 << 10, le=1 << 40)]
Seconds: TypeAlias = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """`[admin.limits]`: what one peer, one token and all together may take of the node by way of the API.

    Expensive operations (checks of zones over a few kB, edits of zones, `apply`, imports, exports) run in processes,
    `processes` at a time and `per_token` for one token; `waiting` others wait, more are refused. Each ends when its
    caller goes away.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    connections: Number = 1024
    per_source: Number = 128
    head_seconds: Seconds = 10.0
    idle_seconds: Seconds = 75.0
    body_seconds: Seconds = 10.0
    body_rate: Number = 1 << 16
    write_seconds: Seconds = 30.0
    body_bytes: Bytes = 1 << 20
    zone_bytes: Bytes = 16 << 20
    apply_bytes: Bytes = 256 << 20
    import_bytes: Bytes = 2 << 30
    import_lines: Annotated[int, Field(ge=1, le=1 << 40)] = 10_000_000
    processes: Annotated[int, Field(ge=1, le=256)] = 2
    per_token: Annotated[int, Field(ge=1, le=256)] = 1
    waiting: Number = 64
    check_seconds: Seconds = 120.0
    transfer_seconds: Seconds = 3600.0
    process_bytes: Annotated[int, Field(ge=128 << 20, le=1 << 40)] = 2 << 30


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """`[admin]`: where the HTTP API listens, ADDRESS:PORT or unix:PATH, and its certificate; without one it is plain
    HTTP, which is safe on this machine only. Proxies in `proxy_from` append the address of their peer to the header
    `proxy_header`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    listen: Annotated[str, AfterValidator(_checked_admin_listen)] = "127.0.0.1:8053"
    tls: TlsFiles | None = None
    proxy_from: tuple[Network, ...] = ()
    proxy_header: Literal["X-Forwarded-For", "Forwarded"] = X_FORWARDED_FOR
    limits: AdminLimits = field(default_factory=AdminLimits)


def _paths(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


@dataclass(frozen=True, slots=True)
class GeoSettings:
    """`[geo]`: MaxMind DB files, one or several, such as one of countries and one of AS numbers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    database: Annotated[tuple[Path, ...], BeforeValidator(_paths)] = ()


def _checked_half(network: IPv6Network) -> IPv6Network:
    if network.prefixlen != 64 or network.is_multicast:
        raise ValueError("must be an IPv6 prefix of 64 bits, such as 100::/64")
    return network


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """`[dispatch]`: how packets are received. `flows` bounds the connection key table.

    Under forward = "encap" the outer source is an address of `encap_source`, whose low 64 bits are the flow's hash;
    the default is the discard prefix (RFC 6666).

    With `mode` xdp the kernel's program is attached to `interface`, which it takes the clients' packets from: by the
    driver, or with `generic` above a driver that cannot. What keeps it while no process runs is under `pins`, on a
    BPF file system. `fixed_time_aes` matters where the kernel has no AES in hardware (FIXED_TIME, map_writer.py).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mode: Literal["user", "xdp"] = "user"
    interface: str | None = None
    flows: Annotated[int, Field(ge=1024, le=64_000_000)] = 1_000_000
    encap_source: Annotated[IPv6Network, AfterValidator(_checked_half)] = IPv6Network("100::/64")

    generic: bool = False
    fixed_time_aes: bool = False
    pins: Path = Path("/sys/fs/bpf/dnsvip")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`[metrics]`: where /metrics, /healthz and /readyz are served without a token, by `serve` on `listen` and by
    `dispatch` on `dispatch_listen`; `allow` lists who may scrape. A process without contact to its database for
    `stale_seconds` (0: no limit) is no longer ready."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    listen: Endpoint | None = None
    dispatch_listen: Endpoint | None = None
    allow: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    stale_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600.0


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`[log.queries]` and `[log.flows]`: one query or new flow in `one_in` as a line of JSON, in `file` or else on
    standard output. Client addresses are truncated to `keep4` or `keep6` bits."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    one_in: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1000
    file: Path | None = None
    keep4: Annotated[int, Field(ge=0, le=32)] = 24
    keep6: Annotated[int, Field(ge=0, le=128)] = 48


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`[log]`: format and level of the process log, and samples of queries and flows; by default none."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    queries: SampleSettings | None = None
    flows: SampleSettings | None = None


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of one node. Paths are relative to the file; what nodes share is in the database.

    `key_command`, program and arguments, prints the key-encryption key in place of `key_file`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    database: str
    key_file: Path = Path("dnsvip.key")
    state_dir: Path = Path("state")
    node: Name | None = None
    dns: DnsSettings = field(default_factory=DnsSettings)
    admin: AdminSettings | None = None
    dispatch: DispatchSettings | None = None
    geo: GeoSettings = field(default_factory=GeoSettings)
    log: LogSettings = field(default_factory=LogSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    key_command: tuple[str, ...] = ()


def build_node(tables: Mapping[str, Any], path: Path) -> NodeConfig:
    """The settings in parsed TOML tables; paths are relative to the folder of `path`, the node file. Raises ConfigError
    with every problem."""
    try:
        config: NodeConfig = TypeAdapter(NodeConfig).validate_python(tables)
    except ValidationError as error:
        problems = [problem_of("", NodeConfig, item) for item in error.errors()]
        raise InvalidSite(problems, str(path)) from None
    if config.dispatch and config.dispatch.mode == "xdp" and not config.dispatch.interface:
        what = 'missing; mode = "xdp" needs the name of the interface that clients\' packets come from'
        raise InvalidSite([Problem("dispatch.interface", what)], str(path))
    folder = path.parent
    return replace(
        config,
        database=_absolute_database(config.database, folder, path),
        key_file=folder / config.key_file,
        state_dir=folder / config.state_dir,
        admin=config.admin and _absolute_admin(config.admin, folder),
        geo=GeoSettings(tuple(folder / each for each in config.geo.database)),
        log=replace(config.log, queries=_beside(folder, config.log.queries), flows=_beside(folder, config.log.flows)),
    )


def _beside(folder: Path, samples: SampleSettings | None) -> SampleSettings | None:
    return replace(samples, file=folder / samples.file) if samples and samples.file else samples


def _absolute_admin(admin: AdminSettings, folder: Path) -> AdminSettings:
    path = admin.listen.removeprefix(UNIX)
    listen = f"{UNIX}{folder / path}" if path != admin.listen else admin.listen
    tls = admin.tls and TlsFiles(folder / admin.tls.certificate, folder / admin.tls.key)
    return replace(admin, listen=listen, tls=tls)


def _absolute_database(url: str, folder: Path, path: Path) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("sqlite", "postgresql"):
        right = 'must be "sqlite:///FILE" or "postgresql://USER@HOST/NAME"'
        raise ConfigError(f"{path}: database: {url.partition('@')[0].partition(':')[0]!r}: {right}")
    if scheme == "postgresql":
        return url
    return f"sqlite:///{folder / rest.removeprefix('/')}" if not rest.startswith("//") else url
