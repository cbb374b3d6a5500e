"""What an address says, read with keys that only decode: as the dispatcher reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.decoder.decode import AddressReader, Decoded, from_line, to_line
from dnsvip.decoder.keys import make, read, snapshot_of, to_json
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.errors import ConfigError
from dnsvip.site import Snapshot
from tests.dispatcher.verify.test_verifier import MODE, PORT, SOURCE, issue, proven
from tests.samples import ACTIVATED, NOW, SECRET, make_snapshot

LANGUAGE: Mapping[str, Any] = {
    "layout": [["tier", 4], ["client", 20], ["lang", 2], ["expiry", 7], ["nonce", 4]],
    "values": {"lang": {"fr": 1, "en": 2}},
}
SNAPSHOT = make_snapshot({"cluster": {"web": LANGUAGE}})
GOOD = {"lang": 1, "nonce": 3}


def fetched(snapshot: Snapshot) -> AddressReader:
    """A reader with what a decoder gets to know of a snapshot, by way of the document."""
    texts = [json.dumps(to_json(make(snapshot, cluster))) for cluster in snapshot.site.clusters.values()]
    return AddressReader(snapshot_of(read(text, "the answer") for text in texts))


def reading(address: int, snapshot: Snapshot = SNAPSHOT, now: float = NOW) -> Decoded:
    """What a decoder reads out of an address."""
    return fetched(snapshot).read(IPv6Address(address), now)


def test_an_issued_address() -> None:
    """It says tier, client and attributes, in words."""
    address = issue(SNAPSHOT, **GOOD)
    assert reading(address) == Decoded(
        str(IPv6Address(address)), "issued", True, "web", "gold", 1001, attributes={"lang": "fr"}
    )


def test_a_number_without_a_word() -> None:
    """An attribute without a table is a number; one that is not set is left out."""
    layout = [["tier", 4], ["client", 20], ["age", 7], ["lang", 2], ["nonce", 4]]
    snapshot = make_snapshot({"cluster": {"web": {"layout": layout}}})
    entry = snapshot.keyrings["web"].at(0)
    assert entry is not None
    address = entry[1].encode({"tier": 1, "client": 7, "age": 42, "lang": 0, "nonce": 1})
    assert reading(address, snapshot).attributes == {"age": 42}


def test_a_cluster_whose_clients_say_something() -> None:
    """Its addresses are read; the document tells how many bits are claims, and does so for no other cluster."""
    claiming = make_snapshot(
        {
            "cluster": {
                "web": {
                    "layout": [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 3]],
                    "claims": [["content", 3]],
                    "values": {"content": {"video": 1}},
                }
            }
        }
    )
    address = issue(claiming, nonce=3)
    assert reading(address, claiming) == Decoded(str(IPv6Address(address)), "issued", True, "web", "gold", 1001)
    documents = [to_json(make(snapshot, snapshot.site.clusters["web"])) for snapshot in (SNAPSHOT, claiming)]
    assert ["claims" in document["cluster"] for document in documents] == [False, True]


@pytest.mark.parametrize(
    ("on_invalid", "verdict", "accepted"), [("drop", "proven", True), ("default-tier", "unproven", False)]
)
def test_a_proof_is_the_dispatchers_word(on_invalid: str, verdict: str, accepted: bool) -> None:
    """Only where a dispatcher drops a wrong proof does the server believe in one."""
    snapshot = make_snapshot({"cluster": {"web": {**LANGUAGE, "on_invalid": on_invalid}}})
    decoded = reading(proven(snapshot, issue(snapshot, **GOOD)), snapshot)
    assert (decoded.verdict, decoded.accepted, decoded.tier) == (verdict, accepted, "gold")


def test_an_expired_address_still_says_who() -> None:
    """A connection outlives its address."""
    decoded = reading(issue(SNAPSHOT, **GOOD, expiry=1), now=ACTIVATED + 900)
    assert (decoded.verdict, decoded.accepted, decoded.tier, decoded.client) == ("expired", False, "gold", 1001)


@pytest.mark.parametrize("flipped", [1, 1 << 23, 1 << 30, MODE | 1 << 23])
def test_a_forged_address_says_nothing(flipped: int) -> None:
    """Whatever its bits decrypt to."""
    address = issue(SNAPSHOT, **GOOD) ^ flipped
    assert reading(address) == Decoded(str(IPv6Address(address)), "bad-tag", cluster="web")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("2001:db8:a:1::1", Decoded("2001:db8:a:1::1", "plain", True, "web", "standard")),
        ("192.0.2.8", Decoded("192.0.2.8", "class", True, "legacy", "gold")),
        ("192.0.2.5", Decoded("192.0.2.5", "bad-payload", False, "legacy")),
        ("2001:db8::1", Decoded("2001:db8::1", "not-ours")),
        ("2001:db8:a:1:6000::1", Decoded("2001:db8:a:1:6000::1", "unknown-epoch", False, "web")),
    ],
)
def test_other_addresses(address: str, expected: Decoded) -> None:
    """Plain ones and IPv4 classes have a tier; the rest have a reason."""
    assert fetched(SNAPSHOT).read(ip_address(address), NOW) == expected


@given(st.integers(0, (1 << 64) - 1), st.floats(0, 4e9))
def test_as_the_dispatcher_reads_it(suffix: int, now: float) -> None:
    """Of any address in the cluster the verdict is the dispatcher's for a client that it has no record of."""
    address = (int(IPv6Address("2001:db8:a:1::")) | suffix) & ~MODE
    whole = AddressVerifier(SNAPSHOT).verify(address, SOURCE, PORT, now)
    decoded = reading(address, now=now)
    assert (decoded.verdict, decoded.client) == (whole.reason.value, whole.client)


