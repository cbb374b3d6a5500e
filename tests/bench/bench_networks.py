"""Networks of clients at a dispatcher, by their number: memory, time to take them in force, and the cost of a look-up.

    python -m tests.bench.bench_networks [PREFIXES ...]        10 * 2 ** n each; as root, 25 minutes

Each number is measured in a process of its own, whose CPU seconds count (a machine may be busy), by the classes that
`dnsvip dispatch` uses: clients with up to 1,024 networks each, IPv4 and of one length (flat_server.py), and an IPv4
cluster that identifies sources. First packets come to its plain VIP from anywhere in the networks, and from outside
of them (`plain`), one per system call.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.network_maps import NetworkMaps
from dnsvip.dispatcher.io.xdp.pinned_program import network_room, room_for
from dnsvip.dispatcher.verify.networks import SourceNetworks
from dnsvip.site import Site
from tests.bench.flat_server import make_clients
from tests.bench.program import counting, spent
from tests.bench.questions import FIRST_NEW, SPACE
from tests.bench.report import table
from tests.dispatcher.build import CLUSTER4, NOW_NS, PLAIN4, SITE, segment, snapshot
from tests.dispatcher.io.xdp.kernel import Kernel, frame_of, loaded

SIZES = (10, 1_310_720, 10_485_760)
LOOK_UPS, PACKETS = 200_000, 20_000
STRANGER = 100 << 24
COLUMNS = {
    "prefixes": "{:,.0f}",
    "site MiB": "{:.0f}",
    "compile s": "{:.1f}",
    "compiled MiB": "{:.0f}",
    "look-up us": "{:.1f}",
    "map MiB": "{:.0f}",
    "map write s": "{:.1f}",
    "take over s": "{:.1f}",
    "change ms": "{:.0f}",
    "packet source-network ns": "{:.0f}",
    "packet plain ns": "{:.0f}",
    "peak MiB": "{:.0f}",
}
"""Figures, and how they are printed."""
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--one", type=int, help="measure one number in this process; a line of JSON for each figure")
    options = parser.parse_args()
    if options.one:
        for name, figure in measure(options.one):
            sys.stdout.write(f"{json.dumps([name, figure])}\n")
            sys.stdout.flush()
        return
    rows = []
    for prefixes in options.prefixes:
        command = [sys.executable, "-m", "tests.bench.bench_networks", "--one", str(prefixes)]
        done = subprocess.run(command, capture_output=True, check=True)
        figures = dict(json.loads(line) for line in done.stdout.splitlines())
        rows.append([form.format(figures[name]) for name, form in COLUMNS.items()])
    sys.stdout.write("\n".join(table(tuple(COLUMNS), rows)) + "\n")


def measure(prefixes: int, look_ups: int = LOOK_UPS, packets: int = PACKETS) -> Iterator[tuple[str, float]]:
    """The figures with so many networks, each with its name."""
    gc.disable()  # all of it is long-lived, as in the dispatcher, which freezes it
    start = resident()
    site = site_with(prefixes)
    with_site = resident()
    yield "prefixes", prefixes
    yield "site MiB", with_site - start
    seconds, tables = timed(lambda: DispatchTables(snapshot(site)))
    networks = tables.verifier.networks
    yield "compile s", seconds
    yield "compiled MiB", resident() - with_site
    yield "look-up us", looking_up(networks, look_ups)
    room = room_for(site, spare=1) | {"networks": network_room(site)}
    with loaded(**room) as kernel:
        first = NetworkMaps(kernel.maps["networks"], kernel.maps["network_lengths"])
        yield "map write s", timed(lambda: first.apply(networks))[0]
        yield "map MiB", kernel.maps["networks"].memory / 2**20
        yield "take over s", timed(lambda: kernel.writer.apply(tables))[0]
        yield from of_packets(kernel, packets)
        later = with_one_less(site)
        seconds, changed = timed(lambda: DispatchTables(snapshot(later), tables))
        yield "change ms", 1000 * (seconds + timed(lambda: kernel.writer.apply(changed))[0])
    yield "peak MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_packets(kernel: Kernel, packets: int) -> Iterator[tuple[str, float]]:
    """Nanoseconds of the program for first packets."""
    with counting():
        for reason, base in (("source-network", FIRST_NEW), ("plain", STRANGER)):
            sources = [base + random.randrange(SPACE) for _ in range(packets)]
            frames = [frame_of(segment(PLAIN4, source=source)) for source in sources]
            before = kernel.writer.counters.by_reason()
            yield f"packet {reason} ns", spent(kernel.program, partial(run_all, kernel, frames))
            assert kernel.writer.counters.by_reason()[reason] - before[reason] > 0.9 * packets


def with_one_less(site: Site) -> Site:
    """The site with one network less."""
    name, client = next(iter(site.clients.items()))
    return replace(site, clients={**site.clients, name: replace(client, match=client.match[:-1])})


def site_with(prefixes: int) -> Site:
    """The site in which clients have so many networks."""
    clients = {client.name: client for client in make_clients(prefixes)}
    return replace(SITE, clusters={"legacy": replace(CLUSTER4, identify_source=True)}, clients=clients)


def looking_up(networks: SourceNetworks, count: int) -> float:
    """Microseconds for a source among the networks."""
    sources = [FIRST_NEW + random.randrange(SPACE) for _ in range(count)]
    start = time.process_time()
    for source in sources:
        networks.client(source, 4)
    return (time.process_time() - start) / count * 1e6


def run_all(kernel: Kernel, frames: list[bytes]) -> None:
    """Each frame once, at one time."""
    for frame in frames:
        kernel.run(frame, NOW_NS)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds and result of a piece of work."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def resident() -> float:
    """MiB of memory of this process at present."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
