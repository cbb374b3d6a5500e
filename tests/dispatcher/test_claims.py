"""Flows whose clients say something: rules and sessions by claims, flow labels, source addresses, order when held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.address.fields import pack_claims
from dnsvip.address.keyring import Keyring
from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.address.source import SourceCodec
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.holding import CLAIMED, priority_of
from dnsvip.dispatcher.io.xdp.runner import handed_up_tables
from dnsvip.dispatcher.packet import flow_label
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.site import Cluster, Label, Over, Pool, Rate, SelectRule, Source, Stickiness
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLUSTER,
    EPOCH,
    MASTER,
    NOW,
    NOW_NS,
    PLAIN,
    POOLS,
    SITE,
    SYN,
    TIERS,
    segment,
    servers,
    snapshot,
    with_label,
)

RULES = (
    SelectRule({"content": ("video",)}, "video"),
    SelectRule({"quality": (9,)}, "good"),
    SelectRule({"proof": ("source",)}, "own"),
)
SAYING = replace(
    CLUSTER,
    layout=(("tier", 4), ("client", 16), ("expiry", 6)),
    claims=(("content", 3), ("session", 8)),
    label=Label((("quality", 4), ("priority", 3)), 13),
    source=Source((("tier", 4), ("client", 33)), 24),
    values={"content": {"video": 1}},
    select=RULES,
)
EXTRA = {name: Pool(name, servers(name, 1)) for name in ("video", "good", "own")}
KEY = client_key(MASTER, SAYING.address_layout, 1001, 0)
SLOT = NOW // 30


def tables(cluster: Cluster = SAYING, **changes: Any) -> DispatchTables:
    """Tables of the site with a cluster whose clients say something."""
    site = replace(SITE, clusters={"web": cluster}, pools={**POOLS, **EXTRA}, **changes)
    keyring = Keyring(cluster.address_layout, [EPOCH])
    return DispatchTables(replace(snapshot(site), keyrings={"web": keyring}))


def issued(at: DispatchTables, tier: str = "gold") -> int:
    """An address issued to acme."""
    active = at.snapshot.keyrings["web"].active
    assert active
    return active[1].encode({"tier": TIERS[tier].code, "client": 1001, "expiry": 63})


def proven(at: DispatchTables, **said: int) -> int:
    """The same with what acme says."""
    claims = pack_claims(SAYING.claims, said)
    return prove(SAYING.address_layout, issued(at), KEY, Bind.ADDRESS, CLIENT, 0, SLOT, claims)


def labelled(packet: bytes, **said: int) -> bytes:
    """A packet from acme with a flow label that says something."""
    form = SAYING.label_format
    assert form is not None
    destination = int.from_bytes(packet[24:40], "big")
    return with_label(packet, form.make(destination, KEY, Bind.ADDRESS, CLIENT, 0, SLOT, form.pack(said)))


def see(at: DispatchTables, packet: bytes, flows: Flows | None = None) -> Verdict:
    """The verdict on a packet."""
    return decide(packet, at, Flows(100) if flows is None else flows, NOW_NS)


def pool(verdict: Verdict) -> str | None:
    """The pool of its server."""
    return verdict.server.pool if verdict.server else None


def test_the_label_of_a_packet() -> None:
    """The flow label are the last 20 bits of the first word; IPv4 has none."""
    assert flow_label(with_label(segment(PLAIN), 0xF1234)) == 0xF1234
    assert flow_label(segment(PLAIN)) == 0
    assert flow_label(segment(0xC0000201)) == 0


def test_claims_pick_the_pool() -> None:
    """A claim in the address, a claim in the label and a source address each pick the pool of their rule."""
    at = tables()
    own = SourceCodec(_format(), EPOCH.secret, EPOCH.slot).seal(CLIENT, TIERS["gold"].code << 33 | 1001)
    assert pool(see(at, segment(issued(at)))) == "fast"
    assert pool(see(at, segment(proven(at, content=1)))) == "video"
    assert pool(see(at, labelled(segment(issued(at)), quality=9))) == "good"
    assert pool(see(at, labelled(segment(proven(at)), quality=9))) == "good"
    assert pool(see(at, labelled(segment(proven(at, content=1)), quality=9))) == "video"
    verdict = see(at, segment(PLAIN, source=own))
    assert (pool(verdict), verdict.reason) == ("own", "source")
    assert pool(see(at, segment(PLAIN))) == "slow"


def _format() -> Any:
    form = SAYING.source_format
    assert form is not None
    return form


def test_a_flow_keeps_what_its_first_packet_said() -> None:
    """Labels of later packets do not matter; a flow from its own source address is not anonymous."""
    at, flows = tables(), Flows(100)
    packet = segment(issued(at), ACK)
    assert pool(see(at, labelled(segment(issued(at)), quality=9), flows)) == "good"
    for later in (packet, with_label(packet, 0x12345), labelled(packet, quality=1)):
        verdict = see(at, later, flows)
        assert (pool(verdict), verdict.reason) == ("good", "known")
    assert flows.labels_ignored == 0


def test_labels_that_are_no_claim_are_counted() -> None:
    """A host's own label is counted beside the verdict, once for each new flow."""
    at, flows = tables(), Flows(100)
    for port in (1, 2):
        verdict = see(at, with_label(segment(issued(at), port=port), 0x12345), flows)
        assert (verdict.reason, pool(verdict)) == ("issued", "fast")
        see(at, with_label(segment(issued(at), ACK, port=port), 0x54321), flows)
    see(at, with_label(segment(PLAIN), 0x12345), flows)
    assert flows.labels_ignored == 2


