"""TSIG (RFC 8945): valid signatures identify the client, invalid ones get their error, responses are signed."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rrset
import dns.tsig
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.protocol.tsig import MALFORMED, TsigKeys, _read
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.site import Step
from tests.dns.world import KEY, SECRET, Running, world_snapshot

ENGINE = Engine(world_snapshot())
LOCAL = ip_address("192.0.2.200")
WRONG = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmch"
NAME = "www.example.test"


def make_key(name: str = "acme-key", secret: str = SECRET, algorithm: str = "hmac-sha256") -> dns.tsig.Key:
    return dns.tsig.Key(name, secret, algorithm)


def ask(query: dns.message.Message, key: dns.tsig.Key, late: float = 0.0, transport: str = "udp") -> Reply:
    """Sign a question now and have it answered `late` seconds later."""
    query.use_tsig(key)
    return ENGINE.decide(query.to_wire(), LOCAL, Arrival("default", Transport(transport)), time.time() + late)


def tsig_of(reply: Reply) -> tuple[dns.message.Message, dns.rrset.RRset]:
    """The answer and its TSIG record, not verified."""
    assert reply.wire
    message = dns.message.from_wire(reply.wire, keyring=False)  # type: ignore[arg-type]
    return message, message.tsig


@pytest.mark.parametrize("number", [1, 224, 256, 384, 512])
def test_every_algorithm(number: int) -> None:
    """A good signature of any algorithm names the client's key, and dnspython verifies the answer's."""
    name = "acme-key" if number == 256 else f"key-{number}"
    key = make_key(name, algorithm=f"hmac-sha{number}")
    query = dns.message.make_query(NAME, "AAAA")
    reply = ask(query, key)
    assert reply.wire
    answer = dns.message.from_wire(reply.wire, keyring={key.name: key}, request_mac=query.mac)
    assert answer.had_tsig
    assert reply.outcome is DnsOutcome.SERVICE
    assert reply.step is (Step.TSIG if number == 256 else None)


@pytest.mark.parametrize("key", [make_key("nobody"), make_key(algorithm="hmac-sha512")], ids=["name", "algorithm"])
def test_unknown_key(key: dns.tsig.Key) -> None:
    """A key that is not ours, or not under this algorithm, is BADKEY, unsigned."""
    reply = ask(dns.message.make_query(NAME, "AAAA"), key)
    message, tsig = tsig_of(reply)
    assert (message.rcode(), tsig[0].error, tsig[0].mac) == (dns.rcode.NOTAUTH, dns.rcode.BADKEY, b"")
    assert tsig.name == key.name
    assert reply.outcome is DnsOutcome.TSIG_KEY
    assert not message.answer


@pytest.mark.parametrize(
    ("key", "outcome"),
    [(make_key("nobody"), DnsOutcome.TSIG_KEY), (make_key(secret=WRONG), DnsOutcome.TSIG_SIGNATURE)],
    ids=["unknown key", "wrong MAC"],
)
def test_what_anybody_can_send_is_cheap(
    monkeypatch: pytest.MonkeyPatch, key: dns.tsig.Key, outcome: DnsOutcome
) -> None:
    """dnspython makes no object of an unknown key or a wrong MAC, and the answer is as long as was reckoned."""
    query = dns.message.make_query(NAME, "AAAA")
    query.use_tsig(key)
    wire = query.to_wire()
    with monkeypatch.context() as patched:
        patched.setattr(dns.name, "from_wire", None)
        patched.setattr(dns.rdata, "from_wire", None)
        patched.setattr(dns.tsig, "sign", None)
        reply = ENGINE.decide(wire, LOCAL, Arrival("default", Transport.UDP), time.time())
    assert reply.outcome is outcome
    assert reply.wire
    bare = bare_of(reply.wire, tsig_of(reply)[1])
    at = len(wire) - len(query.tsig.name.to_wire()) - 10 - len(query.tsig[0].to_wire())
    assert len(reply.wire) == len(bare) + TsigKeys([]).check(wire, at, 0.0).size


@given(st.data())
def test_what_is_a_tsig_record(data: st.DataObject) -> None:
    """It is one exactly where dnspython can read it, whatever its bytes; a compressed name is that of its pointer."""
    # A pointer to offset 0 reads the id as labels; dnspython goes wrong where such a label reaches past the pointer.
    query = dns.message.make_query(NAME, "AAAA", id=0x0212)
    query.use_tsig(make_key("nobody"))
    wire = bytearray(query.to_wire())
    at = len(wire) - len(query.tsig.name.to_wire()) - 10 - len(query.tsig[0].to_wire())
    if data.draw(st.booleans()):
        wire[at : at + 8] = data.draw(
            st.sampled_from([b"\xc0\x0c", b"\x01a\xc0\x10", b"\xc0\x00", b"\xc0\xff", b"\x01\xff\x00"])
        )
    for _ in range(data.draw(st.integers(0, 3))):
        wire[data.draw(st.integers(at, len(wire) - 1))] = data.draw(st.integers(0, 255))
    wire[-4] &= 15  # dnspython knows no errors above 4095
    try:
        owner, rdata = _read(bytes(wire), at)
        expected = owner.to_wire(), rdata.algorithm.to_wire()
    except Exception:  # noqa: BLE001 - whatever it makes of such bytes
        expected = None
    signature = TsigKeys([]).check(bytes(wire), at, 0.0)
    assert signature.unsigned == expected
    assert (signature is MALFORMED) is (expected is None)


def test_wrong_secret() -> None:
    """A MAC that does not fit is BADSIG, unsigned, and tells nothing of the service."""
    reply = ask(dns.message.make_query(NAME, "AAAA"), make_key(secret=WRONG))
    message, tsig = tsig_of(reply)
    assert (message.rcode(), tsig[0].error, tsig[0].mac) == (dns.rcode.NOTAUTH, dns.rcode.BADSIG, b"")
    assert reply.outcome is DnsOutcome.TSIG_SIGNATURE
    assert not message.answer


@pytest.mark.parametrize(
    ("late", "outcome"), [(299, DnsOutcome.SERVICE), (302, DnsOutcome.TSIG_TIME), (-302, DnsOutcome.TSIG_TIME)]
)
def test_time(late: float, outcome: DnsOutcome) -> None:
    """A signature holds for its fudge, 300 seconds to either side."""
    assert ask(dns.message.make_query(NAME, "AAAA"), make_key(), late).outcome is outcome


@pytest.mark.parametrize("late", [-60_000, -302, 302, 60_000])
def test_a_long_fudge_is_not_believed(late: float) -> None:
    """However much difference a signature allows, 300 seconds are the most: it cannot be replayed for a day."""
    query = dns.message.make_query(NAME, "AAAA")
    query.use_tsig(make_key(), fudge=65_535)
    reply = ENGINE.decide(query.to_wire(), LOCAL, Arrival("default", Transport.UDP), time.time() + late)
    assert reply.outcome is DnsOutcome.TSIG_TIME


def test_wrong_time_is_signed() -> None:
    """BADTIME has the requester's time, ours in Other Data, and a MAC, so that the requester can believe it."""
    key, query = make_key(), dns.message.make_query(NAME, "AAAA")
    reply = ask(query, key, late=1000)
    message, tsig = tsig_of(reply)
    rdata = tsig[0]
    assert (message.rcode(), rdata.error) == (dns.rcode.NOTAUTH, dns.rcode.BADTIME)
    assert int.from_bytes(rdata.other, "big") - rdata.time_signed == pytest.approx(1000, abs=2)
    assert reply.wire
    bare = bare_of(reply.wire, tsig)
    assert dns.tsig.sign(bare, key, rdata, rdata.time_signed, query.mac)[0].mac == rdata.mac


