"""Random addresses with claims, labels and addresses of clients' own, right and wrong: the kernel program and the
reference agree on every one; 200,000 with DNSVIP_LONG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.site import ClientState, Cluster, Forward, Stickiness, TierAction
from tests.dispatcher.build import servers
from tests.dispatcher.io.xdp.equality import heard
from tests.dispatcher.io.xdp.kernel import Reference, loaded
from tests.dispatcher.io.xdp.sayings import OUR_64
from tests.dispatcher.io.xdp.worlds import World
from tests.long import long_or

ADDRESSES, EACH = long_or(6_000, long=200_000), 1_000
"""In all, and of one site."""
IGNORED = "label-ignored"


class Saying(World):
    """A world in which what clients say decides about the server, and little else does."""

    def __init__(self, seed: int) -> None:
        self.network = 0
        super().__init__(seed)
        site = self.site
        pools = {
            name: replace(pool, servers=servers(name, 5), stickiness=Stickiness.SESSION, forward=Forward.DIRECT)
            for name, pool in site.pools.items()
        }
        tiers = {
            name: replace(tier, pool=pool, action=TierAction.FORWARD, rate=None, policing=None)
            for (name, tier), pool in zip(site.tiers.items(), [*pools] * 16, strict=False)
        }
        self.site = replace(site, pools=pools, tiers=tiers)

    def openings(self, count: int) -> Iterator[tuple[int, bytes]]:
        """First packets of flows to IPv6 clusters, each with its time in unix nanoseconds."""
        random = self.saying
        clusters = self._encoded()
        for _ in range(count):
            cluster = random.choice(clusters)
            self.network = random.choice((0, *random.sample(range(1 << 12), 7))) << 64
            form = random.choice((self._issued, self._proven, self._proven, None))
            vip = form(cluster, **self._whose(cluster)) if form else int(cluster.plain)
            if random.random() < 0.1:
                vip ^= 1 << random.randrange(128 - cluster.prefix.prefixlen)
            source, label = self._speak(vip, self._source())
            ports = random.choice((7000, 7000, random.randrange(1, 65536))).to_bytes(2, "big") + b"\0P"
            addresses = source.to_bytes(16, "big") + vip.to_bytes(16, "big")
            self.labels[addresses] = label or random.choice((0, random.getrandbits(20)))
            self.now += random.choice((1_000, 1_000_000))
            yield self.now, self._segment(bytes([6, random.choice((6, 17))]) + ports + addresses, 2)

    def _source(self) -> int:
        """Of many networks, so that bad proofs of one are not too many."""
        return OUR_64 + self.network | 5

    def _whose(self, cluster: Cluster) -> dict[str, int]:
        """Mostly a client that there is, and that is enabled."""
        known = [client.id for client in self.site.clients.values() if client.state is ClientState.ENABLED]
        bits = dict(cluster.layout).get("client", 0)
        fitting = [number for number in known if not number >> bits]
        return {"client": self.saying.choice(fitting)} if fitting and self.saying.random() < 0.8 else {}


def said_in(seed: int) -> bool:
    """Whether clients of a world may say something in each way."""
    clusters = World(seed).site.clusters.values()
    encoded = [one for one in clusters if isinstance(one, Cluster)]
    return any(one.claims and one.label for one in encoded) and any(one.source for one in encoded)


@pytest.mark.timeout(long_or(900, long=7200))
def test_random_sayings(kernel: None) -> None:
    """Verdict, reason, server and packet of every flow are the same, and so is the count of ignored labels."""
    told, reasons, servers_of = Counter[str](), Counter[str](), set[str]()
    seeds = (seed for seed in range(5000, 9000) if said_in(seed))
    with loaded() as program:
        for seed in [next(seeds) for _ in range(ADDRESSES // EACH)]:
            world = Saying(seed)
            tables = DispatchTables(world.snapshot(), None, frozenset(), {})
            program.writer.apply(tables)
            program.forget()
            before, reference = program.writer.counters.auxiliary()[IGNORED], Reference(tables)
            for number, (now, data) in enumerate(world.openings(EACH)):
                expected = reference.see(data, now)
                assert program.see(data, now) == expected, (seed, number, data.hex(), reference.address)
                told.update(heard(reference.address))
                reasons[expected.reason] += 1
                servers_of.add(expected.server)
            ignored = program.writer.counters.auxiliary()[IGNORED] - before
            assert ignored == reference.flows.labels_ignored, seed
    assert reasons.total() == ADDRESSES
    assert {"claims", "label", "label ignored", "source"} <= told.keys(), told
    assert min(told.values()) > ADDRESSES // 200, told
    assert {"bad-proof", "bad-tag", "bad-payload", "plain", "expired", "revoked"} <= reasons.keys(), reasons
    assert len(servers_of) > 10
