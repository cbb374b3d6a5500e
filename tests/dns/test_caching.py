"""A caching resolver in front of the server, over random clients and their changes: RFC 7871 section 7.

No client may get an address from the resolver's cache that the server would not have given it, and a server
that took changes one by one gives the same as one that was made from the last state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any, TypeAlias

import dns.edns
import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsvip.dns.engine import Engine
from dnsvip.dns.explain import Question, explain
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.identity.identify import Address, Classifier, Ecs, Geo, Requester
from dnsvip.dns.protocol.parser import parse
from dnsvip.site import Classify, Client, ClientState, Match, Site, Snapshot, Step
from dnsvip.site.cow_map import CowMap
from dnsvip.site.identity import prefixes, rows
from dnsvip.site.identity.prefixes import PrefixTable
from tests.samples import NOW, make_site, snapshot_of

RESOLVER = IPv4Address("127.0.0.1")
BASE, BITS = IPv4Network("10.20.30.0/28"), 4
"""All prefixes lie in and around this one, so that they nest and meet."""

PLACES: Mapping[str, str] = {"10.20.30.0/30": "country:DE", "10.20.30.4/31": "country:FR", "10.20.30.8/29": "asn:1"}

Clients: TypeAlias = dict[str, Client]


def geo(address: Address) -> tuple[tuple[tuple[str, int], ...], int]:
    """A place for some networks, and around any other address the longest prefix that holds none of them."""
    networks = [ip_network(text) for text in PLACES]
    for network, value in zip(networks, PLACES.values(), strict=True):
        if address in network:
            length = _alone(address, networks, network.prefixlen)
            return ((value, length),), length
    return (), _alone(address, networks, 0)


def _alone(address: Address, networks: list[Any], least: int) -> int:
    """The shortest prefix around an address, no shorter than `least`, that holds no network it is outside of."""
    others = [network for network in networks if address not in network]
    around = (ip_network((int(address) >> 32 - n << 32 - n, n)) for n in range(least, 33))
    return next(net.prefixlen for net in around if not any(net.overlaps(other) for other in others))


@st.composite
def networks(draw: st.DrawFn) -> str:
    length = draw(st.integers(26, 32))
    address = int(BASE.network_address) | draw(st.integers(0, (1 << BITS) - 1))
    return str(IPv4Network((address >> 32 - length << 32 - length, length)))


@st.composite
def claims(draw: st.DrawFn) -> Match:
    step = draw(st.sampled_from([Step.ECS, Step.ECS, Step.ECS, Step.SOURCE, Step.GEO]))
    return Match(step, draw(st.sampled_from(sorted(PLACES.values()))) if step is Step.GEO else draw(networks()))


@st.composite
def client_sets(draw: st.DrawFn) -> Clients:
    """Up to five clients, none of which claims what another does."""
    left = draw(st.lists(claims(), max_size=14, unique=True))
    clients: Clients = {}
    for number in draw(st.lists(st.integers(1, 5), max_size=5, unique=True)):
        count = draw(st.integers(0, 4))
        state = draw(st.sampled_from([ClientState.ENABLED, ClientState.ENABLED, ClientState.DISABLED]))
        tier = draw(st.sampled_from(["gold", "standard"]))
        clients[f"c{number}"] = Client(f"c{number}", number, tier, tuple(left[:count]), state=state)
        left = left[count:]
    return clients


@st.composite
def histories(draw: st.DrawFn) -> list[Clients]:
    """Sets of clients one after the other: altogether others, or the same with other tiers, states and claims."""
    states = [draw(client_sets())]
    for _ in range(draw(st.integers(1, 4))):
        now = states[-1]
        if not now or draw(st.booleans()):
            states.append(draw(client_sets()))
            continue
        claimed = draw(st.permutations([client.match for client in now.values()]))
        keep = draw(st.booleans())
        states.append(
            {
                name: replace(
                    client,
                    tier=draw(st.sampled_from(["gold", "standard"])),
                    state=draw(st.sampled_from(list(ClientState))),
                    match=client.match if keep else match,
                )
                for (name, client), match in zip(now.items(), claimed, strict=True)
            }
        )
    return states


ORDERS = st.permutations([Step.ECS, Step.SOURCE, Step.GEO]).flatmap(
    lambda order: st.integers(1, 3).map(lambda count: tuple(order[:count]))
)
ADDRESSES = st.integers(-4, (1 << BITS) + 3).map(lambda number: IPv4Address(int(BASE.network_address) + number))
QUESTIONS = st.lists(st.tuples(ADDRESSES, st.integers(24, 32)), min_size=1, max_size=25)


def site_of(clients: Mapping[str, Client], order: tuple[Step, ...], anonymous: str = "encoded") -> Site:
    site = make_site({"cluster": {"web": {"anonymous": anonymous}}})
    trusted = (ip_network("127.0.0.0/8"),)
    return replace(site, clients=clients, classify=Classify(order, trusted))


@dataclass
class Resolver:
    """A cache by RFC 7871 section 7.3.1, as Unbound's: the entry with the longest matching scope answers a question
    that is at least as long as that scope; an answer whose scope is longer than SOURCE is for questions of its own
    length only, as more bits would have told more."""

    ask: Callable[[IPv4Address, int], tuple[Any, int]]
    kept: list[tuple[IPv4Network, int, Any]] = field(default_factory=list)
    """Network, the only SOURCE that the answer is for or -1, and answer."""

    def resolve(self, address: IPv4Address, source: int) -> Any:
        for network, asked, answer in sorted(self.kept, key=lambda entry: -entry[0].prefixlen):
            if address in network and (source == asked or (source >= network.prefixlen and asked < 0)):
                return answer
        answer, scope = self.ask(address, source)
        length = min(scope, source)
        network = IPv4Network((int(address) >> 32 - length << 32 - length, length))
        self.kept.append((network, source if scope > source else -1, answer))
        return answer


def cut(address: IPv4Address, source: int) -> IPv4Address:
    return IPv4Address(int(address) >> 32 - source << 32 - source)


@given(client_sets(), ORDERS, QUESTIONS, st.sampled_from(["encoded", "plain"]))
@settings(max_examples=250, deadline=None)
def test_cache_never_gives_a_wrong_address(
    clients: Clients, order: tuple[Step, ...], questions: list[tuple[IPv4Address, int]], anonymous: str
) -> None:
    """Whatever is asked before, each client gets from the cache the very address the server would have given it.

    Anonymous clients are encoded by prefixes of any length, so for them one address of many is right: what must
    hold is that no other client's comes and none of theirs goes to a known one.
    """
    engine = Engine(snapshot_of(site_of(clients, order, anonymous)), None, geo)
    classifier = engine.tables.classifier

    def ask(address: IPv4Address, source: int) -> tuple[str, int]:
        option = dns.edns.ECSOption(str(cut(address, source)), source)
        query = dns.message.make_query("www.example.test", "AAAA", use_edns=0, options=[option])
        wire = engine.decide(query.to_wire(), RESOLVER, Arrival("default", Transport.UDP), NOW).wire
        assert wire is not None
        answer = dns.message.from_wire(wire)
        (ecs,) = (each for each in answer.options if isinstance(each, dns.edns.ECSOption))
        return answer.answer[0][0].to_text(), ecs.scopelen

    resolver = Resolver(ask)
    known = {}
    for address, source in questions:
        got, direct = resolver.resolve(address, source), ask(address, source)[0]
        who = classifier.classify(Requester(RESOLVER, ecs=Ecs(cut(address, source), source))).client
        known[got] = known.get(got, who)
        assert known[got] == who
        assert got == direct or (who is None and anonymous == "encoded")


@given(histories(), ORDERS, QUESTIONS, st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_changed_is_as_made_anew(
    states: list[Clients], order: tuple[Step, ...], questions: list[tuple[IPv4Address, int]], shards: bool, places: bool
) -> None:
    """A classifier that follows any changes answers as one made from the last state, and the old ones as before."""
    look_up: Geo | None = geo if places else None

    def found(classifier: Classifier) -> list[Any]:
        requesters = [Requester(RESOLVER, ecs=Ecs(cut(*question), question[1])) for question in questions]
        return [classifier.classify(who) for who in (*requesters, *(Requester(address) for address, _ in questions))]

    follower: Classifier | None = None
    held: Mapping[str, Client] = CowMap()
    before: list[tuple[Classifier, list[Any]]] = []
    for clients in states:
        held = (
            held.changed(held.keys() - clients.keys(), clients.items())
            if shards and isinstance(held, CowMap)
            else clients
        )
        snapshot: Snapshot = snapshot_of(site_of(held, order))
        follower = Classifier(snapshot, follower, look_up)
        expected = found(Classifier(snapshot, geo=look_up))
        assert found(follower) == expected
        before.append((follower, expected))
    for classifier, expected in before:
        assert found(classifier) == expected


@pytest.mark.parametrize("anew", [0, 1, 1 << 20])
@pytest.mark.parametrize(("width", "low"), [(32, 32), (128, 64), (128, 70), (128, 128)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_blocks_after_changes(width: int, low: int, anew: int, data: st.DataObject) -> None:
    """A table changed prefix by prefix, in blocks so small that they are cut and joined, holds the same rows as one
    made anew, and the one before keeps its own. `anew` has none, some or all changes made by building anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK", 3)
        patch.setattr(prefixes, "BLOCK", 3)
        patch.setattr(prefixes, "ANEW", anew)
        known: dict[tuple[int, int], int] = {}
        table = PrefixTable([], width)
        for _ in range(data.draw(st.integers(1, 6))):
            gone = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=5)) if known else []
            lengths = data.draw(st.lists(st.integers(0, 6), max_size=8))
            cuts = [(data.draw(st.integers(0, (1 << n) - 1)) << low - n, low - 6 + n) for n in lengths]
            put = {
                (address << width - low >> width - n << width - n, n): data.draw(st.integers(1, 3))
                for address, n in cuts
            }
            old, held = table, _rows(table)
            table = table.changed(gone, [(*prefix, owner) for prefix, owner in put.items()])
            known = {prefix: owner for prefix, owner in known.items() if prefix not in gone} | put
            assert _rows(old) == held
            assert _rows(table) == _rows(PrefixTable([(*prefix, owner) for prefix, owner in known.items()], width))
            assert all(table.exactly(*prefix) == owner for prefix, owner in known.items())
            assert len(table) == len(known)


