"""Identifying the requester: order of steps, which ECS is believed, and scopes that a caching resolver can rely on."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.identity.identify import Classified, Classifier, Ecs, Requester
from dnsvip.site import ClientState, Step
from dnsvip.site.client_certificates import uri_of
from dnsvip.site.identity.prefixes import NOBODY, PrefixTable
from tests.samples import make_site, make_snapshot, snapshot_of

Prefixes: TypeAlias = dict[tuple[int, int], int]
"""(address, length) -> owner, over addresses of WIDTH bits."""

WIDTH = 7
"""Wide enough to nest prefixes several deep, narrow enough to look at every address."""


@st.composite
def prefixes(draw: st.DrawFn, width: int = WIDTH, owners: int = 3) -> Prefixes:
    lengths = draw(st.lists(st.integers(0, width), max_size=12))
    cut = [(draw(st.integers(0, (1 << length) - 1)) << (width - length), length) for length in lengths]
    return {prefix: draw(st.integers(1, owners)) for prefix in cut}


def table_of(known: Prefixes, width: int = WIDTH) -> PrefixTable:
    return PrefixTable([(address, length, owner) for (address, length), owner in known.items()], width)


def longest(known: Prefixes, address: int, length: int, width: int = WIDTH) -> int:
    """The plain longest-prefix match among prefixes of up to `length` bits."""
    cuts = ((address >> width - bits << width - bits, bits) for bits in range(length, -1, -1))
    return next((known[cut] for cut in cuts if cut in known), NOBODY)


def block(address: int, length: int) -> range:
    first = address >> WIDTH - length << WIDTH - length
    return range(first, first + (1 << WIDTH - length))


@given(prefixes())
def test_owner_is_the_longest_prefix(known: Prefixes) -> None:
    """Every address of the space gets the owner of the longest prefix around it."""
    table = table_of(known)
    assert [table.owner(address) for address in range(1 << WIDTH)] == [
        longest(known, address, WIDTH) for address in range(1 << WIDTH)
    ]


@given(prefixes(), st.integers(0, (1 << WIDTH) - 1), st.integers(0, WIDTH))
def test_scope_is_the_shortest_block_of_one_owner(known: Prefixes, address: int, length: int) -> None:
    """The scope is the shortest block around the address in which all have its owner, also where that is longer than
    SOURCE; then the owner is that of the longest prefix around all that SOURCE says."""
    everyone = [longest(known, other, WIDTH) for other in range(1 << WIDTH)]
    alike = next(n for n in range(WIDTH + 1) if len({everyone[other] for other in block(address, n)}) == 1)
    right = everyone[address] if alike <= length else longest(known, address, length)
    assert table_of(known).match(address, length) == (right, alike)


@given(prefixes(), st.lists(st.tuples(st.integers(0, (1 << WIDTH) - 1), st.integers(0, WIDTH)), max_size=40))
def test_cached_answers_are_the_right_ones(known: Prefixes, queries: list[tuple[int, int]]) -> None:
    """Whatever a caching resolver answers from its cache is what the server would have answered.

    The resolver keeps each answer under its scope and uses it for every later question inside that is no shorter. An
    answer whose scope is longer than its SOURCE says that more bits would tell more, so it is used for questions of
    that length only (RFC 7871 section 7.3.1), as Unbound does.
    """
    table = table_of(known)
    cache: list[tuple[int, int, int, int]] = []
    for number, source in queries:
        address = block(number, source)[0]
        owner, scope = table.match(address, source)
        for cached, at, kept, asked in cache:
            if address in block(at, min(kept, asked)) and (source == asked if kept > asked else source >= kept):
                assert cached == owner
        cache.append((owner, address, scope, source))


@given(prefixes(), st.integers(0, WIDTH), st.integers(0, (1 << WIDTH) - 1), st.integers(0, (1 << WIDTH) - 1))
def test_resolver_with_one_source_length_is_always_right(known: Prefixes, source: int, one: int, other: int) -> None:
    """For a resolver that always sends the same SOURCE, as most do, two addresses in one scope get one answer."""
    table = table_of(known)
    one, other = block(one, source)[0], block(other, source)[0]
    owner, scope = table.match(one, source)
    if other in block(one, min(scope, source)):
        assert table.match(other, source) == (owner, scope)


@pytest.mark.parametrize(("width", "low"), [(32, 0), (32, 24), (128, 48), (128, 64), (128, 100), (128, 128)])
@given(data=st.data())
def test_real_widths(width: int, low: int, data: st.DataObject) -> None:
    """IPv4 and IPv6 tables, with prefixes within and beyond 64 bits, match as the plain longest-prefix match does."""
    base = data.draw(st.integers(0, (1 << width) - 1))
    near = st.integers(0, 255).map(lambda bits: base ^ bits << max(0, width - max(low, 8)))
    cuts = data.draw(st.lists(st.tuples(near, st.integers(0, low)), max_size=15))
    known = {
        (address >> width - length << width - length, length): i % 5 + 1 for i, (address, length) in enumerate(cuts)
    }
    table = table_of(known, width)
    assert len(table) == len(known)
    for address, _ in [*cuts, (base, 0), (0, 0), ((1 << width) - 1, 0)]:
        assert table.owner(address) == longest(known, address, width, width)
        owner, scope = table.match(address, width)
        assert owner == table.owner(address)
        for bit in range(width - scope):  # the far ends of the scope have the same owner
            assert table.owner(address ^ 1 << bit) == owner


def requester(source: str = "192.0.2.77", **known: Any) -> Requester:
    ecs = known.pop("ecs", None)
    if ecs:
        address, _, length = ecs.partition("/")
        known["ecs"] = Ecs(ip_address(address), int(length))
    return Requester(ip_address(source), **known)


def classify(who: Requester, changes: dict[str, Any] | None = None) -> Classified:
    return Classifier(make_snapshot(changes)).classify(who)


def names(classified: Classified) -> tuple[str | None, Step | None, int]:
    return classified.client.name if classified.client else None, classified.step, classified.scope


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (requester("2001:db8:77::5"), ("acme", Step.SOURCE, 0)),
        (requester("2001:db8:78::5"), (None, None, 0)),
        (requester("203.0.113.9"), ("newsreader", Step.SOURCE, 0)),
        (requester(tsig="acme-key"), ("acme", Step.TSIG, 0)),
        (requester(tsig="Acme-Key."), ("acme", Step.TSIG, 0)),
        (requester(tsig="other-key"), (None, None, 0)),
        (requester("127.0.0.1", ecs="198.51.100.0/24"), ("acme", Step.ECS, 24)),
        (requester("::1", ecs="198.51.100.0/24"), ("acme", Step.ECS, 24)),
        (requester("127.0.0.1", ecs="198.51.100.7/32"), ("acme", Step.ECS, 24)),
        (requester("127.0.0.1", ecs="198.51.0.0/16"), (None, None, 18)),  # holds acme's, but is not all acme's
        (requester("127.0.0.1", ecs="198.51.101.0/24"), (None, None, 24)),
        (requester("127.0.0.1", ecs="10.0.0.0/8"), (None, None, 1)),
        (requester("127.0.0.1", ecs="2001:db8:77::/48"), (None, None, 0)),  # no client has an IPv6 ECS match
        (requester("203.0.113.9", ecs="198.51.100.0/24"), ("newsreader", Step.SOURCE, 0)),  # not a trusted resolver
        (requester("127.0.0.1", ecs="198.51.100.0/24", tsig="acme-key"), ("acme", Step.TSIG, 0)),  # decided before ECS
    ],
)
def test_sample_site(who: Requester, expected: tuple[str | None, Step | None, int]) -> None:
    """Each way of the sample site to identify a client leads to the right client, step and scope."""
    assert names(classify(who)) == expected


MANY = {
    "classify": {"trust_ecs_from": ["127.0.0.0/8"]},
    "dns_token": {"abc": {"digest": "0" * 64}},
    "client": {
        step: {"id": 2000 + i, "tier": "gold", "match": [{step: value}]}
        for i, (step, value) in enumerate(
            [
                ("tls", "CN=Client.example.test"),
                ("token", "abc"),
                ("ecs", "10.1.0.0/16"),
                ("source", "127.0.0.0/8"),
                ("geo", "country:FR"),
                ("listener", "privileged"),
            ]
        )
    },
}
EVERYTHING = requester(
    "127.0.0.1",
    ecs="10.1.2.0/24",
    tsig="acme-key",
    tls=("other.example.test", "client.example.test"),
    token="abc",
    listener="privileged",
)


@pytest.mark.parametrize(
    ("order", "winner"),
    [
        (["tsig", "tls", "token", "ecs", "source", "listener"], "acme"),
        (["tls", "tsig"], "tls"),
        (["token", "tls"], "token"),
        (["ecs", "tsig"], "ecs"),
        (["source", "ecs"], "source"),
        (["geo", "listener", "source"], "listener"),  # geo has no data and never matches
        (["geo"], None),
        ([], None),
    ],
)
def test_first_match_in_the_order_decides(order: list[str], winner: str | None) -> None:
    """A requester that every step identifies is the client of the first step in the site's order, which is reported."""
    classified = classify(EVERYTHING, MANY | {"classify": {**MANY["classify"], "order": order}})
    assert (classified.client.name if classified.client else None) == winner
    assert classified.step == (None if winner is None else Step.TSIG if winner == "acme" else Step(winner))


