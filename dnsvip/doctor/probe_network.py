"""Probes the network: the kernel's routes, which servers answer, how the resolver sees our zones."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.doctor.network import Delegated, Reached, Route
from dnsvip.site import Pool, Server

CONNECT_SECONDS = 1.5
RESOLVE_SECONDS = 3.0
AT_ONCE = 64
"""Servers tried in parallel."""

_LOCAL, _UNICAST, _UNREACHABLE = 2, 1, frozenset({6, 7, 8})
"""Types of routes (rtnetlink(7)): blackhole, unreachable and prohibit lead nowhere."""


def route_to(address: IPv4Address | IPv6Address, prefix: IPv4Network | IPv6Network | None = None) -> Route:
    """The kernel's route to `address`; with `prefix`, whether an interface has all of it on its link."""
    with IPRoute() as kernel:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in kernel.get_links()}
        try:
            (route, *_) = kernel.route("get", dst=str(address))
        except NetlinkError as error:
            if error.code not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES):
                raise
            return Route("none")
        if route["type"] in _UNREACHABLE:
            return Route("none")
        device = names.get(route.get_attr("RTA_OIF"), "")
        linked = _linked(kernel, prefix) if prefix else None
        if linked is not None and route["type"] != _LOCAL:
            return Route("unicast", names.get(linked, ""), "", on_link=True)
        kind = "local" if route["type"] == _LOCAL else "unicast"
        return Route(kind, device, _gateway(route))


def _gateway(route: Any) -> str:
    via = route.get_attr("RTA_VIA")
    return route.get_attr("RTA_GATEWAY") or (via["addr"] if via else "") or ""


def _linked(kernel: Any, prefix: IPv4Network | IPv6Network) -> int | None:
    """The interface with an address whose network overlaps the prefix."""
    for address in kernel.get_addr():
        network = ip_network(f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}", strict=False)
        if network.version == prefix.version and network.prefixlen < network.max_prefixlen and network.overlaps(prefix):
            return int(address["index"])
    return None


async def reach_all(pools: Iterable[Pool]) -> list[Reached]:
    """Every server of the pools that is in service, probed as its pool's check does."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def reach(pool: Pool, server: Server) -> Reached:
        async with limit:
            route = await asyncio.to_thread(route_to, server.address)
            error = await _try(pool, server) if route.kind != "none" else None
            return Reached(pool.name, server.name, str(server.address), pool.forward.value, route, error)

    serving = ((pool, server) for pool in pools for server in pool.servers if not server.state.out)
    return list(await asyncio.gather(*(reach(*peer) for peer in serving)))


async def _try(pool: Pool, server: Server) -> str | None:
    """Connect to the port of the pool's check; None where it has none."""
    port = _port(pool)
    if port is None:
        return None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(str(server.address), port)
        writer.close()
    except TimeoutError:
        return f"port {port} does not answer within {CONNECT_SECONDS:g} s"
    except OSError as error:
        return f"port {port}: {error.strerror or error}"
    return ""


def _port(pool: Pool) -> int | None:
    check = pool.check
    if check is None:
        return None
    if check.http is None:
        return check.tcp or check.agent
    scheme, _, rest = check.http.partition("://")
    port = rest.partition("/")[0].rpartition("]")[2].rpartition(":")[2]
    return int(port) if port.isdigit() else {"http": 80, "https": 443}[scheme]


async def delegated(zone: str) -> Delegated:
    """A zone's name servers, from this machine's resolver."""
    try:
        resolver = dns.asyncresolver.Resolver()
        resolver.lifetime = RESOLVE_SECONDS
        answer = await resolver.resolve(f"{zone.rstrip('.')}.", "NS", raise_on_no_answer=False)
        names = sorted(str(record.target).rstrip(".") for record in answer.rrset or ())
        addresses: list[str] = []
        for name in names:
            for kind in ("AAAA", "A"):
                addresses_answer = await resolver.resolve(f"{name}.", kind, raise_on_no_answer=False)
                addresses += [str(ip_address(record.address)) for record in addresses_answer.rrset or ()]
    except dns.resolver.NXDOMAIN:
        return Delegated(zone)
    except (dns.exception.DNSException, OSError) as error:
        return Delegated(zone, error=f"this machine's resolver does not answer ({type(error).__name__})")
    return Delegated(zone, tuple(names), tuple(addresses))
