"""What clients themselves say, as the verifier reads it: claims, flow labels, source addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import pytest

from dnsvip.address.fields import pack_claims
from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.address.source import SourceCodec
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.explain import verdict_json
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.site import ClientState, Cluster, Snapshot
from tests.samples import ACTIVATED, MASTER, NOW, SECRET, active_epoch, make_site, snapshot_of

HOME = int(IPv6Address("2001:db8:77:5::"))
SOURCE, PORT, SLOT = HOME + 5, 40_000, int(NOW) // 30
PLAIN = int(IPv6Address("2001:db8:a:1::1"))
GOOD = {"tier": 1, "client": 1001, "expiry": 63}
OWN = {"tier": 1, "client": 1001, "expiry": 127, "nonce": 9}
WEB: Mapping[str, Any] = {
    "layout": [["tier", 4], ["client", 16], ["expiry", 6]],
    "claims": [["content", 3], ["session", 8]],
    "label": {"claims": [["quality", 4], ["priority", 3]], "mac_bits": 13},
    "source": {"layout": [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]], "tag_bits": 24},
    "values": {"content": {"video": 1, "page": 2}, "quality": {"high": 9}},
}


def saying(state: ClientState = ClientState.ENABLED, **tables: Any) -> Snapshot:
    """The sample, whose clients say something, with acme's state and other tables changed."""
    web = {key: value for key, value in {**WEB, **tables.pop("web", {})}.items() if value is not None}
    site = make_site({**tables, "cluster": {"web": web}})
    acme = replace(site.clients["acme"], state=state)
    return snapshot_of(replace(site, clients={**site.clients, "acme": acme}))


SNAPSHOT = saying()


def web(snapshot: Snapshot = SNAPSHOT) -> Cluster:
    cluster = snapshot.site.clusters["web"]
    assert isinstance(cluster, Cluster)
    return cluster


def issue(snapshot: Snapshot = SNAPSHOT, **changed: int) -> int:
    entry = snapshot.keyrings["web"].at(0)
    assert entry is not None
    return entry[1].encode({**GOOD, **changed})


def key(snapshot: Snapshot = SNAPSHOT) -> bytes:
    return client_key(MASTER, web(snapshot).address_layout, 1001, 0)


def proven(snapshot: Snapshot = SNAPSHOT, slot: int = SLOT, **said: int) -> int:
    layout = web(snapshot).address_layout
    claims = pack_claims(layout.claims, said)
    return prove(layout, issue(snapshot), key(snapshot), Bind.ADDRESS, SOURCE, PORT, slot, claims)


def label_to(address: int, slot: int = SLOT, **said: int) -> int:
    form = web().label_format
    assert form is not None
    return form.make(address, key(), Bind.ADDRESS, SOURCE, PORT, slot, form.pack(said))


def own_address(snapshot: Snapshot = SNAPSHOT, slot: int = 0, **changed: int) -> int:
    form = web(snapshot).source_format
    assert form is not None
    return SourceCodec(form, SECRET, slot).seal(HOME, form.pack({**OWN, **changed}))


def verify(address: int, snapshot: Snapshot = SNAPSHOT, source: int = SOURCE, **more: Any) -> AddressVerdict:
    now = more.pop("now", NOW)
    return AddressVerifier(snapshot).verify(address, source, PORT, now, **more)


def told(verdict: AddressVerdict) -> tuple[AddressReason, str | None]:
    return verdict.reason, verdict.tier.name if verdict.tier else None


def explained(address: int, snapshot: Snapshot = SNAPSHOT, source: int = SOURCE, label: int = 0) -> dict[str, str]:
    """The steps' details by title; those that do not hold begin with NO."""
    verifier = AddressVerifier(snapshot)
    verdict = verifier.verify(address, source, PORT, NOW, label=label)
    return {step.title: ("" if step.ok else "NO ") + step.detail for step in verifier.explain(verdict, address, NOW)}


def test_claims_are_read() -> None:
    """A proven address says what its client claims, its session too; an issued one says nothing."""
    verdict = verify(proven(content=1, session=109))
    assert told(verdict) == (AddressReason.PROVEN, "gold")
    assert verdict.values == {**GOOD, "content": 1, "session": 109}
    assert verdict.session == 109
    issued = verify(issue())
    assert told(issued) == (AddressReason.ISSUED, "gold")
    assert (issued.values, issued.session) == (GOOD, 0)


@pytest.mark.parametrize("slot", [SLOT - 1, SLOT, SLOT + 1])
def test_claims_are_read_with_the_slot_of_the_proof(slot: int) -> None:
    """The claims of a proof of the slot before or after are read with that slot."""
    assert verify(proven(slot=slot, content=2)).values["content"] == 2


