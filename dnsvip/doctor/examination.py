"""The examination of a node: every probe, judged, in the order in which an operator would fix things."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnsvip.dispatcher.io.xdp.kernel_types import OBJECT
from dnsvip.doctor import data, host, network, probe_host, probe_network
from dnsvip.doctor.finding import Finding, failure, ok
from dnsvip.errors import PlatformError, SecretError, StoreError
from dnsvip.site import Cluster, Site
from dnsvip.site.node_dns import XdpSettings
from dnsvip.site.node_file import DispatchSettings, NodeConfig
from dnsvip.store import KeyEncryptionKey
from dnsvip.store.database.dsn import hidden
from dnsvip.store.database.tables import SCHEMA
from dnsvip.store.examine import Examined, examine
from dnsvip.store.secrets.sources import VARIABLE
from dnsvip.store.snapshots import lastgood
from dnsvip.xdp.libbpf import library
from dnsvip.xdp.objects import object_file
from dnsvip.xdp.platform import FUNCTIONS, check_capabilities, check_functions, check_kernel, check_pins


@dataclass(frozen=True, slots=True)
class Part:
    """What to examine: the node itself, or this machine as a backend server. `environ` may hold the key."""

    node: NodeConfig
    server: bool
    environ: Mapping[str, str]


async def examine_all(part: Part) -> AsyncIterator[Finding]:
    """Every finding about a node, as soon as there is one."""
    key, kek = _key(part.node, part.environ)
    database, examined = await _database(part.node, kek)
    for finding in data.judge_key_file(key, shared=bool(examined and examined.shared)):
        yield finding
    for finding in data.judge_database(database):
        yield finding
    now = time.time()
    if examined and examined.key_fits:
        for finding in (
            *data.judge_epochs(examined.rings, examined.nodes, now, examined.site.clusters if examined.site else {}),
            *data.judge_nodes(examined.site or Site(), examined.nodes, examined.generation, now, examined.drained),
            *data.judge_reports(examined.nodes, now),
            *data.judge_secondaries(examined.site or Site(), examined.refreshes, now),
            *data.judge_unreadable(examined.unreadable),
        ):
            yield finding
    site, snapshot_finding = await asyncio.to_thread(_last_good, part.node, kek, database)
    yield snapshot_finding
    site = examined.site if examined and examined.site else site
    for finding in _host(part, site, examined):
        yield finding
    if site is not None:
        async for finding in _network(part, site):
            yield finding


def _key(node: NodeConfig, environ: Mapping[str, str]) -> tuple[data.KeyFile, KeyEncryptionKey | None]:
    """The key; a missing file is not created."""
    path = node.key_file
    if not environ.get(VARIABLE) and not node.key_command and not path.exists():
        return data.KeyFile(str(path), missing=True), None
    try:
        kek = KeyEncryptionKey.of(node, environ)
    except SecretError as error:
        return data.KeyFile(str(path), error=str(error)), None
    return data.KeyFile(kek.source), kek


async def _database(node: NodeConfig, kek: KeyEncryptionKey | None) -> tuple[data.Database, Examined | None]:
    if await asyncio.to_thread(_is_missing, node.database):
        return data.Database(node.database, SCHEMA, missing=True), None
    try:
        examined = await examine(node.database, kek, node.database_listen)
    except StoreError as error:
        return data.Database(hidden(node.database), SCHEMA, error=str(error)), None
    database = data.Database(
        examined.label,
        SCHEMA,
        schema=examined.schema,
        usable=examined.usable,
        latency=examined.latency,
        standby=examined.standby,
        lacks=examined.lacks,
        key_fits=examined.key_fits,
    )
    return database, examined


def _is_missing(database: str) -> bool:
    """Whether it is an SQLite file that does not exist."""
    return database.startswith("sqlite:") and not Path(database.partition(":///")[2]).exists()


def _last_good(node: NodeConfig, kek: KeyEncryptionKey | None, database: data.Database) -> tuple[Site | None, Finding]:
    error: str | None = "the key is missing"
    site = None
    if kek is not None:
        try:
            site, error = lastgood.load(node.state_dir, kek).site, None
        except (StoreError, SecretError) as caught:
            error = str(caught)
    (finding,) = data.judge_snapshot(error, database_down=bool(database.error))
    return site, finding


def _host(part: Part, site: Site | None, examined: Examined | None) -> Iterator[Finding]:
    node = part.node
    clusters = list(site.clusters.values()) if site else []
    slots = [cluster.slot_seconds for cluster in clusters if isinstance(cluster, Cluster)]
    clock = host.Clock(probe_host.synchronised(), examined.skew if examined else None)
    yield from host.judge_clock(clock, min(slots, default=30))
    for folder in dict.fromkeys(_folders(node)):
        free, writable = probe_host.disk(folder)
        yield from host.judge_disk(str(folder), free, writable=writable)
    if not part.server:
        yield from host.judge_ports(probe_host.try_port(*listener) for listener in probe_host.listeners(node))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield from host.judge_files(soft, node.dns.tcp.connections)
        rmem = probe_host.sysctl("net.core.rmem_max")
        yield from host.judge_buffers(int(rmem) if rmem else None, privileged=os.geteuid() == 0)
        if node.dns.xdp is not None:
            yield from _in_kernel(node.dns.xdp)
    if node.dispatch is not None and not part.server:
        versions = {cluster.prefix.version for cluster in clusters}
        names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
        yield from host.judge_forwarding({name: probe_host.sysctl(name) for name in names}, versions)
        yield from _dispatcher(node.dispatch)


def _dispatcher(settings: DispatchSettings) -> Iterator[Finding]:
    mask = probe_host.capabilities()
    if settings.mode == "user":
        yield from host.judge_rights(mask, ["CAP_NET_ADMIN", "CAP_NET_RAW"], probe_host.tun_problem())
        return
    checks: Mapping[str, Callable[[], Any]] = {
        f"kernel {os.uname().release} is new enough": lambda: check_kernel(os.uname().release),
        "capabilities for XDP granted": lambda: check_capabilities(Path("/proc/self/status").read_text()),
        "the kernel has BTF and bpf_crypto": lambda: check_functions(FUNCTIONS),
        "the kernel program is compiled, and libbpf is installed": lambda: (object_file(OBJECT), library()),
        f"{settings.pins} is in a BPF file system": lambda: check_pins(settings.pins),
        f"interface {settings.interface} exists": lambda: _check_interface("dispatch", settings.interface or ""),
    }
    yield from _judged(checks, "see dnsvip/dispatcher/README.md")
    yield from host.judge_aes(hardware=probe_host.has_aes_hardware(), fixed_time=settings.fixed_time_aes)


def _in_kernel(settings: XdpSettings) -> Iterator[Finding]:
    """Whether the DNS server's program can be loaded and attached."""
    what, instead = "dns.xdp", "or remove xdp from [dns]"
    status = Path("/proc/self/status").read_text
    checks: Mapping[str, Callable[[], Any]] = {
        f"kernel {os.uname().release} is new enough for dns.xdp": lambda: check_kernel(
            os.uname().release, what, instead
        ),
        "capabilities for dns.xdp granted": lambda: check_capabilities(status(), what, instead),
        "the kernel program of DNS is compiled, and libbpf is installed": lambda: (object_file("dns"), library()),
        f"{settings.pins} is in a BPF file system": lambda: check_pins(settings.pins),
        f"interface {settings.interface} exists": lambda: _check_interface(what, settings.interface),
    }
    yield from _judged(checks, "see dnsvip/dns/io/xdp/README.md")
    yield from host.judge_aes(hardware=probe_host.has_aes_hardware(), fixed_time=settings.fixed_time_aes)


