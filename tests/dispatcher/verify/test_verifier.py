"""Address verification: the eight steps in order, for every result, and their explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.explain import DecodingStep
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import ClientState, Service, Snapshot, Step
from tests.address.strategies import layouts
from tests.samples import (
    ACTIVATED,
    MASTER,
    NOW,
    SECRET,
    active_epoch,
    make_site,
    make_snapshot,
    snapshot_of,
    with_layout,
)

SOURCE, PORT = int(IPv6Address("2001:db8:77::5")), 40_000
GOOD = {"tier": 1, "client": 1001, "expiry": 127, "nonce": 9}
MODE, EPOCH_SHIFT = 1 << 63, 61


def issue(snapshot: Snapshot, **changed: int) -> int:
    """An address of cluster web with GOOD values but for what is changed, under the epoch in slot 0."""
    entry = snapshot.keyrings["web"].at(0)
    assert entry is not None
    return entry[1].encode({**GOOD, **changed})


def proven(
    snapshot: Snapshot,
    issued: int | None = None,
    *,
    client: int = 1001,
    generation: int = 0,
    bind: Bind = Bind.ADDRESS,
    source: int = SOURCE,
    port: int = PORT,
    slot: int = int(NOW) // 30,
) -> int:
    layout = snapshot.keyrings["web"].layout
    key = client_key(MASTER, layout, client, generation)
    return prove(layout, issue(snapshot) if issued is None else issued, key, bind, source, port, slot)


def name_of(verdict: AddressVerdict) -> str | None:
    """The name of the verdict's cluster."""
    return verdict.cluster.name if verdict.cluster else None


def explained(address: int) -> tuple[DecodingStep, ...]:
    """The steps of the sample snapshot's verdict on an address."""
    verifier = AddressVerifier(SNAPSHOT)
    return verifier.explain(verifier.verify(address, SOURCE, PORT, NOW), address, NOW)


def verify(snapshot: Snapshot, address: int, now: float = NOW, **more: Any) -> AddressVerdict:
    return AddressVerifier(snapshot).verify(address, SOURCE, PORT, now, **more)


def told(verdict: AddressVerdict) -> tuple[AddressReason, str | None]:
    return verdict.reason, verdict.tier.name if verdict.tier else None


def with_client(state: ClientState = ClientState.ENABLED, generation: int = 0, **changes: Any) -> Snapshot:
    """The sample, with acme's record changed by tables and by what only the API sets."""
    site = make_site(changes)
    acme = replace(site.clients["acme"], state=state, key_generation=generation)
    return snapshot_of(replace(site, clients={**site.clients, "acme": acme}))


def test_issued_address_is_read() -> None:
    """A good issued address gives its client's tier, id, fields, mode and epoch."""
    snapshot = make_snapshot()
    verdict = verify(snapshot, issue(snapshot))
    assert told(verdict) == (AddressReason.ISSUED, "gold")
    assert verdict.accepted
    assert (name_of(verdict), verdict.client, verdict.mode, verdict.epoch) == ("web", 1001, 0, 0)
    assert verdict.values == GOOD


def test_proven_address_is_read() -> None:
    """A good proven address is accepted as proven, with the same fields."""
    snapshot = make_snapshot()
    verdict = verify(snapshot, proven(snapshot))
    assert told(verdict) == (AddressReason.PROVEN, "gold")
    assert (verdict.accepted, verdict.mode, verdict.values) == (True, 1, GOOD)