@pytest.mark.parametrize("bit", range(24, 35))
def test_a_flipped_claim_is_a_bad_proof(bit: int) -> None:
    """Each claim bit that is flipped on the way makes the proof wrong; set in an issued address it is a forgery."""
    assert verify(proven(content=1) ^ 1 << bit).reason is AddressReason.BAD_PROOF
    assert verify(issue() ^ 1 << bit).reason is AddressReason.BAD_TAG


def test_a_claim_outside_its_table_is_a_bad_payload() -> None:
    """A claim whose number no word has is invalid; 0 is not set."""
    assert told(verify(proven(content=3))) == (AddressReason.BAD_PAYLOAD, None)
    assert told(verify(proven(content=3), saying(web={"on_invalid": "default-tier"}))) == (
        AddressReason.BAD_PAYLOAD,
        "standard",
    )
    assert verify(proven(content=0)).reason is AddressReason.PROVEN


def test_a_running_flow_says_what_its_proof_holds_for() -> None:
    """A flow that is taken over keeps its claims while its proof holds, then says nothing; its label is not read."""
    fresh = verify(proven(content=1), running=True, label=label_to(proven(content=1), quality=9))
    assert (fresh.reason, fresh.unproven, fresh.values["content"]) == (AddressReason.RESUMED, False, 1)
    assert "quality" not in fresh.values
    stale = verify(proven(slot=SLOT - 9, content=1), running=True)
    assert (stale.reason, stale.unproven, stale.values) == (AddressReason.RESUMED, True, GOOD)


@pytest.mark.parametrize("proves", [True, False])
@pytest.mark.parametrize("slot", [SLOT - 1, SLOT, SLOT + 1])
def test_labels_are_read(proves: bool, slot: int) -> None:
    """The label to an issued or a proven address says what its client claims, in the slots of a proof."""
    address = proven(content=1) if proves else issue()
    verdict = verify(address, label=label_to(address, slot, quality=9, priority=5))
    assert verdict.accepted
    assert {name: verdict.values.get(name) for name in ("quality", "priority")} == {"quality": 9, "priority": 5}
    assert not verdict.label_ignored


def test_wrong_labels_are_ignored() -> None:
    """A wrong label, one of another slot or address, and one that names what no word has are no reason to reject."""
    address = issue()
    right = label_to(address, quality=9)
    for label in (right ^ 1, label_to(proven(), quality=9), label_to(address, SLOT - 2, quality=9)):
        verdict = verify(address, label=label)
        assert (verdict.reason, verdict.values, verdict.label_ignored) == (AddressReason.ISSUED, GOOD, True)
    assert verify(address, label=label_to(address, quality=8)).label_ignored
    assert verify(issue(client=77), label=right).label_ignored  # nobody's key is known for it here


def test_labels_that_are_not_looked_at() -> None:
    """Label 0 is none; nor is a label read where nothing is claimed by labels, or the address names no client."""
    assert not verify(issue()).label_ignored
    assert not verify(issue(client=0), label=77).label_ignored
    assert not verify(PLAIN, label=77).label_ignored
    plain = saying(web={"label": None, "values": {"content": {"video": 1}}})
    assert not verify(issue(), plain, label=77).label_ignored


def test_source_addresses_say_who_it_is() -> None:
    """To the plain VIP a client's own address is judged as an issued one; elsewhere it is only a source."""
    verdict = verify(PLAIN, source=own_address())
    assert told(verdict) == (AddressReason.SOURCE, "gold")
    assert (verdict.accepted, verdict.client, verdict.mode, verdict.epoch) == (True, 1001, 0, 0)
    assert verdict.values == OWN
    assert verify(issue(), source=own_address()).reason is AddressReason.ISSUED
    assert told(verify(PLAIN)) == (AddressReason.PLAIN, "standard")


@pytest.mark.parametrize(
    "source",
    [
        own_address() ^ 1,
        own_address() ^ 1 << 30,
        own_address() ^ 1 << 63,
        own_address() ^ 1 << 64,
        own_address(slot=2),
    ],
    ids=["tag", "ciphertext", "first bit", "another /64", "another epoch"],
)
def test_other_source_addresses_are_no_information(source: int) -> None:
    """What is not authentic, in the client's /64 and an epoch with a key, is an ordinary plain VIP."""
    assert told(verify(PLAIN, source=source)) == (AddressReason.PLAIN, "standard")


