"""Which address is answered: right fields, the same on every node, never outlived by its TTL, never a reserved one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsvip.address.layout import Layout
from dnsvip.dns.identity.identify import Classified, Classifier, Ecs, Requester
from dnsvip.dns.synthesis import issuer
from dnsvip.dns.synthesis.issuer import Kind, Vip
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import Client, Service, Snapshot, Step
from tests.address.strategies import layouts
from tests.samples import ACTIVATED, NOW, active_epoch, make_snapshot, with_layout

WWW = Service("www.example.test", "web", "legacy")
ENCODED = {"cluster": {"web": {"anonymous": "encoded"}}}
NOBODY = Classified(None, None)
ANYWHERE = Requester(ip_address("192.0.2.77"))


def known(snapshot: Snapshot, name: str = "acme") -> Classified:
    return Classified(snapshot.site.clients[name], Step.SOURCE)


def through(source: str, ecs: str | None = None) -> Requester:
    address, _, length = (ecs or "").partition("/")
    return Requester(ip_address(source), ecs=Ecs(ip_address(address), int(length)) if ecs else None)


def ask(snapshot: Snapshot, requester: Requester, now: float = NOW) -> Vip:
    return VipMaker(snapshot).aaaa(WWW, Classifier(snapshot).classify(requester), requester, now)


def values_of(snapshot: Snapshot, vip: Vip) -> dict[str, int]:
    assert vip.kind is Kind.ENCODED
    entry = snapshot.keyrings["web"].of(vip.address)
    assert entry is not None
    assert entry[1].authentic(vip.address)
    return entry[1].decode(vip.address)


def test_known_client_gets_its_fields() -> None:
    """A gold client's address carries its tier's code, its id, and an expiry past renewal and TTL."""
    snapshot = make_snapshot()
    vip = VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, NOW)
    values = values_of(snapshot, vip)
    assert (values["tier"], values["client"], vip.ttl, vip.scope) == (1, 1001, 60, None)
    assert values["expiry"] == 6  # 5000 s are 5.6 units of 900 s; 120 s more are not over 6


def test_attributes_are_numbers() -> None:
    """Attributes go through their table, stand as numbers where there is none, and are 0 where not set."""
    changes = {
        "cluster": {
            "web": {
                "layout": [["tier", 4], ["client", 20], ["lang", 4], ["age", 7], ["content", 2]],
                "values": {"lang": {"en": 1, "fr": 2}},
            }
        },
        "client": {"acme": {"attributes": {"lang": "fr", "age": 42}}},
    }
    snapshot = make_snapshot(changes)
    vips = [VipMaker(snapshot).aaaa(WWW, known(snapshot, name), ANYWHERE, NOW) for name in ("acme", "newsreader")]
    acme, newsreader = (values_of(snapshot, vip) for vip in vips)
    assert (acme["lang"], acme["age"], acme["content"]) == (2, 42, 0)
    assert (newsreader["lang"], newsreader["age"], newsreader["content"]) == (0, 0, 0)


def test_what_is_asked_for_is_sealed() -> None:
    """The attributes of a service stand in its addresses, before the client's own; another service's are as they were,
    also where both are made at once."""
    layout = [["tier", 4], ["client", 20], ["lang", 4], ["content", 2], ["nonce", 7]]
    values = {"lang": {"en": 1, "fr": 2}, "content": {"page": 1, "video": 2}}
    snapshot = make_snapshot(
        {
            "cluster": {"web": {"layout": layout, "values": values, "anonymous": "encoded"}},
            "service": {"www.example.test": {"attributes": {"content": "video", "lang": "en"}}},
            "client": {"acme": {"attributes": {"lang": "fr", "content": 1}}},
        }
    )
    video, page = snapshot.site.services["www.example.test"], Service("other.example.test", "web")
    asked = [(who, ANYWHERE) for who in (known(snapshot), known(snapshot, "newsreader"), NOBODY)]
    vips = VipMaker(snapshot)
    sealed = {service.name: vips.seal_batch(service, asked, NOW) for service in (video, page)}
    assert sealed == {
        service.name: [VipMaker(snapshot).aaaa(service, *each, NOW) for each in asked] for service in (page, video)
    }
    carried = {
        name: [(values["lang"], values["content"]) for values in (values_of(snapshot, vip) for vip in made)]
        for name, made in sealed.items()
    }
    assert carried == {"www.example.test": [(1, 2)] * 3, "other.example.test": [(2, 1), (0, 0), (0, 0)]}


@given(layouts(), st.booleans(), st.floats(0, 1e6))
def test_any_layout_works(layout: Layout, anonymous: bool, later: float) -> None:
    """Under any layout the answer is an address that says what fits, or a counted plain VIP; it never raises."""
    snapshot = with_layout(layout)
    who = NOBODY if anonymous else known(snapshot)
    tier, client = (2, 0) if anonymous else (1, 1001)
    vip = VipMaker(snapshot).aaaa(WWW, who, ANYWHERE, ACTIVATED + later)
    if any(0 < layout.bits(name) < number.bit_length() for name, number in (("tier", tier), ("client", client))):
        assert (vip.kind, vip.address) == (Kind.UNFIT, int(snapshot.site.clusters["web"].plain))
        return
    values = values_of(snapshot, vip)
    expected = {"tier": tier, "client": client} | dict.fromkeys(("lang", "age", "content"), 0)
    assert {name: values[name] for name in expected if name in values} == {
        name: number for name, number in expected.items() if name in values
    }


@given(st.integers(1, 12), st.integers(1, 4000), st.integers(0, 4000), st.integers(1, 4000), st.floats(0, 3e6))
def test_address_outlives_its_ttl(bits: int, unit: int, ttl: int, renew: int, later: float) -> None:
    """At any moment of a slot, the address answered then is good for its TTL, and not for much longer than needed."""
    layout = [["tier", 4], ["client", 33 - bits], ["expiry", bits]]
    changes = {"layout": layout, "expiry_unit": unit, "ttl": ttl, "renew": renew}
    snapshot = make_snapshot({"cluster": {"web": changes}})
    now = ACTIVATED + later
    vip = VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, now)
    if vip.kind is Kind.UNFIT:
        assert 33 - bits < 10
        return
    expiry = values_of(snapshot, vip)["expiry"]
    assert vip.ttl <= ttl
    if expiry < (1 << bits) - 1:
        assert ACTIVATED + expiry * unit >= now + vip.ttl
        assert ACTIVATED + expiry * unit <= now + ttl + renew + unit


def test_clock_behind_the_activation_still_gives_a_good_address() -> None:
    """A node whose clock is behind the epoch's activation gives an address that has not expired."""
    snapshot = make_snapshot()
    vip = VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, ACTIVATED - 3600.0)
    assert values_of(snapshot, vip)["expiry"] == 1


