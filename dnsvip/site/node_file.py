"""The node file: what only one node needs, from parsed TOML tables to checked settings.

One class for each table, here and in `node_dns`, `node_admin` and `node_log`. Each setting is declared once, and
deploy/node.md is made of the declarations. `dnsvip.site.io.files` reads the file itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.errors import ConfigError, InvalidSite, Problem
from dnsvip.site import STRICT, Endpoint, Name, Network
from dnsvip.site.declare import About
from dnsvip.site.node_admin import UNIX, AdminSettings, TlsFiles
from dnsvip.site.node_dns import DnsSettings, FixedTimeAes
from dnsvip.site.node_listen import listener_problems
from dnsvip.site.node_log import DnstapSettings, LogSettings, SampleSettings
from dnsvip.site.plain import problem_of


def _paths(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


@dataclass(frozen=True, slots=True)
class GeoSettings:
    """`[geo]`: MaxMind DB files, one or several, such as one of countries and one of AS numbers."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    database: Annotated[
        tuple[Path, ...],
        BeforeValidator(_paths),
        About("Databases", "MaxMind DB files, for clients with `match = [{ geo = ... }]`; reloaded when they change."),
    ] = ()


MOST_DISPATCHERS = 17
"""Of one cluster: as many as the kernel program knows beside itself, and itself."""


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
    BPF file system. `fixed_time_aes` matters where the kernel has no AES in hardware (xdp/ciphers.py).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    mode: Annotated[
        Literal["user", "xdp"],
        About("Mode", "Where packets are taken: `user` from a TUN device, `xdp` in the kernel; same verdicts."),
    ] = "user"
    interface: Annotated[
        str | None,
        About("Interface", "Interface of the clients' packets; required for `xdp`, otherwise used for its MTU."),
    ] = None
    flows: Annotated[int, Field(ge=1024, le=64_000_000), About("Flows", "Capacity of the flow table.")] = 1_000_000
    buckets: Annotated[
        int,
        Field(ge=1024, le=16_777_216),
        About(
            "Buckets",
            "Clients, and as many sources, whose limits are kept apart at a time; the others share their tier's.",
        ),
    ] = 65_536
    encap_source: Annotated[
        IPv6Network,
        AfterValidator(_checked_half),
        About("Encap source", 'The /64 of the outer source address under `forward = "encap"`.'),
    ] = IPv6Network("100::/64")

    address: Annotated[
        IPv6Address | None,
        About("Address", "IPv6 address of this host at which the other dispatchers of `peers` reach it."),
    ] = None
    peers: Annotated[
        tuple[IPv6Address, ...],
        Field(max_length=MOST_DISPATCHERS),
        About(
            "Dispatchers",
            "The `address` of every dispatcher of the same clusters, the same list on each: they share single uses "
            "and translations under nat.",
        ),
    ] = ()

    generic: Annotated[bool, About("Generic", "Attach in generic mode, for drivers without native XDP; slower.")] = (
        False
    )
    fixed_time_aes: FixedTimeAes = False
    pins: Annotated[
        Path, About("Pins", "Folder in a BPF file system, which keeps the program while no process runs.")
    ] = Path("/sys/fs/bpf/dnsvip")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`[metrics]`: where /metrics, /healthz and /readyz are served without a token, by `serve` on `listen` and by
    `dispatch` on `dispatch_listen`; `allow` lists who may scrape. A process without contact to its database for
    `stale_seconds` (0: no limit) is no longer ready."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    listen: Annotated[
        Endpoint | None,
        About(
            "Listen",
            "Address of /metrics, /healthz, /readyz of `serve`, without a token; by default only with the API.",
        ),
    ] = None
    dispatch_listen: Annotated[Endpoint | None, About("Dispatcher", "The same for `dispatch`, which has no API.")] = (
        None
    )
    allow: Annotated[tuple[Network, ...], About("Allow", "Networks that may read /metrics there.")] = (
        ip_network("127.0.0.0/8"),
        ip_network("::1/128"),
    )
    stale_seconds: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False),
        About(
            "Stale", "A process whose database has been silent for longer is not ready; 0: it stays ready.", unit="s"
        ),
    ] = 3600.0