def _judged(checks: Mapping[str, Callable[[], Any]], advice: str) -> Iterator[Finding]:
    for what, check in checks.items():
        try:
            check()
            yield ok("xdp", what)
        except PlatformError as error:
            problem, _, mend = str(error).rpartition(": ")
            problem, mend = (problem, mend) if problem else (mend, advice)
            yield failure("xdp", problem, mend)


def _check_interface(where: str, name: str) -> None:
    try:
        socket.if_nametoindex(name)
    except OSError:
        there = ", ".join(interface for _, interface in socket.if_nameindex())
        raise PlatformError(f"{where}.interface: {name!r} does not exist: name one that does ({there})") from None


def _folders(node: NodeConfig) -> Iterator[Path]:
    yield node.state_dir
    if node.database.startswith("sqlite:"):
        yield Path(node.database.partition(":///")[2]).parent


async def _network(part: Part, site: Site) -> AsyncIterator[Finding]:
    for cluster in site.clusters.values():
        prefix, address = cluster.prefix, cluster.plain
        route = await asyncio.to_thread(probe_network.route_to, address, None if part.server else prefix)
        if part.server:
            for finding in network.judge_local(cluster.name, str(prefix), route):
                yield finding
        elif part.node.dispatch is not None:
            taken = part.node.dispatch.mode == "xdp"
            for finding in network.judge_prefix(cluster.name, str(prefix), route, taken=taken):
                yield finding
    if part.server:
        return
    if part.node.dispatch is not None:
        for finding in network.judge_servers(await probe_network.reach_all(site.pools.values())):
            yield finding
    own = [listener.endpoint[0] for listener in part.node.dns.listen]
    everywhere = bool(set(own) & {"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
    for zone in site.zones:
        for finding in network.judge_delegation(await probe_network.delegated(zone), own, everywhere=everywhere):
            yield finding