def test_every_node_gives_the_same_address_within_a_slot() -> None:
    """Two makers agree on the address throughout a renewal slot, and it changes with the slot."""
    snapshot = make_snapshot()
    start = NOW // 60 * 60
    one, other = VipMaker(snapshot), VipMaker(make_snapshot())
    first = one.aaaa(WWW, known(snapshot), ANYWHERE, start)
    assert other.aaaa(WWW, known(snapshot), through("203.0.113.1"), start + 59.9) == first
    later = {one.aaaa(WWW, known(snapshot), ANYWHERE, start + 60 * i).address for i in range(1, 30)}
    assert first.address not in later or len(later) > 10  # six bits of nonce may meet again
    assert len(later) > 10


def test_repeated_question_is_a_look_up() -> None:
    """Within a slot the same client gets the very same object."""
    snapshot = make_snapshot()
    maker = VipMaker(snapshot)
    start = NOW // 60 * 60
    assert maker.aaaa(WWW, known(snapshot), ANYWHERE, start) is maker.aaaa(WWW, known(snapshot), ANYWHERE, start + 30)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of anonymous prefixes is answered rightly with no more memory than the bound."""
    monkeypatch.setattr(issuer, "MEMO_SIZE", 8)
    snapshot = make_snapshot(ENCODED)
    maker = VipMaker(snapshot)
    flood = [through(f"10.0.{i}.1") for i in range(50)]
    first = [maker.aaaa(WWW, NOBODY, requester, NOW) for requester in flood]
    assert [maker.aaaa(WWW, NOBODY, requester, NOW) for requester in flood] == first
    assert len(maker._issuers["web"]._cache) <= 8


def test_anonymous_gets_the_plain_vip() -> None:
    """With anonymous = "plain" an unclassified client gets the plain VIP with the cluster's TTL."""
    vip = ask(make_snapshot(), ANYWHERE)
    assert vip == Vip(int(IPv6Address("2001:db8:a:1::1")), 60, Kind.PLAIN)


