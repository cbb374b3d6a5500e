"""Flows that outlive their address: a dispatcher that does not know a running flow takes it over, kernel program and
reference alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from dnsvip.address.proof import Bind
from dnsvip.dispatcher.flows.guesses import MOST_GUESSES
from dnsvip.site import Client, ClientState, Match, Networks, Proof, Rate, Step
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    CLUSTER,
    FIN,
    PLAIN,
    RST,
    SITE,
    SYN,
    TIERS,
    address,
    datagram,
    echo,
    icmp_error,
    proven,
    segment,
)
from tests.dispatcher.io.xdp.kernel import loaded
from tests.dispatcher.io.xdp.test_attacks import FLOWS, Both

LIFETIME = CLUSTER.session_lifetime
EXPIRED = address("gold", 1001, expiry=0)
"""Good until 100 s before NOW."""
ROUTER = CLIENT + 99
QUIC_SHORT, QUIC_LONG = b"\x41 later", b"\xc3 first"


@pytest.fixture(scope="module")
def program() -> Iterator[Both]:
    with loaded(FLOWS) as kernel:
        yield Both(kernel)


@pytest.fixture
def both(program: Both) -> Both:
    program.site(SITE)
    return program


def test_which_packets_are_of_running_flows(both: Both) -> None:
    """TCP without SYN, datagrams like those behind a QUIC handshake; nothing else, and no address without a tag."""
    vip = address("gold", 1001)
    running = [
        segment(vip, ACK, 1),
        segment(vip, FIN | ACK, 2),
        segment(vip, RST, 3),
        datagram(vip, 4, data=QUIC_SHORT),
    ]
    assert set(both.reasons(*running)) == {"resumed"}
    first = [segment(vip, SYN, 11), segment(vip, SYN | ACK, 12), datagram(vip, 13, data=QUIC_LONG)]
    assert set(both.reasons(*first, datagram(vip, 14, data=b""), echo(vip))) == {"issued"}
    assert both.reasons(segment(PLAIN, ACK), segment(vip ^ 1, ACK)) == ["plain", "bad-tag"]
    assert len(both.reference.flows) == 9  # all but those of the reset and the forged address


@pytest.mark.parametrize("packet", [segment(EXPIRED, ACK), datagram(EXPIRED, data=QUIC_SHORT)])
def test_an_expired_address_is_good_for_running_flows(both: Both, packet: bytes) -> None:
    """For `session_lifetime`, to the second; a new connection to it is refused."""
    left = LIFETIME - 100
    assert both.reasons(packet) == ["resumed"]
    assert both.reasons(segment(EXPIRED, port=2), datagram(EXPIRED, 3, data=QUIC_LONG)) == ["expired"] * 2
    both.site(SITE)
    assert both.reasons(packet, after=left - 1) == ["resumed"]
    both.site(SITE)
    assert both.reasons(packet, after=left) == ["expired"]


def test_a_proof_of_long_ago_is_good_for_running_flows(both: Both) -> None:
    """From another source too; the top bits of its tag must be right, and new connections need the whole proof."""
    vip = proven(CLIENTS["acme"])
    assert both.reasons(segment(vip, ACK, source=CLIENT + 1), segment(vip ^ 1 << 23, ACK)) == ["resumed", "bad-tag"]
    unknown = proven(Client("nobody", 77, "gold"))
    assert both.reasons(segment(unknown, ACK)) == ["bad-proof"]
    assert both.reasons(segment(vip, ACK), segment(vip, port=2), after=600) == ["resumed", "bad-proof"]


def test_a_running_flow_opens_no_connection(both: Both) -> None:
    """A SYN on a flow that has just been taken over is another connection: it needs a proof, and an address that has
    not expired, and takes a token of the tier."""
    forged = proven(CLIENTS["acme"]) ^ 1
    assert both.reasons(segment(forged, ACK), segment(forged), segment(forged, ACK)) == [
        "resumed",
        "bad-proof",
        "known",
    ]
    assert both.reasons(segment(EXPIRED, ACK), segment(EXPIRED)) == ["resumed", "expired"]
    both.change(tiers={**TIERS, "gold": replace(TIERS["gold"], rate=Rate(1, 1))})
    vip = address("gold", 1001)
    packets = [segment(vip, ACK, 1), segment(vip, ACK, 2), segment(vip, SYN, 1), segment(vip, SYN, 2)]
    assert both.reasons(*packets) == ["resumed", "resumed", "known", "over-rate"]


def test_a_running_quic_flow_opens_no_connection(both: Both) -> None:
    """So is a datagram that is not of a running connection: with a wrong proof or an expired address it is refused, and
    the flow goes on."""
    forged = proven(CLIENTS["acme"]) ^ 1
    for vip, refused in ((forged, "bad-proof"), (EXPIRED, "expired")):
        short, first = datagram(vip, data=QUIC_SHORT), datagram(vip, data=QUIC_LONG)
        assert both.reasons(short, first, short, datagram(vip, data=b""), datagram(vip, data=b"\x3f")) == [
            "resumed",
            refused,
            "known",
            refused,
            refused,
        ]
        assert both.reasons(short, first, after=1) == ["known", refused]


def test_a_running_quic_flow_takes_a_token_for_another_connection(both: Both) -> None:
    """One that is accepted takes a token of the tier; from then on the flow is as any other."""
    both.change(tiers={**TIERS, "gold": replace(TIERS["gold"], rate=Rate(1, 1))})
    vip = address("gold", 1001)
    packets = [datagram(vip, port, data=data) for data in (QUIC_SHORT, QUIC_LONG, QUIC_LONG) for port in (1, 2)]
    assert both.reasons(*packets) == ["resumed", "resumed", "known", "over-rate", "known", "over-rate"]
    assert both.reasons(packets[1]) == ["known"]


def test_a_running_quic_flow_is_one_use(both: Both) -> None:
    """Of an address for single use that is used, or whose proof is made up, a datagram of another connection is
    refused; a network has so many guesses for them."""
    vip = proven(CLIENTS["once"])
    assert both.reasons(datagram(vip, 1, data=QUIC_SHORT), datagram(vip, 1, data=QUIC_LONG)) == ["resumed", "replayed"]
    for port in range(2, MOST_GUESSES + 2):
        pair = datagram(vip ^ 1, port, data=QUIC_SHORT), datagram(vip ^ 1, port, data=QUIC_LONG)
        assert both.reasons(*pair) == ["resumed", "bad-proof"]
    assert both.reasons(datagram(proven(CLIENTS["acme"]), 9000, data=QUIC_LONG)) == ["bad-proof"]


def test_a_running_quic_flow_at_home(both: Both) -> None:
    """Where an address is good from its client's networks alone, a flow that was taken over from there is judged by
    them too once they have changed."""
    home = replace(CLIENTS["acme"], networks=Networks.ONLY, match=(Match(Step.SOURCE, f"{IPv6Address(CLIENT)}/128"),))
    both.change(clients={**CLIENTS, "acme": home})
    vip = address("gold", 1001)
    assert both.reasons(datagram(vip, data=QUIC_SHORT), datagram(vip, source=CLIENT + 1, data=QUIC_SHORT)) == [
        "resumed",
        "unproven",
    ]
    away = replace(home, match=(Match(Step.SOURCE, "2001:db8:ffff::/48"),))
    both.change(clients={**CLIENTS, "acme": away})
    assert both.reasons(datagram(vip, data=QUIC_LONG), datagram(vip, data=QUIC_SHORT)) == ["unproven", "known"]


def test_everything_else_is_judged_as_ever(both: Both) -> None:
    """Revoked clients, addresses without a proof that is required, tiers that drop."""
    revoked = replace(CLIENTS["acme"], state=ClientState.REVOKED)
    strict = replace(CLIENTS["once"], proof=Proof(Bind.ADDRESS, required=True))
    both.change(clients={"acme": revoked, "once": strict})
    vips = proven(CLIENTS["acme"]), address("gold", 1001), address("gold", 1002), address("blocked")
    reasons = both.reasons(*(segment(vip, ACK) for vip in vips))
    assert reasons == ["revoked", "revoked", "unproven", "tier-drop"]


def test_same_server_as_before(both: Both) -> None:
    """A running flow goes to the server that it had at the dispatcher that is lost, for each stickiness."""
    for tier in ("gold", "sticky", "tunnel"):
        vip = address(tier, 1001)
        before = [both(segment(vip, port=port)).server for port in range(1, 30)]
        both.site(SITE)
        assert [both(segment(vip, ACK, port)).server for port in range(1, 30)] == before


def test_single_use_stays_single(both: Both) -> None:
    """A running flow is a use while its proof holds; one that the dispatcher has seen used is refused another flow,
    running or not."""
    vip = proven(CLIENTS["once"])
    assert both.reasons(segment(vip, ACK, 1), segment(vip, SYN, 2), segment(vip, ACK, 3)) == [
        "resumed",
        "replayed",
        "replayed",
    ]
    assert both.reasons(segment(vip, ACK, 1), segment(vip, SYN, 1)) == ["known", "replayed"]
    both.site(SITE)
    assert both.reasons(segment(vip, SYN, 1), segment(vip, ACK, 2, CLIENT + 1)) == ["proven", "replayed"]


def test_a_wrong_proof_uses_nothing_up(both: Both) -> None:
    """Segments with a made-up proof, or from another source, neither use an address up nor fill the table of uses."""
    vip = proven(CLIENTS["once"])
    assert both.reasons(segment(vip, ACK, source=CLIENT + 1), segment(vip ^ 1, ACK), segment(vip)) == [
        "resumed",
        "resumed",
        "proven",
    ]
    assert len(both.reference.flows.uses) == 1


def test_flows_without_a_proof_are_anonymous(both: Both) -> None:
    """Whoever finds the top bits of a tag may forge them, so they have only the places of flows that anybody can forge;
    those of issued addresses, and with a proof that holds, have all."""
    for vip, anonymous in (
        (proven(CLIENTS["acme"], 1), 0),
        (address("gold", 1001), 0),
        (proven(CLIENTS["acme"]) ^ 1, 1),
    ):
        both.reasons(segment(vip, ACK))
        assert both.reasons(segment(vip, ACK), after=1) == ["known"]
        assert both.reference.flows.anonymous == anonymous


def test_rate(both: Both) -> None:
    """`resume_rate` a second and five times as many at once; the tier's rate is for new flows only, and keeps its
    tokens."""
    tiers = {**TIERS, "gold": replace(TIERS["gold"], rate=Rate(1, 1))}
    both.change(clusters={"web": replace(CLUSTER, resume_rate=4)}, tiers=tiers)
    vip = address("gold", 1001)
    reasons = both.reasons(*(segment(vip, ACK, port) for port in range(1, 31)))
    assert reasons == ["resumed"] * 20 + ["resumed-over-rate"] * 10
    assert both.reasons(segment(vip, ACK, 30), segment(vip, ACK, 31), after=0.25) == ["resumed", "resumed-over-rate"]
    assert both.reasons(segment(vip, port=40), segment(vip, port=41)) == ["issued", "over-rate"]
    assert both.reasons(segment(vip, ACK, 1)) == ["known"]


def test_no_rate_resumes_nothing(both: Both) -> None:
    """With `resume_rate = 0` packets of running flows are judged like first ones, and errors about them too."""
    both.change(clusters={"web": replace(CLUSTER, resume_rate=0)})
    vips = address("gold", 1001), EXPIRED, proven(CLIENTS["acme"]) ^ 1
    assert both.reasons(*(segment(vip, ACK) for vip in vips)) == ["issued", "expired", "bad-proof"]
    assert both(error(address("gold", 1001), 9)).action == "forward"
    assert both(error(EXPIRED, 9)).action == "drop"


def error(vip: int, port: int, client: int = CLIENT) -> bytes:
    """Packet Too Big about a segment that a server sent."""
    return icmp_error(ROUTER, vip, segment(client, ACK, 80, vip, port, b"x" * 100))


@pytest.mark.parametrize("vip", [address("gold", 1001), address("sticky", 1001), PLAIN, EXPIRED, address("tunnel")])
def test_error_about_a_flow_of_another_dispatcher(both: Both, vip: int) -> None:
    """It reaches the server that the flow has there; nothing is recorded."""
    for port in range(1, 20):
        both.site(SITE)
        server = both(segment(vip, ACK, port)).server
        both.site(SITE)
        seen = both(error(vip, port))
        assert (seen.action, seen.reason, seen.server) == ("forward", "icmp-error-unknown-flow", server)
        assert not len(both.reference.flows)


def test_errors_that_lead_nowhere(both: Both) -> None:
    """About a forged, revoked or replayed address, of a tier that drops, under nat, or from a client that is none."""
    used = proven(CLIENTS["once"])
    both(segment(used))
    both.change(clients={**CLIENTS, "acme": replace(CLIENTS["acme"], state=ClientState.REVOKED)})
    vips = address("gold") ^ 1, address("gold", 1001), used, address("blocked"), address("empty"), address("silver")
    martian = 0xFE80 << 112 | 1
    seen = [both(error(vip, 7)) for vip in vips] + [both(error(address("gold"), 7, martian))]
    assert {(each.action, each.reason) for each in seen} == {("drop", "icmp-error-unknown-flow")}


def test_errors_have_a_rate(both: Both) -> None:
    """A hundred at once and a thousand a second; errors about known flows have none."""
    vip = address("gold")
    actions = [both(error(vip, port)).action for port in range(1, 151)]
    assert actions == ["forward"] * 100 + ["drop"] * 50
    assert both(error(vip, 1), after=0.001).action == "forward"
    both(segment(vip, port=7))
    assert {both(error(vip, 7)).reason for _ in range(200)} == {"icmp-error"}
