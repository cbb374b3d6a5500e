"""Packet capture: by tcpdump, or by our own sniffer where tcpdump cannot run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from dnsvip.demo.netns import Host


@dataclass
class Capture:
    """Captured packets, one per line; complete when the capture has ended."""

    lines: list[str] = field(default_factory=list)

    def sent_by(self, address: IPv6Address) -> list[str]:
        """The packets with this source: lines of the form `... IP6 ADDRESS.PORT > ...`."""
        return [line for line in self.lines if f"IP6 {address}." in line]


@dataclass(frozen=True, slots=True)
class Watch:
    """One capture: the command to start, its log file, and the shell line that prints its packets."""

    start: tuple[str, ...]
    log: str
    read: str


def watch_for(host: Host, interface: str, prefix: IPv6Network) -> Watch:
    """A capture of TCP packets from or to a prefix on an interface of a host ("any": all of them)."""
    file, log = f"{host.name}.pcap", f"{host.name}.packets"
    if host.prefix:  # in a user namespace: see sniffer
        return Watch((sys.executable, "-m", "dnsvip.demo.sniffer", interface, str(prefix)), log, f"cat {log}")
    options = ("-Z", "root", "-U", "--immediate-mode")
    start = ("tcpdump", *options, "-i", interface, "-w", file, f"tcp and net {prefix}")
    return Watch(start, log, f"tcpdump -nn -t -r {file} 2>/dev/null | cut -d, -f1")