def test_anonymous_encoded_is_client_zero_of_the_default_tier() -> None:
    """With anonymous = "encoded" the address carries client 0 and the default tier's code."""
    snapshot = make_snapshot(ENCODED)
    values = values_of(snapshot, ask(snapshot, ANYWHERE))
    assert (values["tier"], values["client"]) == (2, 0)


@pytest.mark.parametrize(
    ("one", "other", "scopes", "same"),
    [
        (through("192.0.2.1"), through("192.0.2.200"), (None, None), True),  # one /24
        (through("192.0.2.1"), through("192.0.3.1"), (None, None), False),
        (through("2001:db8:1:2::1"), through("2001:db8:1:3::1"), (None, None), True),  # one /48
        (through("2001:db8:1::1"), through("2001:db8:2::1"), (None, None), False),
        (through("127.0.0.1", "10.0.0.0/24"), through("::1", "10.0.0.9/32"), (24, 24), True),
        (through("127.0.0.1", "10.0.0.0/24"), through("127.0.0.1", "10.0.1.0/24"), (24, 24), False),
        (through("127.0.0.1", "10.0.0.0/16"), through("127.0.0.1", "10.0.0.0/24"), (16, 24), False),
        (through("127.0.0.1", "2001:db8::/56"), through("127.0.0.1", "2001:db8:0:ff::/64"), (48, 48), True),
        (through("127.0.0.1", "10.0.0.0/0"), through("127.0.0.9"), (None, None), True),  # SOURCE 0 hides the client
        (through("192.0.2.1", "10.0.0.0/24"), through("192.0.2.1", "10.9.0.0/24"), (None, None), True),  # not trusted
        (through("127.0.0.1", "198.51.101.0/24"), through("127.0.0.1", "198.51.101.77/32"), (24, 24), True),
    ],
)
def test_anonymous_addresses_are_by_prefix(
    one: Requester, other: Requester, scopes: tuple[int | None, int | None], same: bool
) -> None:
    """Anonymous clients share an address within their prefix, and the answer tells the ECS scope it was made for."""
    wide = {"cluster": {"web": {"layout": [["tier", 4], ["client", 5], ["nonce", 28]], **ENCODED["cluster"]["web"]}}}
    snapshot = make_snapshot(wide | {"client": {"acme": {"id": 3}, "newsreader": {"id": 4}}})
    first, second = ask(snapshot, one), ask(snapshot, other)
    assert (first.scope, second.scope) == scopes
    assert (first.address == second.address) is same


@given(
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 32),
    st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.integers(8, 32))),
)
def test_anonymous_scope_holds_for_all_of_it(address: int, source: int, cuts: list[tuple[int, int]]) -> None:
    """Every ECS address inside the scope of an encoded default answer gets that answer at the same SOURCE."""
    matches = {f"{IPv4Address(number >> 32 - bits << 32 - bits)}/{bits}" for number, bits in cuts}
    changes = ENCODED | {"client": {"acme": {"match": [{"ecs": match} for match in sorted(matches)]}}}
    snapshot = make_snapshot(changes)
    maker, classifier = VipMaker(snapshot), Classifier(snapshot)

    def told(number: int) -> tuple[int, int]:
        requester = Requester(ip_address("127.0.0.1"), ecs=Ecs(IPv4Address(number), source))
        who = classifier.classify(requester)
        vip = maker.aaaa(WWW, who, requester, NOW)
        return vip.address, who.scope if vip.scope is None else vip.scope

    first, scope = told(address)
    block = IPv4Network((address >> 32 - source << 32 - source, source))
    assert scope <= source or any(IPv4Network(match).subnet_of(block) for match in matches)
    for bit in range(32 - scope):
        assert told(address ^ 1 << bit) == (first, scope)