SHORTEST = {4: 8, 6: 16}
"""Lengths of prefixes that may be announced: a route to half of the Internet would take this host's own packets."""


def _checked_prefix(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if network.prefixlen < SHORTEST[network.version]:
        raise ValueError(f"must be a prefix of /{SHORTEST[network.version]} or longer")
    return network


GRACE_SECONDS = 5.0
"""How long a node that announces routes works on after it has withdrawn them: routers take a second or two."""


@dataclass(frozen=True, slots=True)
class AnnounceSettings:
    """`[announce]`: routes with protocol number 86 in the kernel's main table, which BIRD, FRR or ExaBGP pass on
    (deploy/bgp/README.md): of `clusters` (by default all) while `dispatch` is ready for them, of `prefixes` while
    `serve` is ready. A prefix that was withdrawn comes back when the node has been ready for `hold_seconds`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    clusters: Annotated[
        tuple[Name, ...] | None,
        About("Clusters", "Clusters whose prefixes `dispatch` announces; by default all of the site."),
    ] = None
    prefixes: Annotated[
        tuple[Annotated[Network, AfterValidator(_checked_prefix)], ...],
        Field(max_length=64),
        About("Prefixes", "Prefixes with anycast addresses of this host, which `serve` announces while it answers."),
    ] = ()
    hold_seconds: Annotated[
        float,
        Field(ge=0, le=3600, allow_inf_nan=False),
        About(
            "Hold",
            "Time for which a node must have been ready again before it announces a withdrawn prefix; more than "
            "interval and timeout of the servers' checks together.",
            unit="s",
        ),
    ] = 5.0


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of one node. Paths are relative to the file; what nodes share is in the database.

    `key_command`, program and arguments, prints the key-encryption key in place of `key_file`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    database: Annotated[
        str,
        About(
            "Database",
            "URL `sqlite:///FILE`, or `postgresql://USER@HOST/NAME` as libpq takes it (dnsvip/store/README.md).",
        ),
    ]
    key_file: Annotated[
        Path,
        About(
            "Key file",
            "File of the key-encryption key, mode 0600, created if missing; the variable `DNSVIP_KEY` precedes it.",
        ),
    ] = Path("dnsvip.key")
    state_dir: Annotated[
        Path,
        About(
            "State folder",
            "Folder of the last good snapshot, the dispatcher's control socket, and its record of used addresses.",
        ),
    ] = Path("state")
    node: Annotated[Name | None, About("Node", "Name of the node in the registry; by default the host name.")] = None
    dns: Annotated[DnsSettings, About("DNS", "The DNS server.")] = field(default_factory=DnsSettings)
    admin: Annotated[AdminSettings | None, About("API", "HTTP API and console.")] = None
    dispatch: Annotated[DispatchSettings | None, About("Dispatcher", "How packets are received.")] = None
    geo: Annotated[GeoSettings, About("Geography", "Where addresses are.")] = field(default_factory=GeoSettings)
    log: Annotated[LogSettings, About("Log", "The process log, and samples of queries and flows.")] = field(
        default_factory=LogSettings
    )
    metrics: Annotated[MetricsSettings, About("Metrics", "Metrics and health without a token.")] = field(
        default_factory=MetricsSettings
    )
    key_command: Annotated[
        tuple[str, ...],
        About("Key command", "Program and arguments that print the key-encryption key, instead of `key_file`."),
    ] = ()
    announce: Annotated[
        AnnounceSettings | None, About("Announcing", "Routes that say by health what this node should get.")
    ] = None
    grace_seconds: Annotated[
        Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None,
        About(
            "Grace",
            "Time for which a process works on after SIGTERM or draining, when it is no longer ready and its routes "
            "are leaving; by default 5 with `[announce]`, else 0.",
            unit="s",
        ),
    ] = None
    database_listen: Annotated[
        str | None,
        About(
            "Database for notices",
            "URL of PostgreSQL itself where `database` is a pooler of transactions, which passes no notices on.",
        ),
    ] = None

    @property
    def grace(self) -> float:
        """`grace_seconds`, or what it is by default."""
        if self.grace_seconds is not None:
            return self.grace_seconds
        return GRACE_SECONDS if self.announce else 0.0


def build_node(tables: Mapping[str, Any], path: Path) -> NodeConfig:
    """The settings in parsed TOML tables; paths are relative to the folder of `path`, the node file. Raises ConfigError
    with every problem."""
    try:
        config: NodeConfig = TypeAdapter(NodeConfig).validate_python(tables)
    except ValidationError as error:
        problems = [problem_of("", NodeConfig, item) for item in error.errors()]
        raise InvalidSite(problems, str(path)) from None
    if config.dispatch and config.dispatch.peers and config.dispatch.address not in config.dispatch.peers:
        what = "has to be one of dispatch.peers, the addresses of all dispatchers of the cluster"
        raise InvalidSite([Problem("dispatch.address", what)], str(path))
    if config.dispatch and config.dispatch.mode == "xdp" and not config.dispatch.interface:
        what = 'missing; mode = "xdp" needs the name of the interface that clients\' packets come from'
        raise InvalidSite([Problem("dispatch.interface", what)], str(path))
    if problems := list(listener_problems(config.dns.listen, config.dns.tls)):
        raise InvalidSite(problems, str(path))
    if problems := list(_xdp_problems(config)):
        raise InvalidSite(problems, str(path))
    folder = path.parent
    return replace(
        config,
        database=_absolute_database(config.database, folder, path),
        key_file=folder / config.key_file,
        state_dir=folder / config.state_dir,
        dns=_absolute_dns(config.dns, folder),
        admin=config.admin and _absolute_admin(config.admin, folder),
        geo=GeoSettings(tuple(folder / file for file in config.geo.database)),
        log=replace(
            config.log,
            queries=_beside(folder, config.log.queries),
            flows=_beside(folder, config.log.flows),
            dnstap=config.log.dnstap and _absolute_receiver(config.log.dnstap, folder),
        ),
    )


def _absolute_dns(dns: DnsSettings, folder: Path) -> DnsSettings:
    listen = tuple(replace(listener, tls=listener.tls and listener.tls.beside(folder)) for listener in dns.listen)
    return replace(dns, listen=listen, tls=dns.tls and dns.tls.beside(folder))


def _xdp_problems(config: NodeConfig) -> Iterator[Problem]:
    """How the program that answers in the kernel shares an interface with the dispatcher."""
    if config.dns.xdp is None:
        return
    dispatch = config.dispatch
    if dispatch and dispatch.mode == "xdp" and dispatch.interface == config.dns.xdp.interface:
        for name in ("pins", "generic"):
            if getattr(dispatch, name) != getattr(config.dns.xdp, name):
                what = f"differs from dispatch.{name}: on the interface of both it is the same"
                yield Problem(f"dns.xdp.{name}", what)


def _beside(folder: Path, samples: SampleSettings | None) -> SampleSettings | None:
    return replace(samples, file=folder / samples.file) if samples and samples.file else samples


def _absolute_receiver(dnstap: DnstapSettings, folder: Path) -> DnstapSettings:
    path = dnstap.receiver.removeprefix(UNIX)
    return dnstap if path == dnstap.receiver else replace(dnstap, receiver=f"{UNIX}{folder / path}")


def _absolute_admin(admin: AdminSettings, folder: Path) -> AdminSettings:
    path = admin.listen.removeprefix(UNIX)
    listen = f"{UNIX}{folder / path}" if path != admin.listen else admin.listen
    tls = admin.tls and TlsFiles(folder / admin.tls.certificate, folder / admin.tls.key)
    oidc = admin.oidc and replace(
        admin.oidc,
        client_secret_file=admin.oidc.client_secret_file and folder / admin.oidc.client_secret_file,
        ca=admin.oidc.ca and folder / admin.oidc.ca,
    )
    return replace(admin, listen=listen, tls=tls, oidc=oidc)


def _absolute_database(url: str, folder: Path, path: Path) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("sqlite", "postgresql"):
        right = 'must be "sqlite:///FILE" or "postgresql://USER@HOST/NAME"'
        raise ConfigError(f"{path}: database: {url.partition('@')[0].partition(':')[0]!r}: {right}")
    if scheme == "postgresql":
        return url
    return f"sqlite:///{folder / rest.removeprefix('/')}" if not rest.startswith("//") else url
