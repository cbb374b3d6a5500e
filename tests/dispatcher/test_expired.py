"""What a cluster does with packets to an authentic address that has expired: `on_expired`."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.reason import Action, in_words
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import OnExpired, OnInvalid
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLUSTER,
    FIN,
    NOW,
    NOW_NS,
    PUSH,
    RST,
    SITE,
    SYN,
    address,
    datagram,
    echo,
    ip6,
    segment,
    snapshot,
    valid,
)

EXPIRED = address("gold", 1001, expiry=0)


class Dispatcher:
    """Tables and flows in one. EXPIRED has been so for longer than the `lifetime` of running flows."""

    def __init__(
        self, on_expired: OnExpired | None, on_invalid: OnInvalid = OnInvalid.DROP, lifetime: int = 50
    ) -> None:
        cluster = replace(CLUSTER, on_expired=on_expired, on_invalid=on_invalid, session_lifetime=lifetime)
        self.tables = DispatchTables(snapshot(replace(SITE, clusters={"web": cluster})))
        self.flows = Flows(1000)

    def __call__(self, data: bytes, now: int = NOW_NS) -> Verdict:
        return decide(data, self.tables, self.flows, now)


@pytest.fixture
def resetting() -> Dispatcher:
    return Dispatcher(OnExpired.RESET)


@pytest.mark.parametrize("on_invalid", OnInvalid)
@pytest.mark.parametrize("on_expired", [None, *OnExpired])
def test_what_each_setting_does(on_expired: OnExpired | None, on_invalid: OnInvalid) -> None:
    """Without a value expired addresses are treated as other invalid ones; with one, the others stay as they were."""
    dispatcher = Dispatcher(on_expired, on_invalid)
    by_invalid = Action.FORWARD if on_invalid is OnInvalid.DEFAULT_TIER else Action.DROP
    wanted = {
        None: by_invalid,
        OnExpired.DROP: Action.DROP,
        OnExpired.DEFAULT_TIER: Action.FORWARD,
        OnExpired.RESET: Action.ANSWER,
    }
    expired, forged = dispatcher(segment(EXPIRED)), dispatcher(segment(EXPIRED ^ 1))
    assert (expired.action, expired.reason) == (wanted[on_expired], "expired")
    assert (forged.action, forged.reason) == (by_invalid, "bad-tag")


@pytest.mark.parametrize(
    ("flags", "data", "numbers"),
    [
        (SYN, b"", (0, 2, RST | ACK)),
        (SYN, b"early", (0, 7, RST | ACK)),
        (FIN, b"late", (0, 6, RST | ACK)),
        (PUSH, b"x" * 700, (0, 701, RST | ACK)),
        (ACK, b"data", (0, 0, RST)),
        (SYN | ACK, b"", (0, 0, RST)),
    ],
)
def test_reset_is_that_of_the_standard(
    resetting: Dispatcher, flags: int, data: bytes, numbers: tuple[int, int, int]
) -> None:
    """RFC 9293 section 3.10.7.1: without ACK sequence 0 and an ACK of the segment's length, else the sequence number
    that was acknowledged; addresses and ports swapped, checksum right."""
    packet = segment(EXPIRED, flags, data=data)
    out = output_bytes(packet, resetting(packet))
    assert len(out) == 60
    assert valid(out)
    assert out[8:24] + out[24:40] == EXPIRED.to_bytes(16, "big") + CLIENT.to_bytes(16, "big")
    ports_and_rest = struct.unpack("!HHIIBBHHH", out[40:])
    assert ports_and_rest[:2] == (80, 40_000)
    assert (ports_and_rest[2], ports_and_rest[3], ports_and_rest[5]) == numbers
    assert out[:8] == b"\x60\0\0\0\0\x14\x06\x40"


def test_sequence_numbers_wrap_and_options_are_no_data(resetting: Dispatcher) -> None:
    """What is acknowledged is the sequence number plus the data behind the options, modulo 2^32."""
    tcp = struct.pack("!HHIIBBHHH", 40_000, 80, 0xFFFFFFFF, 0, 0x70, SYN, 65535, 0, 0) + bytes(8) + b"abc"
    packet = ip6(CLIENT, EXPIRED, 6, tcp)
    assert output_bytes(packet, resetting(packet))[48:52] == struct.pack("!I", 3)
    packet = segment(EXPIRED, ACK)
    packet = packet[:48] + struct.pack("!I", 0xDEADBEEF) + packet[52:]
    assert output_bytes(packet, resetting(packet))[44:48] == struct.pack("!I", 0xDEADBEEF)


@pytest.mark.parametrize("packet", [datagram(EXPIRED), echo(EXPIRED)])
def test_other_protocols_get_administratively_prohibited(resetting: Dispatcher, packet: bytes) -> None:
    """UDP and echo get ICMPv6 type 1 code 1 with the packet inside."""
    out = output_bytes(packet, resetting(packet))
    assert out[40:42] == b"\x01\x01"
    assert out[48:] == packet
    assert valid(out)


def fragment(flags: int, protocol: int) -> bytes:
    """A first fragment."""
    head = bytes((protocol, 0, 0, 1)) + bytes(4)
    upper = segment(EXPIRED, flags)[40:] if protocol == 6 else datagram(EXPIRED)[40:]
    return ip6(CLIENT, EXPIRED, protocol, upper, head, 44)


def test_what_is_never_answered(resetting: Dispatcher) -> None:
    """A reset, a fragment of a segment, and whatever comes from no host, or from our own address, gets nothing; the
    first fragment of a datagram does."""
    refused = [segment(EXPIRED, RST), segment(EXPIRED, RST | ACK), fragment(SYN, 6)]
    refused += [segment(EXPIRED, source=source) for source in (0, 1, 0xFF02 << 112 | 1, EXPIRED)]
    refused += [segment(EXPIRED, source=0xFE80 << 112 | 1)]
    assert {resetting(packet).action for packet in refused} == {Action.DROP}
    assert resetting(fragment(SYN, 17)).action is Action.ANSWER


def test_known_flows_go_on() -> None:
    """A flow whose address expires later is not reset; another connection to the address is."""
    resetting = Dispatcher(OnExpired.RESET, lifetime=3600)
    vip, later = address("gold", 1001, expiry=1), NOW_NS + 1800 * SECOND
    packets = [(segment(vip), NOW_NS), (segment(vip, ACK), NOW_NS), (segment(vip, ACK), later), (segment(vip), later)]
    verdicts = [resetting(packet, now) for packet, now in packets]
    assert [verdict.reason for verdict in verdicts] == ["issued", "known", "known", "expired"]
    assert verdicts[-1].action is Action.ANSWER
    assert resetting(segment(vip, ACK), later).reason == "known"


def test_answers_have_a_rate(resetting: Dispatcher) -> None:
    """A hundred at once, then a thousand a second; the rest is dropped for the same reason."""
    verdicts = [resetting(segment(EXPIRED, port=port)) for port in range(1, 151)]
    assert [verdict.action for verdict in verdicts] == [Action.ANSWER] * 100 + [Action.DROP] * 50
    assert {verdict.reason for verdict in verdicts} == {"expired"}
    assert resetting(segment(EXPIRED), NOW_NS + SECOND // 1000).action is Action.ANSWER


def test_explanation_says_so(resetting: Dispatcher) -> None:
    """`dnsvip decode` and `watch` say that there is an answer."""
    verifier = resetting.tables.verifier
    verdict = verifier.verify(EXPIRED, CLIENT, 0, NOW)
    assert verifier.explain(verdict, EXPIRED, NOW)[-1].detail == (
        "rejected as expired: answered with a TCP reset, or an ICMP error"
    )
    assert in_words("expired", Action.ANSWER) == "answered with a TCP reset or an ICMP error: the address has expired"