def bare_of(wire: bytes, tsig: dns.rrset.RRset) -> bytes:
    """The answer as it was before it was signed."""
    size = len(tsig.name.to_wire()) + 10 + len(tsig[0].to_wire())
    return wire[:10] + (int.from_bytes(wire[10:12], "big") - 1).to_bytes(2, "big") + wire[12 : len(wire) - size]


@pytest.mark.parametrize(
    ("size", "outcome", "error"),
    [
        (32, DnsOutcome.SERVICE, 0),
        (31, DnsOutcome.TSIG_TRUNCATED, 22),
        (16, DnsOutcome.TSIG_TRUNCATED, 22),
        (15, DnsOutcome.BAD_TSIG, None),
        (0, DnsOutcome.BAD_TSIG, None),
    ],
)
def test_truncated_mac(size: int, outcome: DnsOutcome, error: int | None) -> None:
    """A MAC cut to half at least is BADTRUNC, as whole ones are our policy; a shorter one is FORMERR."""
    query = dns.message.make_query(NAME, "AAAA")
    query.use_tsig(make_key())
    query.to_wire()
    query.want_tsig_sign = False
    whole = query.tsig[0]
    query.tsig = dns.rrset.from_rdata(query.tsig.name, 0, whole.replace(mac=whole.mac[:size]))
    reply = ENGINE.decide(query.to_wire(), LOCAL, Arrival("default", Transport.UDP), time.time())
    assert reply.outcome is outcome
    if error is not None:
        assert tsig_of(reply)[1][0].error == error
    else:
        assert reply.rcode == dns.rcode.FORMERR