@pytest.mark.parametrize(
    ("address", "expected", "cluster"),
    [
        ("2001:db8:a:2::5", (AddressReason.NOT_OURS, None), None),
        ("::1", (AddressReason.NOT_OURS, None), None),
        ("2001:db8:a:1::1", (AddressReason.PLAIN, "standard"), "web"),
        ("2001:db8:a:1:4000::", (AddressReason.UNKNOWN_EPOCH, None), "web"),
        ("2001:db8:a:1:1::", (AddressReason.BAD_TAG, None), "web"),
        ("2001:db8:a:1:8001::", (AddressReason.BAD_TAG, None), "web"),
        ("192.0.2.1", (AddressReason.PLAIN, "standard"), "legacy"),
        ("192.0.2.8", (AddressReason.CLASS, "gold"), "legacy"),
        ("192.0.2.3", (AddressReason.CLASS, "standard"), "legacy"),
        ("192.0.2.5", (AddressReason.BAD_PAYLOAD, None), "legacy"),
        ("192.0.2.16", (AddressReason.NOT_OURS, None), None),
    ],
)
def test_addresses_that_nobody_issued(
    address: str, expected: tuple[AddressReason, str | None], cluster: str | None
) -> None:
    """Foreign, plain, forged and IPv4 addresses each have their own outcome."""
    verdict = verify(make_snapshot(), int(ip_address(address)))
    assert told(verdict) == expected
    assert name_of(verdict) == cluster
    assert verdict.accepted is (expected[0] in (AddressReason.PLAIN, AddressReason.CLASS))


def test_payload_tier_must_exist() -> None:
    """An authentic address with a tier code of no tier is a bad payload."""
    snapshot = make_snapshot()
    assert told(verify(snapshot, issue(snapshot, tier=7))) == (AddressReason.BAD_PAYLOAD, None)


def test_attribute_must_be_in_its_table() -> None:
    """An attribute number outside its table is a bad payload; 0 means not set, and without a table any number goes."""
    layout = [["tier", 4], ["client", 20], ["lang", 4], ["age", 9]]
    snapshot = make_snapshot({"cluster": {"web": {"layout": layout, "values": {"lang": {"en": 1, "fr": 2}}}}})
    entry = snapshot.keyrings["web"].active
    assert entry is not None
    reasons = [
        verify(snapshot, entry[1].encode({"tier": 1, "client": 1001, "lang": lang, "age": 300})).reason
        for lang in (0, 1, 2, 3)
    ]
    assert reasons == [AddressReason.ISSUED, AddressReason.ISSUED, AddressReason.ISSUED, AddressReason.BAD_PAYLOAD]


@pytest.mark.parametrize(
    ("expiry", "now", "reason"),
    [
        (6, ACTIVATED + 5399.9, AddressReason.ISSUED),
        (6, ACTIVATED + 5400, AddressReason.EXPIRED),
        (0, ACTIVATED, AddressReason.EXPIRED),
        (126, ACTIVATED + 126 * 900 - 1, AddressReason.ISSUED),
        (127, ACTIVATED + 10**9, AddressReason.ISSUED),  # the highest value: as long as the epoch
    ],
)
def test_expiry_counts_from_the_activation(expiry: int, now: float, reason: AddressReason) -> None:
    """An address is good until its expiry in units after the epoch's activation, the highest value for ever."""
    snapshot = make_snapshot()
    assert verify(snapshot, issue(snapshot, expiry=expiry), now).reason is reason


def test_epoch_not_known_to_be_active_does_not_expire_addresses() -> None:
    """Where the news of an epoch's activation is still on its way, its addresses are good already."""
    snapshot = make_snapshot(epochs=[Epoch(0, EpochState.PUBLISHED, SECRET, published_at=ACTIVATED - 60)])
    assert verify(snapshot, issue(snapshot, expiry=1)).reason is AddressReason.ISSUED


def test_retiring_epoch_still_decodes() -> None:
    """Addresses of an epoch that is retiring are good beside those of the active one."""
    retiring = Epoch(0, EpochState.RETIRING, SECRET, activated_at=ACTIVATED, retiring_since=ACTIVATED + 4000)
    snapshot = make_snapshot(epochs=[retiring, active_epoch(slot=1)])
    assert verify(snapshot, issue(snapshot)).reason is AddressReason.ISSUED


