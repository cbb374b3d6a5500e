"""Known flows that end with their client or their tier: `end_flows`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.ending import concerns, walk
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import CLOSING_SECONDS, Flows
from dnsvip.dispatcher.io.user.view import UserFlows
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import Client, ClientState, OnInvalid, Site, Tier, TierAction
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    CLUSTER,
    NOW_NS,
    PLAIN,
    SITE,
    SYN,
    TIERS,
    address,
    segment,
    snapshot,
)

ACME, OTHER = address("gold", 1001), address("gold", 1003)


class Dispatcher:
    """Tables and flows in one; a change of the site ends flows as a runner does."""

    def __init__(self, site: Site = SITE) -> None:
        self.flows = Flows(1000)
        self.tables = DispatchTables(snapshot(site))

    def change(self, site: Site, ended: frozenset[int] = frozenset(), deleted: frozenset[int] = frozenset()) -> int:
        """Decide by another site; how many flows that has changed."""
        now = replace(snapshot(site), ended=ended, deleted=dict.fromkeys(ended | deleted, 1))
        before, self.tables = self.tables, DispatchTables(now, self.tables)
        if not concerns(before.sound, self.tables.sound):
            return 0
        return [0, *walk(self.flows, self.tables, 3)][-1]

    def __call__(self, data: bytes, after: float = 0) -> Verdict:
        return decide(data, self.tables, self.flows, NOW_NS + int(after * SECOND))

    def established(self, vip: int, port: int = 40_000) -> bytes:
        """A segment of a flow that is known from now on."""
        self(segment(vip, SYN, port))
        packet = segment(vip, ACK, port)
        assert self(packet).reason == "known"
        return packet


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher()


def with_client(site: Site = SITE, **changes: object) -> Site:
    """The site with acme changed."""
    return replace(site, clients={**CLIENTS, "acme": replace(CLIENTS["acme"], **changes)})  # type: ignore[arg-type]


def with_tier(name: str, **changes: object) -> Site:
    """The site with a tier changed."""
    return replace(SITE, tiers={**TIERS, name: replace(TIERS[name], **changes)})  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [ClientState.REVOKED, ClientState.DISABLED])
def test_a_revoked_clients_flows_end_when_asked(dispatcher: Dispatcher, state: ClientState) -> None:
    """Its known flows are dropped as revoked from then on, and others' go on; without `end_flows` all go on."""
    own, others, fresh = dispatcher.established(ACME), dispatcher.established(OTHER), segment(ACME, SYN, 9)
    dispatcher(fresh)
    assert dispatcher.change(with_client(state=state)) == 0
    assert dispatcher(own).reason == "known"
    assert dispatcher.change(with_client(state=state, end_flows=True)) == 2
    for packet in (own, fresh, segment(ACME, SYN), segment(ACME, SYN, 77), segment(ACME, ACK, 78)):
        verdict = dispatcher(packet)
        assert (verdict.action, verdict.reason, verdict.server) == (Action.DROP, "revoked", None)
    assert dispatcher(others).reason == "known"


def test_no_default_tier_takes_what_has_ended() -> None:
    """Neither known flows nor new ones, nor those to addresses that have expired, are served in a default tier."""
    cluster = replace(CLUSTER, on_invalid=OnInvalid.DEFAULT_TIER)
    site = replace(SITE, clusters={"web": cluster})
    dispatcher, old = Dispatcher(site), address("gold", 1001, expiry=0)
    own, expired = dispatcher.established(ACME), dispatcher.established(old)
    revoked = with_client(site, state=ClientState.REVOKED)
    dispatcher.change(revoked)
    assert dispatcher(segment(ACME, SYN, 5)).action is Action.FORWARD
    dispatcher.change(with_client(site, state=ClientState.REVOKED, end_flows=True))
    packets = (own, expired, segment(ACME, SYN, 6), segment(old, SYN, 6), segment(ACME, SYN, 5))
    assert {(dispatcher(packet).action, dispatcher(packet).reason) for packet in packets} == {(Action.DROP, "revoked")}
    later = CLOSING_SECONDS + 1
    assert {dispatcher(packet, later).reason for packet in (own, expired)} == {"revoked"}


def test_a_client_that_is_enabled_again_goes_on(dispatcher: Dispatcher) -> None:
    """A flow that was ended by mistake goes on where it was, if its client is still there."""
    own = dispatcher.established(ACME)
    server = dispatcher(own).server
    dispatcher.change(with_client(state=ClientState.DISABLED, end_flows=True))
    assert dispatcher(own, 50).reason == "revoked"
    dispatcher.change(SITE)
    assert dispatcher(own, 100).server == server
    assert dispatcher(own, 100 + CLOSING_SECONDS + 1).reason == "known"