@given(st.data())
def test_any_change_is_noticed(data: st.DataObject) -> None:
    """A signed question of which one bit was changed is never taken for the client's."""
    query = dns.message.make_query(NAME, "AAAA")
    query.use_tsig(make_key())
    wire = bytearray(query.to_wire())
    bit = data.draw(st.integers(0, len(wire) * 8 - 1))
    wire[bit // 8] ^= 1 << bit % 8
    reply = ENGINE.decide(bytes(wire), LOCAL, Arrival("default", Transport.UDP), time.time())
    id_changed = bit < 16  # the id is not signed; the original id in the record is
    in_case = bytes(wire).lower() == query.to_wire().lower()
    assert reply.step is not Step.TSIG or id_changed or in_case


def test_signature_has_room() -> None:
    """A signed answer stays within the requester's size with its TSIG record."""
    for size in range(512, 1300, 20):
        query = dns.message.make_query("big.example.test", "A", use_edns=0, payload=size)
        reply = ask(query, make_key())
        assert reply.wire
        assert len(reply.wire) <= min(size, 1232)


def test_refusals_are_signed_too() -> None:
    """Negative answers and refusals to a signed question are signed."""
    key = make_key()
    for name, qtype, rcode in (("no.example.test", "A", 3), ("no.zone", "A", 5), ("example.test", "MAILB", 4)):
        query = dns.message.make_query(name, qtype)
        reply = ask(query, key)
        assert reply.wire
        answer = dns.message.from_wire(reply.wire, keyring={key.name: key}, request_mac=query.mac)
        assert (answer.rcode(), answer.had_tsig) == (rcode, True)


def test_forwarded_question() -> None:
    """A question whose id a forwarder has changed still verifies, by its original id."""
    query = dns.message.make_query(NAME, "AAAA")
    query.use_tsig(make_key())
    wire = query.to_wire()
    changed = bytes([wire[0] ^ 0xFF]) + wire[1:]
    assert ENGINE.decide(changed, LOCAL, Arrival("default", Transport.UDP), time.time()).step is Step.TSIG


@pytest.mark.parametrize("program", ["dig", "kdig"])
@pytest.mark.parametrize("transport", ["+tcp", "+notcp"])
def test_programs_verify_the_answer(server: Running, program: str, transport: str) -> None:
    """dig and kdig accept our signature by UDP and TCP."""
    reply = getattr(server, program)(NAME, "AAAA", "-y", KEY, transport)
    assert reply.status == "NOERROR"
    assert "TSIG" in reply.text
    assert not re.search("(?i)verify|warning|error(?!:)", reply.text.replace("NOERROR", ""))


@pytest.mark.parametrize("program", ["dig", "kdig"])
@pytest.mark.parametrize(
    ("key", "error"), [(f"hmac-sha256:acme-key:{WRONG}", "BADSIG"), (f"hmac-sha256:nobody:{SECRET}", "BADKEY")]
)
def test_programs_see_the_error(server: Running, program: str, key: str, error: str) -> None:
    """Wrong secret and unknown key are shown by dig and kdig as what they are."""
    reply = getattr(server, program)(NAME, "AAAA", "-y", key)
    assert reply.status == ("NOTAUTH" if program == "dig" else error)  # kdig shows the TSIG error in its place
    assert error in reply.text
    assert not reply.answer


def test_dig_sees_a_wrong_time(server: Running) -> None:
    """A question signed long ago is BADTIME."""
    reply = server.dig(NAME, "AAAA", "-y", KEY, "+fuzztime=646972397")
    assert reply.status == "NOTAUTH"
    assert "BADTIME" in reply.text