def test_cluster_without_keys_knows_no_epoch() -> None:
    """In a cluster whose keyring is not here, every encoded address is of an unknown epoch and the plain VIP works."""
    snapshot = make_snapshot()
    bare = replace(snapshot, keyrings={}, masters={})
    assert verify(bare, issue(snapshot)).reason is AddressReason.UNKNOWN_EPOCH
    assert verify(bare, int(IPv6Address("2001:db8:a:1::1"))).reason is AddressReason.PLAIN


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.REVOKED])
def test_disabled_client_is_revoked(state: ClientState) -> None:
    """Addresses of a disabled or revoked client are rejected, issued and proven ones."""
    snapshot = with_client(state)
    assert told(verify(snapshot, issue(snapshot))) == (AddressReason.REVOKED, None)
    assert told(verify(snapshot, proven(snapshot))) == (AddressReason.REVOKED, None)


@pytest.mark.parametrize("state", list(ClientState))
def test_deleted_client_is_revoked(state: ClientState) -> None:
    """Addresses of a deleted client are rejected, whatever its state was; an expired one is still `expired`, and one
    without the client's id still good. The explanation says why."""
    before = with_client(state)
    without = replace(before.site, clients={"newsreader": before.site.clients["newsreader"]})
    snapshot = replace(before, site=without, deleted={1001: 7})
    assert told(verify(snapshot, issue(snapshot))) == (AddressReason.REVOKED, None)
    assert told(verify(snapshot, proven(snapshot))) == (AddressReason.REVOKED, None)
    assert verify(snapshot, issue(snapshot, expiry=1)).reason is AddressReason.EXPIRED
    assert verify(snapshot, issue(snapshot, client=1002)).reason is AddressReason.ISSUED
    assert verify(snapshot, issue(snapshot, client=0)).reason is AddressReason.ISSUED
    verifier = AddressVerifier(snapshot)
    steps = verifier.explain(verifier.verify(issue(snapshot), SOURCE, PORT, NOW), issue(snapshot), NOW)
    assert steps[-2].detail.startswith("client 1001 is a deleted client")
    assert not steps[-2].ok


def test_record_replaces_the_payload_tier() -> None:
    """A change of a client's tier acts on addresses issued before, both ways."""
    snapshot = make_snapshot({"client": {"acme": {"tier": "blocked"}}})
    assert told(verify(snapshot, issue(snapshot))) == (AddressReason.ISSUED, "blocked")
    snapshot = make_snapshot()
    assert told(verify(snapshot, issue(snapshot, tier=2))) == (AddressReason.ISSUED, "gold")


def test_unknown_client_keeps_the_payload_tier_but_proves_nothing() -> None:
    """Without the client's record the payload's tier applies, and no proof can be verified."""
    snapshot = make_snapshot()
    issued = issue(snapshot, client=77)
    assert told(verify(snapshot, issued)) == (AddressReason.ISSUED, "gold")
    assert told(verify(snapshot, proven(snapshot, issued, client=77))) == (AddressReason.BAD_PROOF, None)
    anonymous = issue(snapshot, client=0)
    assert told(verify(snapshot, anonymous)) == (AddressReason.ISSUED, "gold")
    assert told(verify(snapshot, proven(snapshot, anonymous, client=0))) == (AddressReason.BAD_PROOF, None)


def test_layout_without_tier_takes_the_record_or_the_default() -> None:
    """Without a tier field the record says the tier, and an unknown client has the default one."""
    snapshot = make_snapshot({"cluster": {"web": {"layout": [["client", 30], ["nonce", 7]]}}})
    entry = snapshot.keyrings["web"].active
    assert entry is not None
    assert told(verify(snapshot, entry[1].encode({"client": 1001, "nonce": 3}))) == (AddressReason.ISSUED, "gold")
    assert told(verify(snapshot, entry[1].encode({"client": 5, "nonce": 3}))) == (AddressReason.ISSUED, "standard")


