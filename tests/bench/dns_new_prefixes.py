"""CPU of a question with ECS of a prefix that nobody has asked for before, over a veth pair as in `dns_kernel`: dnsvip
in the kernel and on sockets, beside Knot's geoip module on sockets and in XDP. All have the same 10,000 prefixes; the
asked ones are in none of them, or each in one of 16 wider ones that all have besides.

    python -m tests.bench.dns_new_prefixes [NAME ...]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from itertools import count, islice
from pathlib import Path

from tests.bench.dns_kernel import KNOT, OURS, RATE, SECONDS, Asked, Row, Subjects, _mac, idles, ours, peer, row_of
from tests.bench.program import LEAST, counting
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.io.xdp.kernel import packet
from tests.network.field import kernel_world
from tests.network.test_dns_xdp import FOUR, NODE, Pair

NAME = "w.example.test"
"""Short enough for a question with ECS in a frame of LEAST bytes."""
KNOWN, WIDE, SPARE = 10_000, 16, 1.2
SITE = """
[cluster.each]
prefix = "2001:db8:c:1::/64"
plain = "2001:db8:c:1::1"
layout = [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]
tag_bits = 24
default_tier = "fast"
anonymous = "encoded"
[service."w.example.test"]
cluster = "each"
"""
GEOIP_SOCKETS = "knot geoip"
GEOIP = "mod-geoip:\n  - id: prefixes\n    config-file: $dir/prefixes\n    ttl: 60\n    mode: subnet\n"
SERVER, MODULE = "server:\n", "    file: zone\n    module: mod-geoip/prefixes\n"
SPACES = {"of nobody": IPv4Address("16.0.0.0"), "of clients": IPv4Address("64.0.0.0")}
"""Where the asked /24s are; from the second one on, /8s are of clients."""


def networks() -> Iterator[str]:
    """Those of clients."""
    for n in range(KNOWN):
        yield f"{IPv4Address('10.0.0.0') + 256 * n}/24"
    for n in range(WIDE):
        yield f"{SPACES['of clients'] + (n << 24)}/8"


def clients() -> str:
    """The site's clients, one for each network."""
    return SITE + "".join(
        f'[client.c{n}]\nid = {n + 100}\ntier = "fast"\nmatch = [{{ ecs = "{network}" }}]\n'
        for n, network in enumerate(networks())
    )


def geoip(config: str) -> tuple[str, str]:
    """Knot's configuration with its module, and the module's."""
    text = config.replace(SERVER, SERVER + "  edns-client-subnet: on\n", 1).replace("template:", GEOIP + "template:", 1)
    rows = [f"  - net: {network}\n    AAAA: 2001:db8:c:1::{n + 2:x}" for n, network in enumerate(networks())]
    return text.replace("    file: zone\n", MODULE, 1), f"{NAME}:\n" + "\n".join(rows) + "\n"


def new_prefixes(pair: Pair, first: IPv4Address) -> Asked:
    """Asks with a /24 that was in no question before, by frames of which nobody reads the answers."""
    macs = bytes.fromhex((_mac(pair.server) + _mac(pair.client)).replace(":", ""))
    addresses = (int(first) + 256 * n for n in count())
    file = pair.folder / "new.heads"
    words = ("--send", str(file), "--rate", str(RATE), "--seconds", str(SECONDS), "--interface", "eth0")

    def head(address: int) -> bytes:
        wire = question(NAME, 28, opt(b"\0\x08\0\x07\0\1\x18\0" + address.to_bytes(4, "big")[:3]))
        return macs + b"\x08\0" + packet("192.0.2.7", FOUR, wire)

    def received() -> int:
        return int(pair.client.run("cat", "/sys/class/net/eth0/statistics/rx_packets").stdout)

    def asked() -> tuple[int, int]:
        heads = b"".join(map(head, islice(addresses, int(RATE * SECONDS * SPARE))))
        assert len(heads) % LEAST == 0
        file.write_bytes(heads)
        before = received()
        said = pair.client.run(sys.executable, "-m", "tests.bench.floods", *words, timeout=60).stdout
        time.sleep(0.2)
        sent = round(json.loads(said.splitlines()[-1])["per_second"] * SECONDS)
        assert sent <= len(heads) // LEAST  # else some were asked for twice
        return sent, received() - before

    return asked


def subjects(pair: Pair) -> Subjects:
    """Each server as a context that gives its process."""
    config, prefixes = geoip(KNOT)
    words, more = ("knotd", "-c", "$dir/knot.conf"), {"prefixes": prefixes}
    sockets, xdp = config.replace("XDP\n", ""), config.replace("XDP\n", "xdp:\n  listen: eth0\n")
    plain = NODE.replace('xdp = { interface = "eth0", pins = "PINS" }\n', "")
    return {
        OURS: lambda: ours(pair, NODE),
        "dnsvip, sockets": lambda: ours(pair, plain),
        GEOIP_SOCKETS: lambda: peer(pair, "geoip", "knot.conf", sockets, *words, more=more),
        "knot geoip, xdp": lambda: peer(pair, "xgeoip", "knot.conf", xdp, *words, more=more),
    }


def rows(names: Sequence[str] = ()) -> Iterator[Row]:
    """Each server, or those named, with prefixes of each space."""
    with tempfile.TemporaryDirectory() as folder, kernel_world() as world, counting():
        pair = Pair(world, Path(folder))
        pair.site += clients()
        pair.change(1)
        pair.server.run("ethtool", "-K", "eth0", "gro", "on")  # else a veth without a program takes no frames
        pair.server.ip("neigh", "replace", "192.0.2.7", "dev", "eth0", "lladdr", _mac(pair.client))
        for name, subject in subjects(pair).items():
            if names and name not in names:
                continue
            with subject() as pid:
                different = {pair.dig(NAME, "AAAA", "+short", f"+subnet=10.0.{n}.0/24") for n in range(3)}
                assert len(different) == 3, (name, different)
                idle = min(idles(pid))
                for kind, first in SPACES.items():
                    asked = new_prefixes(pair, first)
                    asked()
                    yield row_of(pair, pid, asked, idle, (name, kind, "each once"))


def main() -> None:
    """Print the table."""
    for row in rows(sys.argv[1:]):
        print(row, flush=True)


if __name__ == "__main__":
    main()
