"""A translator of IPv6 source addresses (NAT66) on a TUN device, standard library only: run as a file in a host.

    nat66.py DEVICE UPLINK INSIDE OUTSIDE PREFIX

TCP that the host routes to PREFIX comes from OUTSIDE in place of INSIDE, and its answers go to INSIDE.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
IPV6_HDRINCL = 36
SOURCE, DESTINATION, CHECKSUM = 8, 24, 56


def replaced(packet: bytes, at: int, address: bytes) -> bytes:
    """The packet with another address, and the TCP checksum that goes with it (RFC 1624)."""
    old, words = packet[at : at + 16], struct.Struct("!8H")
    total = ~int.from_bytes(packet[CHECKSUM : CHECKSUM + 2], "big") & 0xFFFF
    total += sum(~word & 0xFFFF for word in words.unpack(old)) + sum(words.unpack(address))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet = packet[:at] + address + packet[at + 16 :]
    return packet[:CHECKSUM] + (~total & 0xFFFF).to_bytes(2, "big") + packet[CHECKSUM + 2 :]


def main(device: str, uplink: str, inside: str, outside: str, prefix: str) -> None:
    """Translate until killed."""
    inner, outer = (socket.inet_pton(socket.AF_INET6, address) for address in (inside, outside))
    with (
        open("/dev/net/tun", "r+b", buffering=0) as tun,
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as out,
    ):
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
        out.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, uplink.encode())
        for words in (
            f"link set {device} up",
            f"-6 route add {prefix} dev {device}",
            f"-6 route add {outside}/128 dev {device}",
            f"-6 neigh add proxy {outside} dev {uplink}",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        print("translating", flush=True)  # noqa: T201 - a script has no other output
        while True:
            packet = tun.read(65_536)
            if packet[6] != socket.IPPROTO_TCP:
                continue
            if packet[SOURCE : SOURCE + 16] == inner:
                packet = replaced(packet, SOURCE, outer)
                out.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[DESTINATION : DESTINATION + 16]), 0))
            elif packet[DESTINATION : DESTINATION + 16] == outer:
                tun.write(replaced(packet, DESTINATION, inner))


if __name__ == "__main__":
    main(*sys.argv[1:])