def test_layout_without_client_takes_the_tier() -> None:
    """Without a client field the tier applies, and no proof is possible."""
    snapshot = make_snapshot({"cluster": {"web": {"layout": [["tier", 4], ["nonce", 33]]}}})
    entry = snapshot.keyrings["web"].active
    assert entry is not None
    address = entry[1].encode({"tier": 1, "nonce": 3})
    assert told(verify(snapshot, address)) == (AddressReason.ISSUED, "gold")
    assert told(verify(snapshot, address | MODE)) == (AddressReason.BAD_PROOF, None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tier": {"gold": {"require_proof": True}}}, (AddressReason.UNPROVEN, None)),
        ({"tier": {"gold": {"require_proof": True, "unproven": "default-tier"}}}, (AddressReason.UNPROVEN, "standard")),
        ({"client": {"acme": {"proof": {"required": True}}}}, (AddressReason.UNPROVEN, None)),
        (
            {"client": {"acme": {"proof": {"required": True}}}, "tier": {"gold": {"unproven": "default-tier"}}},
            (AddressReason.UNPROVEN, "standard"),
        ),
        (
            {"client": {"acme": {"proof": {"required": True}}}, "cluster": {"web": {"on_invalid": "default-tier"}}},
            (AddressReason.UNPROVEN, "standard"),
        ),
    ],
)
def test_demanded_proof(changes: Mapping[str, Any], expected: tuple[AddressReason, str | None]) -> None:
    """Where tier or client demands proof, an issued address is unproven and goes where tier and cluster say."""
    snapshot = make_snapshot(changes)
    unproven = verify(snapshot, issue(snapshot))
    assert told(unproven) == expected
    assert not unproven.accepted
    assert told(verify(snapshot, proven(snapshot))) == (AddressReason.PROVEN, "gold")


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_proof_is_good_in_three_slots(shift: int) -> None:
    """A proof is good in its own slot, the one before and the one after."""
    snapshot = make_snapshot()
    address = proven(snapshot, slot=int(NOW) // 30 + shift)
    assert verify(snapshot, address).reason is (AddressReason.PROVEN if abs(shift) <= 1 else AddressReason.BAD_PROOF)


@pytest.mark.parametrize(
    ("bind", "other_source", "other_port", "reason"),
    [
        ("none", True, True, AddressReason.PROVEN),
        ("address", False, True, AddressReason.PROVEN),
        ("address", True, False, AddressReason.BAD_PROOF),
        ("address+port", False, False, AddressReason.PROVEN),
        ("address+port", False, True, AddressReason.BAD_PROOF),
        ("address+port", True, False, AddressReason.BAD_PROOF),
    ],
)
def test_proof_is_bound_as_the_record_says(
    bind: str, other_source: bool, other_port: bool, reason: AddressReason
) -> None:
    """The record says whether the proof is bound to source address and port."""
    snapshot = make_snapshot({"client": {"acme": {"proof": {"bind": bind}}}})
    address = proven(snapshot, bind=Bind(bind), source=SOURCE + other_source, port=PORT + other_port)
    assert verify(snapshot, address).reason is reason


def test_raised_generation_revokes_the_old_key() -> None:
    """After a client's key generation was raised, only the new key proves."""
    snapshot = with_client(generation=1)
    assert verify(snapshot, proven(snapshot, generation=0)).reason is AddressReason.BAD_PROOF
    assert verify(snapshot, proven(snapshot, generation=1)).reason is AddressReason.PROVEN


def test_single_use() -> None:
    """A proven address that another flow used is refused where the record asks for it, and only there."""
    snapshot = make_snapshot({"client": {"acme": {"proof": {"single_use": True}}}})
    address = proven(snapshot)
    assert verify(snapshot, address, used=lambda _: False).reason is AddressReason.PROVEN
    assert told(verify(snapshot, address, used=lambda seen: seen == address)) == (AddressReason.REPLAYED, None)
    assert verify(make_snapshot(), address, used=lambda _: True).reason is AddressReason.PROVEN


def test_only_good_addresses_are_asked_for_use() -> None:
    """Whether an address was used is asked once, and never for one that is rejected anyway."""
    snapshot = make_snapshot({"client": {"acme": {"proof": {"single_use": True}}}})
    asked: list[int] = []

    def used(address: int) -> bool:
        asked.append(address)
        return False

    good = proven(snapshot)
    for address in (issue(snapshot), good ^ 1, proven(snapshot, source=1), good):
        verify(snapshot, address, used=used)
    assert asked == [good]


def test_on_invalid_default_tier() -> None:
    """Where the cluster says so, rejected addresses keep their reason and get the default tier."""
    snapshot = make_snapshot({"cluster": {"web": {"on_invalid": "default-tier"}}})
    expected = {
        AddressReason.UNKNOWN_EPOCH: issue(snapshot) | 1 << EPOCH_SHIFT,
        AddressReason.BAD_TAG: issue(snapshot) ^ 1,
        AddressReason.BAD_PAYLOAD: issue(snapshot, tier=7),
        AddressReason.EXPIRED: issue(snapshot, expiry=1),
        AddressReason.BAD_PROOF: proven(snapshot, source=1),
    }
    for reason, address in expected.items():
        verdict = verify(snapshot, address)
        assert told(verdict) == (reason, "standard")
        assert not verdict.accepted


def test_earlier_steps_come_first() -> None:
    """An address wrong in many ways is rejected for the first of them, in the order of the format."""
    snapshot = with_client(ClientState.REVOKED, client={"acme": {"proof": {"required": True}}})
    broken = {
        AddressReason.UNKNOWN_EPOCH: (issue(snapshot, tier=7, expiry=1) ^ 1) | 1 << EPOCH_SHIFT,
        AddressReason.BAD_TAG: issue(snapshot, tier=7, expiry=1) ^ 1,
        AddressReason.BAD_PAYLOAD: issue(snapshot, tier=7, expiry=1),
        AddressReason.EXPIRED: issue(snapshot, expiry=1),
        AddressReason.REVOKED: issue(snapshot),
    }
    for reason, address in broken.items():
        assert verify(snapshot, address).reason is reason


def test_each_cluster_decides_its_own_addresses() -> None:
    """Addresses of clusters with prefixes of different lengths are verified by their own cluster."""
    other = {
        "prefix": "2001:db8:c::/48",
        "plain": "2001:db8:c::1",
        "layout": [["tier", 4], ["client", 24], ["nonce", 17]],
        "tag_bits": 32,
        "default_tier": "gold",
    }
    snapshot = make_snapshot({"cluster": {"files": other}})
    entry = snapshot.keyrings["files"].active
    assert entry is not None
    address = entry[1].encode({"tier": 2, "client": 1002, "nonce": 5})
    assert name_of(verify(snapshot, address)) == "files"
    assert name_of(verify(snapshot, issue(snapshot))) == "web"
    assert told(verify(snapshot, int(IPv6Address("2001:db8:c::1")))) == (AddressReason.PLAIN, "gold")


@given(layouts(), st.booleans(), st.floats(0, 1e6), st.floats(0, 1))
def test_what_dns_issues_is_accepted(layout: Layout, anonymous: bool, later: float, within: float) -> None:
    """Under any layout, an address is accepted with the right client from its answer to the end of its TTL."""
    snapshot = with_layout(layout)
    site = snapshot.site
    client = None if anonymous else site.clients["acme"]
    now = ACTIVATED + later
    who = Classified(client, Step.SOURCE)
    vip = VipMaker(snapshot).aaaa(Service("www", "web"), who, Requester(IPv4Address("192.0.2.7")), now)
    verdict = AddressVerifier(snapshot).verify(vip.address, SOURCE, PORT, now + within * vip.ttl)
    if vip.address >> 32 == 0:
        return  # inside ::/96, which the judge takes for IPv4 and no cluster has
    if vip.kind is Kind.UNFIT:
        assert verdict.reason is AddressReason.PLAIN
        return
    assert verdict.reason is AddressReason.ISSUED
    assert verdict.client == (1001 if client and layout.bits("client") else 0)
    expected = "gold" if client and (layout.bits("client") or layout.bits("tier")) else "standard"
    assert verdict.tier is site.tiers[expected]


SNAPSHOT = make_snapshot({"client": {"acme": {"proof": {"single_use": True}}}})
WITHIN_WEB = st.integers(0, (1 << 64) - 1).map(
    lambda suffix: int(IPv6Network("2001:db8:a:1::/64").network_address) | suffix
)
authentic = st.builds(
    lambda tier, client, expiry: issue(SNAPSHOT, tier=tier, client=client, expiry=expiry),
    st.integers(0, 15),
    st.sampled_from([0, 77, 1001, 1002]),
    st.integers(0, 127),
)
addresses = st.one_of(
    st.integers(0, (1 << 128) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(int(IPv4Address("192.0.2.0")), int(IPv4Address("192.0.2.15"))),
    WITHIN_WEB,
    authentic,
    authentic.map(lambda issued: proven(SNAPSHOT, issued)),
    authentic.map(lambda issued: issued | MODE),
)


@given(addresses, st.integers(0, (1 << 128) - 1), st.integers(0, 65535), st.floats(0, 4e9), st.booleans())
def test_nothing_raises_and_the_story_fits(address: int, source: int, port: int, now: float, used: bool) -> None:
    """Any address is judged without raising, and its explanation stops at the step that the judgement names."""
    verifier = AddressVerifier(SNAPSHOT)
    verdict = verifier.verify(address, source, port, now, lambda _: used)
    steps = verifier.explain(verdict, address, now)
    assert all(step.title and step.detail for step in steps)
    failed = [step for step in steps if not step.ok]
    if verdict.reason is AddressReason.NOT_OURS:
        assert [step.title for step in failed] == ["prefix"]
        return
    assert steps[-1].title == "verdict"
    assert verdict.reason in steps[-1].detail
    assert len(failed) == (0 if verdict.accepted else 2)
    assert verdict.accepted or failed == list(steps[-2:])


@pytest.mark.parametrize(
    ("address", "title", "words"),
    [
        (int(IPv6Address("2001:db8:a:1::1")), "plain VIP", "is the plain VIP"),
        (issue(SNAPSHOT) | 1 << EPOCH_SHIFT, "epoch", "slot 1: this slot is empty or its epoch is retired"),
        (issue(SNAPSHOT) ^ 1, "tag", "24 tag bits do not fit"),
        (issue(SNAPSHOT), "payload", "tier 1 (gold), client 1001 (acme), expiry 127, nonce 9"),
        (issue(SNAPSHOT, tier=7), "payload", "tier 7 (no such tier)"),
        (issue(SNAPSHOT, client=0), "payload", "client 0 (anonymous)"),
        (issue(SNAPSHOT), "expiry", "as long as its epoch"),
        (issue(SNAPSHOT, expiry=6), "expiry", "good until 2023-11-14 23:43:20 UTC, 400 s from now"),
        (issue(SNAPSHOT, expiry=1), "expiry", "was good until 2023-11-14 22:28:20 UTC, 4100 s ago"),
        (issue(SNAPSHOT), "client", "acme is enabled, its record says tier gold"),
        (issue(SNAPSHOT), "verdict", "accepted as issued: tier gold, pool fast"),
        (issue(SNAPSHOT, client=0, tier=15), "verdict", "accepted as issued: tier blocked, drop"),
        (proven(SNAPSHOT), "tag", "the top 8 of the 24 tag bits fit"),
        (proven(SNAPSHOT), "proof", "fits the key of acme (generation 0), source address"),
        (proven(SNAPSHOT, source=3), "proof", "does not fit the key of acme (generation 0), source address"),
        (int(IPv4Address("192.0.2.8")), "class", "host numbers of tier gold"),
    ],
)
def test_explanation_says_what_it_is_about(address: int, title: str, words: str) -> None:
    """Each step of the explanation tells its fact in words."""
    steps = {step.title: step.detail for step in explained(address)}
    assert words in steps[title]


def test_explanation_of_a_forgery_holds_no_key_material() -> None:
    """The explanation of a forged address never contains the valid tag."""
    good = issue(SNAPSHOT)
    text = " ".join(step.detail for step in explained(good ^ 1))
    assert f"{good & 0xFFFF:x}" not in text
