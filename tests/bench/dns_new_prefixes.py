"""CPU of a question with ECS of a prefix that nobody has asked for before, over a veth pair as in `dns_kernel`: dnsvip
in the kernel and on sockets, beside Knot's geoip module on sockets and in XDP. All have the same 10,000 prefixes; the
asked ones are in none of them, or each in one of 16 wider ones that all have besides.

    python -m tests.bench.dns_new_prefixes [NAME ...]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from tests.bench.asking import ROUNDS, SECONDS, Sender, ethernet, lay_cable
from tests.bench.dns_kernel import EACH, KNOT, OURS, Row, Subjects, ours, peer, row_of
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.io.xdp.kernel import packet
from tests.network.field import kernel_world
from tests.network.test_dns_xdp import FOUR, NODE, Pair

NAME = "w.example.test"
"""Short enough for a question with ECS in a frame of LEAST bytes."""
RATE, TURNS = 50_000, ROUNDS + 2.5
"""Questions a second, and how many turns there are frames for; some more, as none is to be sent twice."""
KNOWN, WIDE = 10_000, 16
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
    return EACH + "".join(
        f'[client.c{n}]\nid = {n + 100}\ntier = "fast"\nmatch = [{{ ecs = "{network}" }}]\n'
        for n, network in enumerate(networks())
    )


def geoip(config: str) -> tuple[str, str]:
    """Knot's configuration with its module, and the module's."""
    text = config.replace(SERVER, SERVER + "  edns-client-subnet: on\n", 1).replace("template:", GEOIP + "template:", 1)
    rows = [f"  - net: {network}\n    AAAA: 2001:db8:c:1::{n + 2:x}" for n, network in enumerate(networks())]
    return text.replace("    file: zone\n", MODULE, 1), f"{NAME}:\n" + "\n".join(rows) + "\n"


def frames(pair: Pair, first: IPv4Address) -> Iterator[bytes]:
    """Questions with a /24 each, one after the other; UDP checksums are none."""
    wire = question(NAME, 28, opt(b"\0\x08\0\x07\0\1\x18\0" + bytes(3)))
    like = ethernet(pair) + packet("192.0.2.7", FOUR, wire)
    like = like[:40] + b"\0\0" + like[42:-3]
    for number in range(int(first) >> 8, (int(first) >> 8) + int(RATE * SECONDS * TURNS)):
        yield like + number.to_bytes(3, "big")


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
    with tempfile.TemporaryDirectory() as folder, kernel_world() as world:
        pair = Pair(world, Path(folder))
        lay_cable(world, pair)
        pair.site += clients()
        pair.change(1)
        for name, subject in subjects(pair).items():
            if names and name not in names:
                continue
            with subject() as pid:
                different = {pair.dig(NAME, "AAAA", "+short", f"+subnet=10.0.{n}.0/24") for n in range(3)}
                assert len(different) == 3, (name, different)
                for kind, first in SPACES.items():
                    with Sender(pair.client, pair.folder / "heads", frames(pair, first), RATE) as sender:
                        sender.turn("eth0", pid)
                        yield row_of(pair, sender, pid, (name, kind, "each once"))


def main() -> None:
    """Print the table."""
    print(f"{RATE:,} questions a second", flush=True)
    for row in rows(sys.argv[1:]):
        print(row, flush=True)


if __name__ == "__main__":
    main()
