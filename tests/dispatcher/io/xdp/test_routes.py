"""Rules of clusters, and clients' own pools and servers, in the kernel program: as the reference, before and after
every change of them, also for addresses that it has decoded before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.routes import RULE_OWN
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import Pool, ServerState, Site
from tests.dispatcher.build import ACK, CLIENTS, NOW, SYN, segment
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded
from tests.dispatcher.test_selection import rule, site, tables, vip

START = int(NOW) * SECOND


@pytest.fixture(scope="module")
def once_loaded() -> Iterator[Kernel]:
    with loaded(4096) as running:
        yield running


@pytest.fixture
def program(kernel: None, once_loaded: Kernel) -> Kernel:
    """The program, loaded once for all tests."""
    return once_loaded


class Both:
    """Kernel and reference, which must agree."""

    def __init__(self, program: Kernel, first: Site) -> None:
        self.program, self.tables = program, tables(first)
        program.forget()
        program.writer.apply(self.tables)
        self.reference = Reference(self.tables)

    def change(self, to: Site) -> None:
        """Decide by another site."""
        self.tables = self.reference.tables = tables(to, self.tables)
        self.program.writer.apply(self.tables)

    def see(self, address: int, flags: int = SYN, port: int = 40_000) -> Seen:
        """What both do with a packet, twice from another port so that the address has been decoded before."""
        results = []
        for one in (port, port + 1000, port):
            data = segment(address, flags, one)
            expected = self.reference.see(data, START)
            assert self.program.see(data, START) == expected
            results.append(expected)
        return results[0]

    def pool(self, address: int, port: int = 40_000) -> str:
        """The pool of its server."""
        return self.see(address, SYN, port).server.partition("/")[0].partition("@")[0]


def down(of: Site, *names: str) -> Site:
    """The site with these servers out of use."""

    def changed(pool: Pool) -> Pool:
        some = (replace(s, state=ServerState.DOWN) if s.name in names else s for s in pool.servers)
        return replace(pool, servers=tuple(some))

    return replace(of, pools={name: changed(pool) for name, pool in of.pools.items()})


def test_rules_and_their_changes(program: Kernel) -> None:
    """Narrow and wide attributes, clients and tiers decide; another rule acts on the next flow to a known address."""
    wide = (("tier", 4), ("client", 14), ("lang", 3), ("content", 12), ("nonce", 4))
    select = rule("fr", 9, lang="fr"), rule("video", content=(7, 4000)), rule("canary", client=("acme", "once"))
    both = Both(program, site(*select, layout=wide))
    before = program.writer.counters.routed()
    addresses = {
        "fr": vip(both.tables, lang=1, content=7),
        "video": vip(both.tables, content=4000),
        "canary": vip(both.tables, client=1001, content=5),
        "fast": vip(both.tables, client=77, content=6),
        "slow": vip(both.tables, "standard"),
    }
    for n, (pool, address) in enumerate(addresses.items()):
        assert both.pool(address, 41_000 + n) == pool
    after = program.writer.counters.routed()
    assert {key: count - before.get(key, 0) for key, count in after.items()} == {("web", n): 2 for n in (1, 2, 3)}
    both.change(site(rule("video", tier="gold"), layout=wide))
    for n, address in enumerate(addresses.values()):
        assert both.pool(address, 43_000 + n) == ("video" if address != addresses["slow"] else "slow")
    both.change(site(layout=wide))
    assert {both.pool(address, 45_000 + n) for n, address in enumerate(addresses.values())} == {"fast", "slow"}
    assert not list(program.maps["masks"].keys())


def test_clients_of_their_own(program: Kernel) -> None:
    """A client moves with its record; its flows follow its own servers, and their pool once none of them is left."""
    select = rule("video", client="acme")
    acme = CLIENTS["acme"]
    both = Both(program, site(select))
    address = vip(both.tables, client=1001)
    assert both.pool(address) == "video"
    both.change(site(select, clients={"acme": replace(acme, pool="canary")}))
    assert both.pool(address, 42_000) == "canary"
    own = site(select, clients={"acme": replace(acme, servers=("fr-1", "canary/canary-1"))})
    both.change(down(own, "canary-1"))
    assert both.pool(address, 44_000) == "fr"
    for gone, moved in ((("fr-1",), "canary-1"), (("fr-1", "canary-1"), "canary-2")):
        both.change(down(own, *gone))
        assert f"/{moved}/" in both.see(address, ACK, 44_000).server
    assert both.pool(address, 46_000) == "video"
    both.change(own)
    assert both.pool(address, 48_000) in ("fr", "canary")
    assert program.writer.counters.routed()["web", RULE_OWN] > 0
    fewer = {name: pool for name, pool in own.pools.items() if name not in ("fr", "canary")}
    both.change(replace(own, pools=fewer))
    assert both.pool(address, 50_000) == "video"


def test_a_new_process_knows_the_sets(program: Kernel) -> None:
    """A new process gives the sets and their servers the numbers that they had: flows stay."""
    own = site(clients={"acme": replace(CLIENTS["acme"], servers=("fr-1", "fr-2"))})
    both = Both(program, own)
    address = vip(both.tables, client=1001)
    first = both.see(address)
    names = dict(program.writer.ids.servers.names)
    program.writer = type(program.writer)(program.maps, program.programs)
    program.writer.settings(trace=1, user_space=1)
    program.writer.apply(DispatchTables(both.tables.snapshot))
    assert program.writer.ids.servers.names == names
    assert program.see(segment(address, ACK), START).server == first.server
