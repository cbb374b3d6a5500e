"""File descriptors, divided at the start: DNS over TCP keeps its connections whatever the API takes.

The soft limit is raised as far as the hard one lets it. Where that is too little, each gets less, DNS last, and the log
says what would be right.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass

import structlog

from dnsvip.errors import PlatformError
from dnsvip.site.node_dns import XdpSettings
from dnsvip.site.node_file import NodeConfig

OWN = 128
"""Descriptors of the process itself: listeners, database, files, pipes to other processes."""

METRICS = 64
"""Connections of the metrics listener."""

LEAST = 16
"""Connections that each listener has in any case."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shares:
    """Connections that a process may hold open: of DNS over TCP, of the API, of the metrics listener; and descriptors
    that the DNS program in the kernel takes."""

    dns: int
    api: int
    metrics: int
    kernel: int = 0

    @property
    def descriptors(self) -> int:
        """What they take, with what the process needs for itself."""
        return OWN + self.kernel + self.dns + self.api + self.metrics


def wanted(node: NodeConfig) -> Shares:
    """What the settings of a node ask for in the process of `serve`; DNS workers have limits of their own."""
    dns = node.dns.tcp.connections if node.dns.workers == 1 else 0
    api, metrics = node.admin.limits.connections if node.admin else 0, METRICS if node.metrics.listen else 0
    return Shares(dns, api, metrics, _in_kernel(node.dns.xdp) if node.dns.xdp else 0)


def _in_kernel(settings: XdpSettings) -> int:
    """The descriptors that the DNS program's maps take; workers inherit the limit. None where there is no program: the
    start then says why."""
    from dnsvip.dns.io.xdp.answers import descriptors  # noqa: PLC0415 - libbpf, for those who use it

    try:
        return descriptors(settings)
    except PlatformError:
        return 0


def divided(asked: Shares, descriptors: int) -> Shares:
    """What each gets of so many descriptors: all of it where that fits; else the API a quarter, DNS the rest."""
    if asked.descriptors <= descriptors:
        return asked
    rest = descriptors - OWN - asked.kernel
    metrics = min(asked.metrics, LEAST)
    api = min(asked.api, max(LEAST, rest // 4))
    return Shares(min(asked.dns, max(LEAST, rest - api - metrics)), api, metrics, asked.kernel)


def divide(node: NodeConfig) -> Shares:
    """Raise the limit of this process where that is needed and allowed, and divide it."""
    asked = wanted(node)
    shares = divided(asked, raised(asked.descriptors))
    if shares != asked:
        log.warning(
            "too few file descriptors for the connections that the node file allows",
            dns=shares.dns,
            api=shares.api,
            mend=f"LimitNOFILE={asked.descriptors} in the unit, or ulimit -n {asked.descriptors}",
        )
    return shares


def raised(descriptors: int) -> int:
    """The soft limit, raised to so many where the hard one allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return descriptors
    if soft < descriptors:
        most = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
        with suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