@given(
    st.builds(
        Decoded,
        st.from_type(IPv4Address).map(str) | st.from_type(IPv6Address).map(str),
        st.text(),
        st.booleans(),
        st.none() | st.text(),
        st.none() | st.text(),
        st.integers(0, 1 << 63),
        st.integers(0, 1 << 63),
        st.dictionaries(st.text(), st.text() | st.integers(0, 1 << 63)),
    )
)
def test_a_line_holds_all(decoded: Decoded) -> None:
    """One line, and the same value again."""
    line = to_line(decoded)
    assert "\n" not in line
    assert from_line(line) == decoded


def test_the_document_has_no_secret() -> None:
    """Neither the epoch's secret nor a client master is in it, and its repr shows no key."""
    document = make(SNAPSHOT, SNAPSHOT.site.clusters["web"])
    text = json.dumps(to_json(document))
    assert SECRET.hex() not in text
    assert SNAPSHOT.masters["web"].hex() not in text
    key = document.epochs[0].encryption_key
    assert key.hex() not in repr(document)
    assert repr(key) not in repr(document)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "is not a document of decoding keys that this dnsvip reads (version 1)"),
        ({"epochs": [{"slot": 0, "state": "active", "encryption_key": "00", "tag_key": "x"}]}, "32 hexadecimal digits"),
        ({"cluster": {"name": "web"}}, "cluster.web.prefix: missing"),
        ({"tiers": {"gold": "one"}}, "tiers.gold"),
        ({"more": 1}, "unknown key"),
    ],
)
def test_a_bad_document(changes: Mapping[str, Any], message: str) -> None:
    """It is refused with what is wrong, and no part of a key."""
    document = to_json(make(SNAPSHOT, SNAPSHOT.site.clusters["web"])) | changes
    with pytest.raises(ConfigError) as refused:
        read(json.dumps(document), "answer")
    assert message in str(refused.value)
    assert document["epochs"][0]["encryption_key"] == "00" or document["epochs"][0]["tag_key"] not in str(refused.value)


def test_no_json() -> None:
    """Nor is an HTML page a document."""
    with pytest.raises(ConfigError, match="not JSON"):
        read("<html>", "answer")
