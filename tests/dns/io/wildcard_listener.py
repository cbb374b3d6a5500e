"""Run alone in a network of its own: asks a wildcard listener at several addresses of this host."""

from __future__ import annotations

import socket
import subprocess

from dnsvip.site.node_dns import Listener
from tests.dns.io.test_transport import question
from tests.dns.world import Running, world_snapshot

ADDRESSES = ("192.0.2.5", "192.0.2.6", "2001:db8:5::5", "2001:db8:5::6")


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        length, options = (128, ["nodad"]) if ":" in address else (32, [])
        subprocess.run(["ip", "address", "add", f"{address}/{length}", "dev", "lo", *options], check=True)
    listen = (Listener("0.0.0.0:0", "four"), Listener("[::]:0", "six"))
    with Running(world_snapshot(), listen) as running:
        for address in ADDRESSES:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            port = running.endpoints[family == socket.AF_INET6].port
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.sendto(question(), (address, port))
                _, sender = sock.recvfrom(2000)
                assert sender[:2] == (address, port), f"asked {address}, answered by {sender[0]}"


if __name__ == "__main__":
    main()
