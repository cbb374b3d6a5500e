"""Stickiness end to end: the session that the DNS server encodes selects the server, wherever the client is."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from dnsvip.address.layout import Layout
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import Service, Snapshot, Step
from tests.dispatcher.build import ACK, CLIENT, segment
from tests.samples import NOW, make_snapshot

WWW = Service("www.example.test", "web", "legacy")
LAYOUT = [["tier", 4], ["client", 14], ["session", 12], ["nonce", 7]]
SERVERS = [{"name": f"s{n}", "address": f"fd00:10::{n + 1:x}"} for n in range(4)]


def site(stickiness: str) -> Snapshot:
    """The sample site, with sessions in its addresses and four servers for its gold tier."""
    return make_snapshot(
        {
            "cluster": {"web": {"layout": LAYOUT, "anonymous": "encoded"}},
            "pool": {"fast": {"stickiness": stickiness, "servers": SERVERS}},
            "tier": {"standard": {"pool": "fast"}},
        }
    )


def asked(snapshot: Snapshot, source: str, client: str | None = None, now: float = NOW) -> int:
    """The address in the answer to a resolver at `source`, known as a client or not."""
    who = Classified(snapshot.site.clients[client], Step.TSIG) if client else Classified(None, None)
    return VipMaker(snapshot).aaaa(WWW, who, Requester(IPv6Address(source)), now).address


def server(tables: DispatchTables, vip: int, source: int, port: int, flags: int = 2) -> str:
    """The server of a flow at a dispatcher that knows none."""
    verdict = decide(segment(vip, flags, port, source), tables, Flows(100), int(NOW) * SECOND)
    assert verdict.server, verdict
    return verdict.server.name


def test_the_layout_has_sessions() -> None:
    """The layout that these tests use is one."""
    assert Layout(make_snapshot().site.clusters["web"].prefix, LAYOUT, 24).bits("session") == 12  # type: ignore[arg-type]


@pytest.mark.parametrize("stickiness", ["session", "client"])
def test_a_client_that_moves_keeps_its_server(stickiness: str) -> None:
    """From another network, another port, with an address asked for anew from there: the same server each time."""
    snapshot = site(stickiness)
    tables = DispatchTables(snapshot)
    chosen = set()
    for step in range(12):
        vip = asked(snapshot, f"2001:db8:{step}::53", "acme", NOW + 60 * step)
        chosen.add(server(tables, vip, CLIENT + (step << 64), 1000 + step))
    assert len(chosen) == 1


def test_an_anonymous_session_survives_a_change_of_address() -> None:
    """An anonymous client is known by the session in its address alone: it may come from anywhere with it."""
    tables = DispatchTables(snapshot := site("session"))
    servers = set()
    for network in range(40):
        vip = asked(snapshot, f"2001:db8:{network}::53")
        chosen = {server(tables, vip, CLIENT + (step << 64), 1000 + step, ACK) for step in range(8)}
        assert len(chosen) == 1
        servers |= chosen
    assert len(servers) == 4


def test_without_stickiness_flows_spread() -> None:
    """In a pool that is sticky by flow the same client has all servers."""
    tables = DispatchTables(snapshot := site("flow"))
    vip = asked(snapshot, "2001:db8::53", "acme")
    assert len({server(tables, vip, CLIENT, port) for port in range(60)}) == 4


def test_a_client_sticks_by_its_id_not_by_its_session() -> None:
    """Under client stickiness an anonymous client is known by where it comes from, so there a move may matter."""
    tables = DispatchTables(snapshot := site("client"))
    vip = asked(snapshot, "2001:db8::53")
    assert len({server(tables, vip, CLIENT, port) for port in range(9)}) == 1
    assert len({server(tables, vip, CLIENT + (step << 64), 1) for step in range(60)}) == 4