def test_layout_without_nonce_and_session_is_the_same_for_all_anonymous() -> None:
    """Where nothing in the address depends on the prefix, all anonymous clients share it and no scope is asked for."""
    snapshot = make_snapshot(
        {"cluster": {"web": {**ENCODED["cluster"]["web"], "layout": [["tier", 4], ["client", 33]]}}}
    )
    one, other = ask(snapshot, through("127.0.0.1", "10.0.0.0/24")), ask(snapshot, through("192.0.2.1"))
    assert one == other
    assert one.scope is None


def test_session_is_stable_in_an_epoch() -> None:
    """The session of a client stays over slots while nonces change, and differs between clients and prefixes."""
    layout = [["tier", 4], ["client", 12], ["nonce", 6], ["session", 15]]
    snapshot = make_snapshot({"cluster": {"web": {**ENCODED["cluster"]["web"], "layout": layout}}})
    maker = VipMaker(snapshot)

    def session(who: Classified, requester: Requester, now: float = NOW) -> int:
        return values_of(snapshot, maker.aaaa(WWW, who, requester, now))["session"]

    acme = known(snapshot)
    assert len({session(acme, ANYWHERE, NOW + 60 * i) for i in range(20)}) == 1
    assert session(acme, ANYWHERE) != session(known(snapshot, "newsreader"), ANYWHERE)
    assert session(NOBODY, through("192.0.2.1")) == session(NOBODY, through("192.0.2.9"), NOW + 600)
    assert session(NOBODY, through("192.0.2.1")) != session(NOBODY, through("192.0.3.1"))


def test_reserved_address_takes_another_nonce() -> None:
    """Where the first nonce gives the plain VIP, the next one is taken, by single answers and batches alike."""
    snapshot = make_snapshot()
    first = VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, NOW)
    clash = make_snapshot({"cluster": {"web": {"plain": str(IPv6Address(first.address))}}})
    vip = VipMaker(clash).aaaa(WWW, known(clash), ANYWHERE, NOW)
    assert vip.address != first.address
    assert values_of(clash, vip)["nonce"] == (values_of(snapshot, first)["nonce"] + 1) % 64
    assert VipMaker(clash).seal_batch(WWW, [(known(clash), ANYWHERE)], NOW) == [vip]


def test_reserved_address_without_nonce_is_the_plain_vip() -> None:
    """Where the layout has no nonce to change, the plain VIP is answered and counted as such."""
    layout = {"layout": [["tier", 4], ["client", 33]]}
    snapshot = make_snapshot({"cluster": {"web": layout}})
    first = VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, NOW)
    clash = make_snapshot({"cluster": {"web": {**layout, "plain": str(IPv6Address(first.address))}}})
    assert VipMaker(clash).aaaa(WWW, known(clash), ANYWHERE, NOW) == Vip(first.address, 60, Kind.NO_NONCE)


@pytest.mark.parametrize("held", [[], None])
def test_without_active_epoch_the_plain_vip_is_answered(held: list[Any] | None) -> None:
    """With no epoch, or no keyring at all, an identified client gets the plain VIP, and its kind says why."""
    snapshot = replace(make_snapshot(), keyrings={}) if held is None else make_snapshot(epochs=held)
    vip = VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, NOW)
    assert vip == Vip(int(IPv6Address("2001:db8:a:1::1")), 60, Kind.NO_EPOCH)


@pytest.mark.parametrize(
    "client",
    [
        Client("huge", 1 << 20, "gold"),
        Client("lost", 5, "no-such-tier"),
    ],
)
def test_client_that_does_not_fit_gets_the_plain_vip(client: Client) -> None:
    """An id too large for its field, or a tier that is not there, is answered the plain VIP and counted."""
    assert VipMaker(make_snapshot()).aaaa(WWW, Classified(client, Step.SOURCE), ANYWHERE, NOW).kind is Kind.UNFIT