def test_what_has_ended_is_forgotten(dispatcher: Dispatcher) -> None:
    """A minute after its last packet an ended flow leaves the table."""
    dispatcher.established(ACME)
    dispatcher.change(with_client(state=ClientState.REVOKED, end_flows=True))
    dispatcher.flows.sweep(NOW_NS // SECOND + CLOSING_SECONDS)
    assert len(dispatcher.flows) == 1
    dispatcher.flows.sweep(NOW_NS // SECOND + CLOSING_SECONDS + 1)
    assert len(dispatcher.flows) == 0


def test_a_deleted_clients_flows_end_when_asked(dispatcher: Dispatcher) -> None:
    """Deleting leaves known flows, unless it was asked to end them; they stay ended once its id is free again."""
    without = replace(SITE, clients={name: client for name, client in CLIENTS.items() if name != "acme"})
    own = dispatcher.established(ACME)
    assert dispatcher.change(without, deleted=frozenset({1001})) == 0
    assert dispatcher(own).reason == "known"
    dispatcher.change(without, ended=frozenset({1001}))
    assert dispatcher(own).reason == "revoked"
    assert dispatcher(segment(address("gold", 1001, expiry=0), ACK, 7)).reason == "revoked"
    dispatcher.change(without)
    assert dispatcher(own).reason == "revoked"


def test_a_tiers_flows_end_when_asked(dispatcher: Dispatcher) -> None:
    """With the action to drop and `end_flows`, of the tier's own flows and of clients that have it now."""
    gold, plain, moved = dispatcher.established(OTHER), dispatcher.established(PLAIN), dispatcher.established(ACME)
    drop = {"action": TierAction.DROP}
    dispatcher.change(with_tier("gold", **drop))
    assert dispatcher(gold).reason == "known"
    dispatcher.change(with_tier("gold", **drop, end_flows=True))
    assert [dispatcher(packet).reason for packet in (gold, plain, moved)] == ["tier-drop", "known", "tier-drop"]
    dispatcher.change(SITE)
    assert [dispatcher(packet).reason for packet in (gold, plain, moved)] == ["known"] * 3
    blocked = with_tier("blocked", end_flows=True)
    dispatcher.change(with_client(blocked, tier="blocked"))
    assert [dispatcher(packet).reason for packet in (gold, plain, moved)] == ["known", "known", "tier-drop"]


def test_under_nat_replies_end_too(dispatcher: Dispatcher) -> None:
    """What a server goes on sending on an ended flow reaches the client neither from the VIP nor from the server."""
    vip = address("silver", 1001)
    own = Dispatcher(with_client(tier="silver"))
    packet = own.established(vip)
    server = own(packet).server
    assert server is not None
    reply = segment(CLIENT, ACK, 80, int.from_bytes(server.address, "big"), 40_000)
    assert own(reply).reason == "reply"
    own.change(with_client(tier="silver", state=ClientState.REVOKED, end_flows=True))
    assert (own(reply).action, own(reply).reason) == (Action.DROP, "revoked")


def test_ended_flows_are_shown_with_their_server(dispatcher: Dispatcher) -> None:
    """`dnsvip flows search` shows an ended flow as closing, at the server that it had."""
    server = dispatcher(dispatcher.established(ACME)).server
    dispatcher.change(with_client(state=ClientState.REVOKED, end_flows=True))
    flow = next(UserFlows(dispatcher.flows, lambda: dispatcher.tables).flows())
    assert (flow.state, flow.pool, flow.server, flow.dscp) == ("closing", "fast", server, 34)


def test_what_concerns_flows() -> None:
    """Only a change that may end flows, or let them go on, makes the table be walked."""
    base, tier = snapshot(), with_tier("blocked", end_flows=True)
    assert not concerns(base, snapshot(replace(SITE, pools={})))
    assert not concerns(base, snapshot(with_client(state=ClientState.REVOKED)))
    assert concerns(base, snapshot(with_client(state=ClientState.REVOKED, end_flows=True)))
    assert concerns(snapshot(with_client(state=ClientState.REVOKED, end_flows=True)), base)
    assert concerns(base, snapshot(tier))
    assert not concerns(snapshot(tier), snapshot(replace(tier, pools={})))
    assert concerns(snapshot(tier), snapshot(replace(tier, clients={**CLIENTS, "new": Client("new", 7, "gold")})))
    assert Tier("new", 1, end_flows=True).is_ended is False


@pytest.mark.parametrize("lost", ["tier", "both", "client", "deleted", "stand-in"])
@pytest.mark.parametrize("by", ["tier", "client"])
def test_what_has_ended_stays_so_where_its_cause_is_lost(dispatcher: Dispatcher, by: str, lost: str) -> None:
    """Nothing comes back because the row of a tier or client cannot be read, or has been deleted; one that can be read
    again decides."""
    own, others = dispatcher.established(ACME), dispatcher.established(OTHER)
    ended = with_tier("gold", action=TierAction.DROP, end_flows=True)
    if by == "client":
        ended = with_client(state=ClientState.REVOKED, end_flows=True)
    dispatcher.change(ended)
    reason = dispatcher(own).reason
    assert reason in ("revoked", "tier-drop")
    tiers = {name: tier for name, tier in ended.tiers.items() if name != "gold" or lost in ("client", "deleted")}
    clients = {name: one for name, one in ended.clients.items() if name != "acme" or lost == "tier"}
    if lost == "stand-in":
        clients["acme"] = Client("acme", 1001, "", state=ClientState.DISABLED)
    gone = replace(ended, tiers=tiers, clients=clients)
    dispatcher.change(gone, deleted=frozenset({1001}) if lost == "deleted" else frozenset())
    assert (dispatcher(own).action, dispatcher(own).reason) == (Action.DROP, reason)
    if lost in ("tier", "both", "stand-in"):
        dispatcher.change(SITE)
        assert [dispatcher(own).reason, dispatcher(others).reason] == ["known", "known"]
