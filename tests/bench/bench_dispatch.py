"""Prints what a decision costs: `python -m tests.bench.bench_dispatch`. Microseconds a packet, median of five runs."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

from dnsvip.dispatcher.decide import decide
from dnsvip.dispatcher.flow import Flows
from dnsvip.dispatcher.rewrite import rewrite
from dnsvip.dispatcher.tables import Tables
from tests.dispatcher.build import NOW_NS, address, datagram, established, segment, snapshot

COUNT = 20_000


def main() -> None:
    """Measure and print."""
    tables = Tables(snapshot())
    for name, run in (
        ("established, decide", known(tables, tier="gold", send=False)),
        ("established, decide and mark", known(tables, tier="gold", send=True)),
        ("established, decide and translate (nat)", known(tables, tier="silver", send=True)),
        ("forged address", forged(tables)),
        ("new flow", new(tables)),
    ):
        print(f"{name:42}{1e6 * statistics.median(run() for _ in range(5)) / COUNT:8.2f} us")
    print(f"{'memory of an established flow':42}{memory(tables):8.0f} bytes")


def known(tables: Tables, tier: str, *, send: bool) -> Callable[[], float]:
    """Packets of 1,000 established flows in turn."""
    flows = Flows(100_000)
    packets = [established(tables, flows, tier, port) for port in range(1024, 2024)] * (COUNT // 1000)

    def run() -> float:
        start = time.perf_counter()
        for packet in packets:
            verdict = decide(packet, tables, flows, NOW_NS)
            if send:
                rewrite(packet, verdict)
        return time.perf_counter() - start

    return run


def forged(tables: Tables) -> Callable[[], float]:
    """Packets to addresses with a wrong tag."""
    good = address("gold")
    packets = [segment(good ^ (1 + n % 1000), port=n % 60_000) for n in range(COUNT)]
    return lambda: _decide_all(packets, tables, Flows(100_000))


def new(tables: Tables) -> Callable[[], float]:
    """SYNs of flows never seen, to one address."""
    packets = [segment(address("gold"), port=n) for n in range(COUNT)]
    return lambda: _decide_all(packets, tables, Flows(100_000))


def memory(tables: Tables) -> float:
    """Bytes of one of 50,000 established flows."""
    tracemalloc.start()
    flows = Flows(1_000_000)
    vip = address("gold")
    before = tracemalloc.get_traced_memory()[0]
    for n in range(50_000):
        for _ in range(2):
            decide(datagram(vip, port=n, source=n), tables, flows, NOW_NS)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / len(flows.established)


def _decide_all(packets: list[bytes], tables: Tables, flows: Flows) -> float:
    start = time.perf_counter()
    for packet in packets:
        decide(packet, tables, flows, NOW_NS)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