def test_new_epoch_changes_the_address() -> None:
    """Under a new epoch the same client has another address, of that epoch's slot."""
    old, new = make_snapshot(), make_snapshot(epochs=[active_epoch(slot=3)])
    vips = [VipMaker(snapshot).aaaa(WWW, known(snapshot), ANYWHERE, NOW) for snapshot in (old, new)]
    layout = old.keyrings["web"].layout
    assert [vip.address >> layout.epoch_shift & 3 for vip in vips] == [0, 3]


requesters = st.one_of(
    st.integers(0, (1 << 32) - 1).map(lambda number: Requester(IPv4Address(number))),
    st.integers(0, (1 << 128) - 1).map(lambda number: Requester(IPv6Address(number))),
    st.builds(
        lambda number, bits: Requester(ip_address("127.0.0.1"), ecs=Ecs(IPv4Address(number), bits)),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, 32),
    ),
    st.just(Requester(ip_address("203.0.113.7"))),
)


@settings(max_examples=50)
@given(st.lists(requesters, max_size=30), st.lists(requesters, max_size=5), st.booleans())
def test_batch_is_one_by_one(asked: list[Requester], before: list[Requester], encoded: bool) -> None:
    """A batch of known, anonymous and repeated requesters gives what asking one by one gives, in the same order."""
    snapshot = make_snapshot(ENCODED if encoded else None)
    classifier, one, other = Classifier(snapshot), VipMaker(snapshot), VipMaker(snapshot)
    pairs = [(classifier.classify(requester), requester) for requester in asked]
    for requester in before:
        other.aaaa(WWW, classifier.classify(requester), requester, NOW)
    assert other.seal_batch(WWW, pairs, NOW) == [one.aaaa(WWW, who, requester, NOW) for who, requester in pairs]


def test_ipv4_address_is_the_class() -> None:
    """A gold client's A is one of gold's host numbers; an anonymous one's is the plain address."""
    snapshot = make_snapshot()
    maker = VipMaker(snapshot)
    assert maker.a(WWW, known(snapshot), ANYWHERE, NOW) == Vip(int(IPv4Address("192.0.2.9")), 60, Kind.CLASS)
    assert maker.a(WWW, NOBODY, ANYWHERE, NOW) == Vip(int(IPv4Address("192.0.2.1")), 60, Kind.PLAIN)


def test_tier_without_class_gets_the_plain_ipv4_address() -> None:
    """A tier that the class table does not name is answered the plain IPv4 address."""
    snapshot = make_snapshot({"cluster": {"legacy": {"classes": {"standard": None}}}})
    vip = VipMaker(snapshot).a(WWW, known(snapshot, "newsreader"), ANYWHERE, NOW)
    assert vip == Vip(int(IPv4Address("192.0.2.1")), 60, Kind.PLAIN)


def test_service_without_ipv4_cluster_has_no_ipv4_address() -> None:
    """A service with no cluster4 has no A."""
    snapshot = make_snapshot()
    assert VipMaker(snapshot).a(replace(WWW, cluster4=None), known(snapshot), ANYWHERE, NOW) is None


def test_addresses_lie_in_the_prefix() -> None:
    """Whatever is asked, the address lies in the cluster's prefix."""
    snapshot = make_snapshot(ENCODED)
    prefix = IPv6Network("2001:db8:a:1::/64")
    vips = [ask(snapshot, through(f"10.{i}.0.1"), NOW + i) for i in range(200)]
    assert all(IPv6Address(vip.address) in prefix for vip in vips)


def test_each_answer_has_a_nonce() -> None:
    """With `nonce = "answer"` no two answers of a client are alike, one by one or in a batch, and each is its own."""
    changes = {"cluster": {"web": {"layout": [["tier", 4], ["client", 13], ["nonce", 20]], "nonce": "answer"}}}
    snapshot = make_snapshot(changes)
    vips, who = VipMaker(snapshot), known(snapshot)
    made = [vips.aaaa(WWW, who, ANYWHERE, NOW) for _ in range(20)]
    made += vips.seal_batch(WWW, [(who, ANYWHERE)] * 20, NOW)
    assert len({vip.address for vip in made if vip}) == 40
    assert {values_of(snapshot, vip)["client"] for vip in made if vip} == {1001}
    assert vips.fresh == {"web"}
    assert VipMaker(make_snapshot()).fresh == frozenset()
