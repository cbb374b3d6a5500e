"""Run alone in a network of its own: tells the server of a path MTU that nobody has, then asks for long answers."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from ipaddress import ip_address

import dns.message

from dnsvip.dns.io.buffers import BATCH
from dnsvip.site.node_dns import Listener
from tests.dns.world import Running, world_snapshot

SERVER, CLIENT, FORGER = "192.0.2.1", "192.0.2.2", "192.0.2.66"
SERVER6, CLIENT6, FORGER6 = "2001:db8:5::1", "2001:db8:5::2", "2001:db8:5::66"
MTU = 600


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def serve() -> None:
    """Serve on one end of a veth pair, and run the client on the other, in a namespace found by its process."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    time.sleep(0.3)
    inside = ["nsenter", "--net", "--target", str(holder.pid)]
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(holder.pid))
    for prefix, end, addresses in (
        ([], "near", (SERVER, SERVER6)),
        (inside, "far", (CLIENT, CLIENT6, FORGER, FORGER6)),
    ):
        for address in addresses:
            length, options = ("64", ["nodad"]) if ":" in address else ("24", [])
            run(*prefix, "ip", "address", "add", f"{address}/{length}", "dev", end, *options)
        run(*prefix, "ip", "link", "set", end, "up")
    listen = (Listener(f"{SERVER}:5300", "four"), Listener(f"[{SERVER6}]:5300", "six"))
    with Running(world_snapshot(), listen) as server:
        done = subprocess.run([*inside, sys.executable, "-m", __spec__.name, "client"], check=False)
        pauses = [datagrams._singly for datagrams in server.server.listeners.datagrams]
    holder.kill()
    assert done.returncode == 0
    assert pauses == [0, 0], "UDP_SEGMENT was given up"


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def forge(port: int, six: bool) -> None:
    """An error for a datagram of the server to this client's port, as a router with a short link would send it."""
    udp = struct.pack("!HHHH", 5300, port, 1200, 0)
    if six:
        ends = ip_address(SERVER6).packed + ip_address(CLIENT6).packed
        quoted = struct.pack("!IHBB", 6 << 28, 1200, 17, 64) + ends + udp
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.bind((FORGER6, 0))
            sock.sendto(struct.pack("!BBHI", 2, 0, 0, 1280) + quoted + bytes(600), (SERVER6, 0))
        return
    ends = ip_address(SERVER).packed + ip_address(CLIENT).packed
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 1220, 1, 0x4000, 64, 17, 0) + ends + udp
    error = struct.pack("!BBHHH", 3, 4, 0, 0, MTU) + quoted
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.bind((FORGER, 0))
        sock.sendto(error[:2] + checksum(error).to_bytes(2, "big") + error[4:], (SERVER, 0))


def fragments() -> int:
    """IPv4 and IPv6 datagrams that had to be put together here."""
    v4 = [line.split() for line in open("/proc/net/snmp").read().splitlines() if line.startswith("Ip:")]  # noqa: SIM115
    v6 = dict(line.split() for line in open("/proc/net/snmp6").read().splitlines())  # noqa: SIM115
    return int(dict(zip(*v4, strict=True))["ReasmReqds"]) + int(v6["Ip6ReasmReqds"])


def client() -> None:
    wire = dns.message.make_query("big.example.test", "A", use_edns=0, payload=1232).to_wire()
    for server, own, family in ((SERVER, CLIENT, socket.AF_INET), (SERVER6, CLIENT6, socket.AF_INET6)):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.bind((own, 0))
            sock.settimeout(5)
            for _ in range(3):
                forge(sock.getsockname()[1], family == socket.AF_INET6)
                time.sleep(0.1)
                for _ in range(BATCH):
                    sock.sendto(wire, (server, 5300))
                for _ in range(BATCH):
                    assert len(sock.recv(4096)) > MTU
    assert fragments() == 0, f"{fragments()} fragments"


if __name__ == "__main__":
    client() if sys.argv[1:] == ["client"] else serve()