@pytest.mark.parametrize(
    ("snapshot", "source", "now", "expected"),
    [
        (saying(ClientState.REVOKED), own_address(), NOW, (AddressReason.REVOKED, None)),
        (SNAPSHOT, own_address(tier=9), NOW, (AddressReason.BAD_PAYLOAD, None)),
        (SNAPSHOT, own_address(expiry=5), NOW, (AddressReason.EXPIRED, None)),
        (SNAPSHOT, own_address(expiry=6), ACTIVATED + 5399, (AddressReason.SOURCE, "gold")),
        (SNAPSHOT, own_address(client=0, tier=2), NOW, (AddressReason.SOURCE, "standard")),
        (saying(tier={"gold": {"require_proof": True}}), own_address(), NOW, (AddressReason.UNPROVEN, None)),
        (
            saying(tier={"gold": {"require_proof": True, "unproven": "default-tier"}}),
            own_address(),
            NOW,
            (AddressReason.UNPROVEN, "standard"),
        ),
    ],
)
def test_source_addresses_are_judged_as_issued_ones(
    snapshot: Snapshot, source: int, now: float, expected: tuple[AddressReason, str | None]
) -> None:
    """Payload, expiry, client and a required proof decide about a client's own address too."""
    assert told(verify(PLAIN, snapshot, source, now=now)) == expected


def test_source_addresses_are_held_to_networks() -> None:
    """A client that is only served from its networks is `unproven` with an own address outside them."""
    only = saying(client={"acme": {"networks": "only"}})
    form = web(only).source_format
    assert form is not None
    codec = SourceCodec(form, SECRET, 0)
    home, elsewhere = (
        codec.seal(int(IPv6Address(net)), form.pack(OWN)) for net in ("2001:db8:77:5::", "2001:db8:99::")
    )
    assert verify(PLAIN, only, home).reason is AddressReason.SOURCE
    assert verify(PLAIN, only, elsewhere).reason is AddressReason.UNPROVEN
    assert verify(PLAIN, source=elsewhere).reason is AddressReason.SOURCE


def test_a_running_flow_from_its_own_address_is_taken_over() -> None:
    """It is resumed, and for `session_lifetime` past its expiry, like one to an issued address."""
    assert verify(PLAIN, source=own_address(), running=True).reason is AddressReason.RESUMED
    assert verify(PLAIN, source=own_address(expiry=5), running=True).reason is AddressReason.RESUMED
    assert verify(PLAIN, source=own_address(expiry=1), running=True).reason is AddressReason.EXPIRED
    assert verify(PLAIN, running=True).reason is AddressReason.PLAIN


def test_epochs_without_a_secret_read_no_sources() -> None:
    """Where only the decoding keys are known (dnsvip decoder) no source address is read."""
    epoch = replace(active_epoch(), secret=b"")
    keyring = replace(SNAPSHOT, keyrings={"web": _Bare((epoch,))})  # type: ignore[dict-item]
    assert told(verify(PLAIN, keyring, own_address())) == (AddressReason.PLAIN, "standard")


class _Bare:
    """A keyring of epochs without secrets."""

    def __init__(self, epochs: tuple[Any, ...]) -> None:
        self.epochs = epochs


def test_claims_are_explained() -> None:
    """The steps name claims with their words, and which of them is in no table."""
    address = proven(content=1, session=109)
    steps = explained(address, label=label_to(address, quality=9))
    assert steps["payload"] == "tier 1 (gold), client 1001 (acme), expiry 63"
    assert steps["claims"] == "content 1 (video), session 109"
    assert steps["label"] == "quality 9 (high), priority 0"
    assert explained(issue())["claims"] == "none: only an address that is proven carries some"
    assert explained(issue(), label=5)["label"] == "is no claim of this client's: ignored"
    steps = explained(proven(content=3))
    assert steps["claims"] == "NO content 3 (not in its table), session 0"
    assert list(steps)[-2:] == ["claims", "verdict"]


def test_source_addresses_are_explained() -> None:
    """The steps of the plain VIP go on with the client's own address."""
    steps = explained(PLAIN, source=own_address())
    assert steps["plain VIP"] == "is the plain VIP; the client's own address says who it is"
    assert steps["epoch"].startswith("mode 0 (source), epoch slot 0: active since")
    assert steps["tag"] == "the 24 tag bits of the client's own address fit"
    assert steps["payload"].startswith("tier 1 (gold), client 1001 (acme)")
    assert steps["expiry"] == "good as long as its epoch"
    assert steps["verdict"].startswith("accepted as source: tier gold")
    assert "label" not in steps
    assert list(explained(PLAIN)) == ["prefix", "plain VIP", "verdict"]


def test_claims_are_in_the_json_of_a_verdict() -> None:
    """Tools get claims among the values, and whether a label was ignored."""
    address = proven(content=1)
    shown = verdict_json(IPv6Address(address), verify(address, label=1), ())
    assert shown["values"] == {**GOOD, "content": 1, "session": 0}
    assert shown["label_ignored"] is True