def test_scope_counts_where_ecs_was_looked_at_in_vain() -> None:
    """A step after ECS that decides keeps the scope of ECS, for another ECS address would have decided earlier."""
    order = {"classify": {**MANY["classify"], "order": ["ecs", "source"]}}
    assert names(classify(requester("127.0.0.1", ecs="10.2.0.0/16"), MANY | order)) == ("source", Step.SOURCE, 15)
    order = {"classify": {**MANY["classify"], "order": ["source", "ecs"]}}
    assert names(classify(requester("127.0.0.1", ecs="10.2.0.0/16"), MANY | order)) == ("source", Step.SOURCE, 0)


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.REVOKED])
def test_disabled_client_is_nobody(state: ClientState) -> None:
    """A disabled or revoked client is nobody by the step that knew it, though a wider prefix is another client's."""
    wider = {"client": {"isp": {"id": 7, "tier": "standard", "match": [{"source": "2001:db8::/32"}]}}}
    site = make_site(wider)
    clients = {**site.clients, "acme": replace(site.clients["acme"], state=state)}
    classifier = Classifier(snapshot_of(replace(site, clients=clients)))
    assert names(classifier.classify(requester("2001:db8:77::5"))) == (None, Step.SOURCE, 0)
    assert names(classifier.classify(requester("2001:db8:78::5"))) == ("isp", Step.SOURCE, 0)
    assert names(classifier.classify(requester("2001:db8:78::5", tsig="acme-key"))) == (None, Step.TSIG, 0)


