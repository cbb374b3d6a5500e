"""Nanoseconds per packet of the DNS program in the kernel by outcome, in units of E, measured as `program` measures the
dispatcher: each packet "cold", in a call of its own. (A repeated one would be its own answer from the second time on.)

    python -m tests.bench.dns_program
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.site import Anonymous, Cluster, Forward
from dnsvip.site.node_dns import RateLimit
from dnsvip.xdp.chain import NEXT
from dnsvip.xdp.objects import Object
from dnsvip.xdp.structs import u32
from tests.bench.program import FLOWS, Frames, Runner, counting, known_segments, vips_of
from tests.dispatcher.build import snapshot as dispatched
from tests.dispatcher.build import with_pool
from tests.dispatcher.io.xdp.kernel import OUR_LINK
from tests.dispatcher.io.xdp.kernel import loaded as dispatching
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.io.xdp.kernel import HOSTS, Kernel, frame, loaded, packet
from tests.dns.world import world_snapshot
from tests.samples import NOW

ROUNDS, PACKETS = 9, 2000
GOALS = {"plain": 6.0, "ECS, made before": 9.0, "ECS, new in this slot": 45.0}
"""The limits in E."""
EXTRAS: Mapping[str, tuple[RateLimit | None, Sequence[int]]] = {
    "plain, rate limited": (RateLimit(1000), ()),
    "plain, one in 100 logged": (None, (100,)),
    "plain, all logged": (None, (1,)),
}
"""What costs more where the node file says so: the limit, and of how many answers a log gets one."""
RESOLVER = "192.0.2.1"
SECRETS, COOKIE = (bytes(range(16)),), b"\0\x0a\0\x08" + bytes(8)
NEVER_SEEN = "ECS, never seen"
SLOT = 100_000
"""Seconds to the next slot of every cluster."""


def snapshot_frames(count: int) -> Mapping[str, Frames]:
    """Frames by outcome: from as many sources, or with as many ECS prefixes, as there are."""
    to = HOSTS["public"][4]
    sources = [str(ip_address("203.0.113.0") + 256 * n) for n in range(count)]
    plain, made = question("mail.example.test", 1, opt()), question("www.example.test", 28, opt())
    prefixes = [_prefix(10, n) for n in range(count)]
    return {
        "plain": Frames(frame(packet(source, to, plain)) for source in sources),
        "plain, a cookie to be made": Frames(
            frame(packet(source, to, question("mail.example.test", 1, opt(COOKIE)))) for source in sources
        ),
        "per client, made before": Frames(frame(packet(source, to, made)) for source in sources),
        "ECS, made before": Frames(
            frame(packet(RESOLVER, to, question("www.example.test", 28, each))) for each in prefixes
        ),
        NEVER_SEEN: Frames(
            frame(packet(RESOLVER, to, question("www.example.test", 28, _prefix(11, n)))) for n in range(count)
        ),
        "unknown name": Frames(
            frame(packet(RESOLVER, to, question(f"{n:06}.example.test", 28, opt()))) for n in range(count)
        ),
        "not ours": Frames(frame(packet(source, to, plain, dport=5300)) for source in sources),
    }


def _prefix(first: int, number: int) -> bytes:
    """An OPT record with an IPv4 prefix of 24 bits."""
    return opt(b"\0\x08\0\x07\0\1\x18\0" + bytes((first, number >> 8, number & 255)))


def learn(kernel: Kernel, frames: Frames) -> None:
    """Have the program know all of these questions."""
    for _ in range(3):
        for at in range(0, frames.size * frames.count, frames.size):
            kernel.run(frames.held.raw[at : at + frames.size])
            if at % (64 * frames.size) == 0:
                kernel.learn()
        kernel.learn()


def measure(rounds: int = ROUNDS, packets: int = PACKETS) -> dict[str, float]:
    """Median nanoseconds by outcome; E is a program that returns at once. Needs root."""
    world = world_snapshot()
    web = world.site.clusters["web"]
    assert isinstance(web, Cluster)
    site = replace(
        world.site,
        classify=replace(world.site.classify, trust_ecs_from=(ip_network(f"{RESOLVER}/32"),)),
        clusters={**world.site.clusters, "web": replace(web, anonymous=Anonymous.ENCODED)},
    )
    frames = snapshot_frames(packets)
    samples: dict[str, list[float]] = {}
    with (
        loaded(FastPath(Engine(replace(world, site=site, cookie_secrets=SECRETS)))) as kernel,
        Object.open("empty") as empty,
        counting(),
    ):
        empty.load()
        nothing, runner = Runner(empty.program(empty.programs[0])), Runner(kernel.program)
        known = [name for name in frames if name not in (NEVER_SEEN, "unknown name", "not ours")]
        for name in known:
            learn(kernel, frames[name])
        for turn in range(rounds):
            kernel.at(NOW + turn * SLOT)
            before = kernel.feeder.reasons()
            new = runner.cold(frames["ECS, made before"])
            samples.setdefault("ECS, new in this slot", []).append(new)
            runner.cold(frames["per client, made before"])
            for name, some in frames.items():
                samples.setdefault(name, []).append(runner.cold(some))
                samples.setdefault("E", []).append(nothing.cold(some))
            for name, (limit, one_in) in EXTRAS.items():
                kernel.feeder.limit(limit)
                kernel.feeder.sample(one_in)
                kernel.at(kernel.now)
                samples.setdefault(name, []).append(runner.cold(frames["plain"]))
                kernel.taken()
            kernel.feeder.limit(None)
            kernel.feeder.sample(())
            after = kernel.feeder.reasons()
            missed = after["unknown-requester"] - before["unknown-requester"]
            assert missed < packets + packets // 10, (
                missed
            )  # what was never seen, two of a kind that ask in turn, and reserved addresses
    return {name: statistics.median(values) for name, values in samples.items()}


def shared(rounds: int = ROUNDS, packets: int = PACKETS) -> tuple[float, float]:
    """Median nanoseconds of a packet of an established flow for a dispatcher that is alone on the interface, and behind
    the DNS program, in turn."""
    alone, behind = list[float](), list[float]()
    vips = vips_of(packets)
    with (
        dispatching(flows=FLOWS) as dispatcher,
        loaded(FastPath(Engine(world_snapshot()))) as kernel,
        counting(),
    ):
        dispatcher.writer.apply(DispatchTables(dispatched(with_pool("translated", forward=Forward.DIRECT))))
        dispatcher.writer.settings(trace=0, now=0)
        kernel.feeder.open(OUR_LINK[:6], {(HOSTS["public"][6], 53): "public"})
        kernel.at(NOW)
        kernel.maps[NEXT].put(u32(0), u32(dispatcher.program.fd))
        flows = known_segments(vips[:64])
        frames = Frames((flows * (packets // 64 + 1))[:packets])
        first, second = Runner(dispatcher.program), Runner(kernel.program)
        for turn in range(rounds + 1):
            times = first.cold(frames), second.cold(frames)
            if turn:  # in the first one the flows are new
                alone.append(times[0])
                behind.append(times[1])
        assert kernel.feeder.reasons()["not-ours"] >= rounds * packets
    return statistics.median(alone), statistics.median(behind)


def main() -> None:
    """Print the figures."""
    figures = measure()
    e = figures.pop("E")
    sys.stdout.write(f"E: {e:.1f} ns\n")
    for name, cold in figures.items():
        goal = f"  goal {GOALS[name]:g} E" if name in GOALS else ""
        sys.stdout.write(f"{name:27} {cold:7.1f} ns = {cold / e:5.2f} E{goal}\n")
    alone, behind = shared()
    sys.stdout.write(f"a dispatcher's packet       {alone:7.1f} ns alone, {behind:.1f} ns behind this program\n")


if __name__ == "__main__":
    main()