def test_a_claimed_session_stays_together() -> None:
    """With stickiness by session the claimed one picks the server, for whichever ports; without one the client does."""
    many = replace(POOLS["fast"], servers=servers("fast", 8), stickiness=Stickiness.SESSION)
    site = replace(SITE, clusters={"web": SAYING}, pools={**POOLS, **EXTRA, "fast": many})
    at = DispatchTables(replace(snapshot(site), keyrings={"web": Keyring(SAYING.address_layout, [EPOCH])}))
    chosen = {
        session: {see(at, segment(proven(at, session=session), port=port)).server for port in range(1, 9)}
        for session in range(16)
    }
    assert {len(one) for one in chosen.values()} == {1}
    assert len({server for one in chosen.values() for server in one}) > 2


@pytest.mark.parametrize(
    ("claimed", "values", "expected"),
    [
        (("priority", 3), {"priority": 5}, 2 * CLAIMED + 5),
        (("priority", 3), {}, 2 * CLAIMED),
        (("priority", 6), {"priority": 60}, 2 * CLAIMED + 7),
        (("quality", 3), {"priority": 5}, 2 * CLAIMED),
    ],
)
def test_priority(claimed: tuple[str, int], values: Mapping[str, int], expected: int) -> None:
    """The route's priority comes before the claimed one; a field of the layout that is called so claims nothing."""
    cluster = replace(CLUSTER, claims=(claimed,))
    address = AddressVerdict(see(tables(), segment(PLAIN)).address.reason, TIERS["held"], cluster, values=values)  # type: ignore[union-attr]
    assert priority_of(2, address) == expected


def test_claimed_priorities_make_way() -> None:
    """Where the place for held packets is full, a new one of the same tier waits only with a higher claim."""
    tiers = {**TIERS, "gold": replace(TIERS["gold"], rate=Rate(10, 1, Over.HOLD))}
    at = tables(tiers=tiers)
    full = Flows(1000)
    for _ in range(full.hold.bound):
        full.hold.add("other", 0, b"", 0)
    packets = (segment(issued(at), port=port) for port in (1, 2, 3))
    reasons = [see(at, packet, full).reason for packet in (*packets, labelled(segment(issued(at), SYN, 4), priority=1))]
    assert reasons == ["issued", "over-rate", "over-rate", "held"]


def test_packets_that_the_kernel_program_hands_up_say_the_same() -> None:
    """The runner beside the kernel program reads what clients say as the program does."""
    at = handed_up_tables(tables())
    own = SourceCodec(_format(), EPOCH.secret, EPOCH.slot).seal(CLIENT, TIERS["gold"].code << 33 | 1001)
    assert pool(see(at, labelled(segment(issued(at)), quality=9))) == "good"
    assert pool(see(at, segment(proven(at, content=1)))) == "video"
    verdict = see(at, segment(PLAIN, source=own))
    assert (pool(verdict), verdict.reason) == ("own", "source")