def test_nested_prefixes_of_other_clients_lengthen_the_scope() -> None:
    """Around a customer's /28 inside an ISP's /16 the ISP's answer is given for blocks without the customer only."""
    nested = {
        "client": {
            "isp": {"id": 7, "tier": "standard", "match": [{"ecs": "10.1.0.0/16"}]},
            "customer": {"id": 8, "tier": "gold", "match": [{"ecs": "10.1.2.16/28"}]},
            "acme": {"match": [{"ecs": "10.2.0.0/24"}, {"ecs": "10.2.1.0/24"}, {"ecs": "10.2.1.64/26"}]},
        }
    }
    classifier = Classifier(make_snapshot(nested))

    def told(ecs: str) -> tuple[str | None, Step | None, int]:
        return names(classifier.classify(requester("127.0.0.1", ecs=ecs)))

    assert told("10.1.2.17/32") == ("customer", Step.ECS, 28)
    assert told("10.1.2.0/32") == ("isp", Step.ECS, 28)
    assert told("10.1.2.0/24") == ("isp", Step.ECS, 28)  # SOURCE does not tell the customer apart
    assert told("10.1.0.0/16") == ("isp", Step.ECS, 23)
    assert told("10.1.3.0/24") == ("isp", Step.ECS, 24)
    assert told("10.1.128.0/24") == ("isp", Step.ECS, 17)
    assert told("10.2.1.77/32") == ("acme", Step.ECS, 23)  # neighbours and nested ones of one client are alike
    assert told("10.2.0.0/23") == ("acme", Step.ECS, 23)  # all of it is acme's, though by two prefixes


