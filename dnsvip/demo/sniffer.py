"""Prints TCP packets as `tcpdump -nn -t | cut -d, -f1` does, where tcpdump itself cannot run.

Inside an unprivileged user namespace tcpdump ends at once: it wants to give up root rights by a call that is
forbidden there. Run as `python -m dnsvip.demo.sniffer INTERFACE|any PREFIX`. It sees IPv6 without extension headers.
"""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv6Address, IPv6Network

ETH_P_ALL = 3
SNAP_BYTES = 128
FLAGS = {0x01: "F", 0x02: "S", 0x04: "R", 0x08: "P", 0x10: ".", 0x20: "U"}
"""TCP flags in tcpdump's letters and order."""


def describe(packet: bytes, prefix: IPv6Network) -> str | None:
    """One line on a packet that begins with its IP header; None unless it is TCP from or to the prefix."""
    if len(packet) < 60 or packet[0] >> 4 != 6 or packet[6] != socket.IPPROTO_TCP:
        return None
    source, destination = IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    if source not in prefix and destination not in prefix:
        return None
    ports = int.from_bytes(packet[40:42], "big"), int.from_bytes(packet[42:44], "big")
    flags = "".join(letter for bit, letter in FLAGS.items() if packet[53] & bit)
    return f"IP6 {source}.{ports[0]} > {destination}.{ports[1]}: Flags [{flags}]"


def sniff(interface: str, prefix: IPv6Network) -> None:
    """Print packets until stopped."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as packets:
        if interface != "any":
            packets.bind((interface, ETH_P_ALL))
        print(f"listening on {interface}", flush=True)  # noqa: T201 - the output
        while True:
            packet, (name, _, kind, *_) = packets.recvfrom(SNAP_BYTES)
            if line := describe(packet, prefix):
                way = "Out" if kind == socket.PACKET_OUTGOING else "In "
                print(line if interface != "any" else f"{name} {way} {line}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sniff(sys.argv[1], IPv6Network(sys.argv[2]))
