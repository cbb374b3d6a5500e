"""Zones whose keys are being rolled, judged by delv: it validates by the DS of the key before and of the one behind."""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rdatatype
import pytest

from dnsvip.dns.dnssec.keys import SigningKey, ZoneKeys, ds_text
from dnsvip.dns.protocol.message import Type
from dnsvip.site import Dnssec, Snapshot, ZoneKey
from dnsvip.site.zone_keys import KeyState, listed
from tests.dns.dnssec.signed import ED25519, P256, key_of, signed
from tests.dns.dnssec.test_delv import delv_by
from tests.dns.unbound import configuration, run_unbound
from tests.dns.world import Running, world_snapshot
from tests.ports import free_port

pytestmark = pytest.mark.skipif(not all(map(shutil.which, ("delv", "unbound"))), reason="needs delv and Unbound")

ZONE, APEX = "example.test", (b"example", b"test")
QUESTIONS = (("www.example.test", "AAAA"), ("no.example.test", "A"), ("example.test", "DNSKEY"))
STATES = {
    "two keys": ("ka", "za"),
    "a key that signs all, and its successor": ("ka", "kp"),
    "the parent is awaited": ("ko", "ka"),
    "the key before is retired": ("kr", "ka"),
    "a zone signing key before its time": ("ka", "za", "zp"),
    "and behind it": ("ka", "zr", "za"),
    "all at once": ("ko", "ka", "zr", "za"),
}
"""Keys in their order: k(sk) or z(sk), and the first letter of the state."""


ALGORITHMS = {
    "signed by both": ("ka", "za", "Ki", "Zi"),
    "published": ("ka", "za", "Kp", "Za"),
    "the parent is awaited": ("ko", "za", "Ka", "Za"),
    "the keys before are retired": ("kr", "za", "Ka", "Za"),
    "the keys before only sign": ("kw", "zw", "Ka", "Za"),
    "keys that sign all, signed by both": ("ka", "Ki"),
    "keys that sign all, published": ("ka", "Kp"),
    "keys that sign all, withdrawn": ("kw", "Ka"),
    "from one to two": ("ko", "Ka", "Za"),
    "from two to one": ("ko", "za", "Ka"),
}
"""As STATES, of a rollover to the algorithm of the keys in capital letters."""


def keys_of(forms: Sequence[str]) -> tuple[ZoneKey, ...]:
    states = {state.value[0]: state for state in KeyState}
    return tuple(
        replace(key_of(ED25519 if form[0].isupper() else P256, number), sep=form[0] in "kK", state=states[form[1]])
        for number, form in enumerate(forms, 1)
    )


def world(keys: tuple[ZoneKey, ...], dnssec: Dnssec | None = None) -> Snapshot:
    snapshot = signed(world_snapshot(), {ZONE: P256})
    zone = replace(snapshot.site.zones[ZONE], dnssec=dnssec or Dnssec(True, split=True))
    site = replace(snapshot.site, zones={**snapshot.site.zones, ZONE: zone})
    return replace(snapshot, site=site, zone_keys={ZONE: keys})


@pytest.mark.parametrize("forms", STATES.values(), ids=STATES)
def test_every_state_validates(forms: Sequence[str], tmp_path: Path) -> None:
    """By each key with SEP, data, denials and the keys themselves are validated; by a zone signing key nothing is."""
    keys = keys_of(forms)
    with Running(world(keys)) as server:
        for key in keys:
            ds = SigningKey.of(key).ds(APEX)
            for name, rtype in QUESTIONS:
                said = delv_by(server, tmp_path, ds, name, rtype)
                assert ("fully validated" in said) is key.sep, (key, said)


@pytest.mark.parametrize("forms", ALGORITHMS.values(), ids=ALGORITHMS)
def test_every_state_between_algorithms_validates(forms: Sequence[str], tmp_path: Path) -> None:
    """By the DS of each key with SEP that is in the DNSKEY set, and in Unbound as strict as it can be by all of these
    at once: each algorithm of a DS signs all that there is, and each of a DNSKEY too."""
    keys = keys_of(forms)
    seps = [SigningKey.of(key) for key in listed(keys) if key.sep]
    snapshot, port = world(keys), free_port()
    trusted = "".join(f'  trust-anchor: "{ds_text(ZONE, key.ds(APEX))}"\n' for key in seps)
    settings = f"  harden-algo-downgrade: yes\n{trusted}"
    with Running(snapshot) as server:
        unbound = configuration(tmp_path, port, server.port, "validator iterator", settings)
        with run_unbound(tmp_path, port, unbound, ZONE, "SOA"):
            for key in seps:
                assert "fully validated" in delv_by(server, tmp_path, key.ds(APEX), *QUESTIONS[0])
            for name, rtype in QUESTIONS:
                query = dns.message.make_query(name, rtype, want_dnssec=True)
                answer = dns.query.tcp(query, "127.0.0.1", 30, port)
                assert answer.flags & dns.flags.AD, answer
                signed_by = {
                    record.algorithm
                    for rrset in (*answer.answer, *answer.authority)
                    if rrset.rdtype == dns.rdatatype.RRSIG
                    for record in rrset
                }
                assert signed_by == {13, 15}, answer


def test_what_the_parent_is_told() -> None:
    """CDS and CDNSKEY have the active key with SEP alone, and so do foreign ones with SEP; DNSKEY has all of them."""
    ours, other = keys_of(("ko", "ka", "za")), [SigningKey.of(key_of(P256, number)) for number in (8, 9)]
    foreign = [
        f"{flags} 3 13 {b64encode(key.dnskey[4:]).decode()}" for flags, key in zip((257, 256), other, strict=True)
    ]
    sets = ZoneKeys.of(APEX, ours, Dnssec(True, split=True, foreign=tuple(foreign))).sets
    at_parent = [SigningKey.of(ours[1]).dnskey, other[0].dnskey]
    assert [rdata[0] for rdata in sets[Type.CDNSKEY].rdatas] == at_parent
    assert len(sets[Type.CDS].rdatas) == 2
    assert len(sets[Type.DNSKEY].rdatas) == 5


def test_two_signers(tmp_path: Path) -> None:
    """Of two signers of one zone (RFC 8901, model 2) each publishes the zone signing key of the other: what one has
    signed validates with the DNSKEY set of the other, and so does everything from each."""
    ours, theirs = keys_of(("ka", "za")), (key_of(P256, 8), replace(key_of(P256, 9), sep=False))
    texts = {
        number: f"256 3 13 {b64encode(SigningKey.of(keys[1]).dnskey[4:]).decode()}"
        for number, keys in enumerate((ours, theirs))
    }
    with (
        Running(world(ours, Dnssec(True, split=True, foreign=(texts[1],)))) as one,
        Running(world(theirs, Dnssec(True, split=True, foreign=(texts[0],)))) as two,
    ):
        for server, keys in ((one, ours), (two, theirs)):
            said = delv_by(server, tmp_path, SigningKey.of(keys[0]).ds(APEX), "www.example.test", "AAAA")
            assert "; fully validated" in said
        sets = []
        for server in (one, two):
            query = dns.message.make_query(ZONE, dns.rdatatype.DNSKEY)
            answer = dns.query.tcp(query, "127.0.0.1", 10, server.port).answer[0]
            sets.append({rdata.to_text() for rdata in answer if rdata.flags == 256})
        assert sets[0] == sets[1]
        assert len(sets[0]) == 2