@given(st.lists(st.integers(8, 32), min_size=1, max_size=8, unique=True), st.integers(0, (1 << 32) - 1))
def test_scope_is_over_source_only_where_it_must_be(lengths: list[int], address: int) -> None:
    """Through the whole classifier the scope is longer than SOURCE only where a client's prefix lies inside the block,
    for either family."""
    clients = {
        f"c{length}": {
            "id": length,
            "tier": "gold",
            "match": [
                {"ecs": str(ip_network((address >> 32 - length << 32 - length, length)))},
                {"ecs": str(IPv6Network((address >> 32 - length << 128 - length, length)))},
            ],
        }
        for length in lengths
    }
    snapshot = make_snapshot({"client": clients})
    classifier = Classifier(snapshot)
    claimed = [
        ip_network(match.value)
        for client in snapshot.site.clients.values()
        for match in client.match
        if "/" in match.value
    ]
    for source in (0, 7, 20, 32):
        v4 = Ecs(IPv4Network((address >> 32 - source << 32 - source, source)).network_address, source)
        v6 = Ecs(IPv6Network((address >> 32 - source << 128 - source, source)).network_address, source)
        for ecs in (v4, v6):
            classified = classifier.classify(Requester(ip_address("127.0.0.1"), ecs=ecs))
            asked = ip_network((ecs.address, source))
            inside = [net for net in claimed if net.version == asked.version and net.subnet_of(asked) and net != asked]
            assert classified.scope <= source or inside
            assert classified.ecs == ecs
            assert classified.client is None or classified.client.id <= source or classified.client.name == "acme"


@pytest.mark.parametrize(
    ("names", "client", "winner", "step"),
    [
        (("sha256:" + "0" * 64, "dnsvip:acme?generation=3", "acme"), {"key_generation": 3}, "acme", Step.TLS),
        (("dnsvip:acme?generation=3", "acme"), {"key_generation": 4}, None, Step.TLS),  # it has a new key
        (("dnsvip:acme?generation=3", "acme"), {"key_generation": 3, "state": ClientState.REVOKED}, None, Step.TLS),
        (("dnsvip:acme", "acme"), {}, None, Step.TLS),
        (("dnsvip:other?generation=0", "acme"), {}, None, Step.TLS),  # the name was given to acme since
        (("acme",), {"key_generation": 9}, "acme", Step.TLS),  # of another authority
        (("dnsvip:other?generation=0", "other"), {}, "newsreader", Step.SOURCE),
        ((uri_of("Acme", 0).lower(), "acme"), {}, None, Step.TLS),  # its name differs by a capital
        ((uri_of("Acme", 0).lower(), "acme"), {"name": "Acme"}, "Acme", Step.TLS),
    ],
)
def test_certificates_of_the_sites_own_authority(
    names: tuple[str, ...], client: dict[str, object], winner: str | None, step: Step
) -> None:
    """They are bound to a client and the generation of its key: an older one identifies nobody, nor lets a weaker step
    do so."""
    site = make_site({"client": {"acme": {"match": [{"tls": "Acme"}]}}})
    acme = replace(site.clients["acme"], **client)  # type: ignore[arg-type]  # fields of a client
    others = {name: other for name, other in site.clients.items() if name != "acme"}
    made = snapshot_of(replace(site, clients={**others, acme.name: acme}))
    classified = Classifier(made).classify(requester("203.0.113.9", tls=names))
    assert (classified.client.name if classified.client else None, classified.step) == (winner, step)


@pytest.mark.parametrize("claimed", ["dnsvip:acme?generation=0", "sha256:" + "0" * 64])
def test_nobody_claims_a_certificate_of_the_sites_own_authority(claimed: str) -> None:
    """Who may write a client only, and has it match another name of another client's certificate, neither gets its
    identity nor takes it away."""
    site = make_site(
        {
            "client": {
                "acme": {"match": [{"tls": "acme"}]},
                "evil": {"id": 77, "tier": "gold", "match": [{"tls": claimed}]},
            }
        }
    )
    names = ("sha256:" + "0" * 64, "dnsvip:acme?generation=0", "acme")
    classified = Classifier(snapshot_of(site)).classify(requester("203.0.113.9", tls=names))
    assert (classified.client and classified.client.name) == "acme"
    later = (names[0], f"dnsvip:acme?generation={'9' * 5000}", "acme")
    assert Classifier(snapshot_of(site)).classify(requester("203.0.113.9", tls=later)).client is None
