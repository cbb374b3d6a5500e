"""`dnsvip announce`: tells ExaBGP, whose process it is, what to announce, by the routes of dnsvip.node.announcing.

It writes lines of ExaBGP's text API to standard output and reads its answers. It looks at the kernel's routes alone, so
it needs no right, no node file, no database and no token; the end of a dispatcher is a change of these routes too.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_network
from typing import IO

from pyroute2 import IPRoute

from dnsvip.dispatcher.io.user.netlink import ANNOUNCED, FAMILIES, MAIN_TABLE, PROTOCOL
from dnsvip.node.announced_routes import Prefix
from dnsvip.site.announcement import Standing

GRACEFUL_SHUTDOWN = "65535:0"
"""The community by which routers prefer any other way (RFC 8326)."""

LOOK_SECONDS = 1.0
"""How often the routes are read at least; changes are noticed at once."""

SETTLE_SECONDS = 0.01
"""Time for which changes are gathered: the routes of a device go one by one."""

_GROUPS = 0x1 | 0x40 | 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE: the kernel tells of a lost device, and of IPv4 nothing else."""


def announce(prefixes: Collection[Prefix]) -> None:
    """Announce and withdraw these prefixes until ExaBGP ends."""
    told: dict[Prefix, Standing | None] = dict.fromkeys(prefixes)
    with _changes() as changes, IPRoute(strict_check=True) as kernel:
        while True:
            now = {prefix: standing for prefix, standing in announced(kernel).items() if prefix in told}
            try:
                _tell(sys.stdout, lines(told, now))
            except BrokenPipeError:
                return
            told = {prefix: now.get(prefix, Standing.WITHDRAWN) for prefix in prefixes}
            ready, _, _ = select.select([changes, sys.stdin], [], [], LOOK_SECONDS)
            if sys.stdin in ready and not os.read(sys.stdin.fileno(), 1 << 16):
                return
            if changes in ready:
                select.select([], [], [], SETTLE_SECONDS)
                _drain(changes)


def lines(told: Mapping[Prefix, Standing | None], now: Mapping[Prefix, Standing]) -> Iterator[str]:
    """The commands that bring ExaBGP from what it was told (None: nobody knows) to what holds now."""
    for prefix, before in told.items():
        standing = now.get(prefix, Standing.WITHDRAWN)
        if standing is before:
            continue
        if standing is Standing.WITHDRAWN:
            yield f"withdraw route {prefix} next-hop self"
        else:
            community = f" community [{GRACEFUL_SHUTDOWN}]" if standing is Standing.LEAVING else ""
            yield f"announce route {prefix} next-hop self med {int(standing)}{community}"


def announced(kernel: IPRoute) -> dict[Prefix, Standing]:
    """The prefixes that the kernel has routes of, and the best standing of each."""
    found: dict[Prefix, Standing] = {}
    for family in FAMILIES.values():
        for route in kernel.get_routes(family=family, table=MAIN_TABLE, proto=PROTOCOL):
            metric = route.get_attr("RTA_PRIORITY")
            if route["proto"] == PROTOCOL and metric in ANNOUNCED:
                prefix = ip_network(f"{route.get_attr('RTA_DST')}/{route['dst_len']}")
                found[prefix] = min(Standing(metric), found.get(prefix, Standing.LEAVING))
    return found


def _changes() -> socket.socket:
    """A socket that is readable when routes or devices change."""
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    changes.bind((0, _GROUPS))
    return changes


def _drain(changes: socket.socket) -> None:
    """Read all that has come; what did not fit, and is lost, tells the same."""
    with suppress(OSError):
        while changes.recv(1 << 16):
            pass


def _tell(out: IO[str], commands: Iterator[str]) -> None:
    for command in commands:
        out.write(f"{command}\n")
    out.flush()