def _rows(table: PrefixTable) -> tuple[list[Any], list[Any]]:
    return list(table._prefixes), list(table._runs)


def test_scope_of_two_steps_is_the_longer() -> None:
    """Where ECS was looked at in vain before the place, the scope holds none of the prefixes that ECS would know."""
    clients = {
        "one": Client("one", 1, "gold", (Match(Step.ECS, "10.20.30.8/32"),)),
        "place": Client("place", 2, "gold", (Match(Step.GEO, "asn:1"),)),
    }
    classifier = Classifier(snapshot_of(site_of(clients, (Step.ECS, Step.GEO))), geo=geo)
    for address, name, scope in (("10.20.30.8", "one", 32), ("10.20.30.15", "place", 30), ("10.20.30.9", "place", 32)):
        classified = classifier.classify(Requester(RESOLVER, ecs=Ecs(IPv4Address(address), 32)))
        assert classified.client == clients[name]
        assert classified.scope == scope


@pytest.mark.parametrize(
    ("source", "name", "scope"), [(24, "outer", 28), (28, "outer", 32), (32, "inner", 32), (16, None, 20)]
)
def test_scope_on_all_paths(source: int, name: str | None, scope: int) -> None:
    """The fast path, the engine and an explanation answer a block whose clients differ alike: for the client who has
    all of it, with the scope that tells them apart."""
    clients = {
        "outer": Client("outer", 1, "standard", (Match(Step.ECS, "10.20.16.0/20"),)),
        "inner": Client("inner", 2, "gold", (Match(Step.ECS, "10.20.30.16/32"),)),
    }
    engine = Engine(snapshot_of(site_of(clients, (Step.ECS,), "plain")))
    fast = FastPath(engine)
    block = Ecs(cut(IPv4Address("10.20.30.16"), source), source)
    option = dns.edns.ECSOption(str(block.address), source)
    wire = dns.message.make_query("www.example.test", "AAAA", use_edns=0, options=[option]).to_wire()
    decided = engine.decide(wire, RESOLVER, Arrival("default", Transport.UDP), NOW).wire
    key, ids = key_of(RESOLVER.packed, wire), bytearray(wire[:2])
    for _ in range(4):
        [hit], misses = fast.answers([key], ids, "default", WIDTH[4], NOW)
        for miss in misses:
            if miss.tail is not None:
                fast.learn(miss.tail, parse(wire))
    assert hit
    assert wire[:2] + hit[0] == decided
    explained = explain(engine, Question("www.example.test", "AAAA", Requester(RESOLVER, ecs=block)), NOW)
    [sent] = (each for each in dns.message.from_wire(decided).options if isinstance(each, dns.edns.ECSOption))
    assert sent.scopelen == explained.scope == engine.tables.classifier.classify(Requester(RESOLVER, ecs=block)).scope
    assert (explained.who.client.name if explained.who.client else None) == name
    assert explained.scope == scope
