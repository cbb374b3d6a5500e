"""Flows and packets as JSON, and the filters that select them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.view import UserEvents, UserFlows
from dnsvip.dispatcher.observe.as_json import event_json, flow_json
from dnsvip.dispatcher.observe.filter import CompiledFilter, read_filter
from dnsvip.dispatcher.observe.plane import Event, Filter, FlowState
from dnsvip.dispatcher.packet import Packet, parse
from dnsvip.dispatcher.reason import REASONS, WORDS, Action, in_words
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.errors import ConfigError
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    FIN,
    NOW,
    NOW_NS,
    PLAIN,
    PLAIN4,
    address,
    segment,
    snapshot,
)

TABLES = DispatchTables(snapshot())


def flows_of(*packets: bytes) -> Flows:
    """A table after these packets."""
    flows = Flows(1000)
    for data in packets:
        decide(data, TABLES, flows, NOW_NS)
    return flows


def shown(flows: Flows, tables: DispatchTables = TABLES) -> UserFlows:
    """The flows as they are shown."""
    return UserFlows(flows, lambda: tables)


def found(flows: Flows, query: Filter, tables: DispatchTables = TABLES) -> list[int]:
    """The source ports of the flows that a query finds."""
    selection = CompiledFilter(query, tables)
    chosen = [flow for flow in UserFlows(flows, lambda: tables).flows() if selection.matches_flow(flow, NOW)]
    return sorted(flow_json(flow, selection, NOW)["source_port"] for flow in chosen)


ACME = address("gold", 1001)
FLOWS = flows_of(
    segment(ACME, port=1), segment(ACME, ACK, port=1),
    segment(address("gold"), port=2),
    segment(address("standard"), port=3, source=CLIENT + 256), segment(address("standard"), FIN | ACK, port=3,
                                                                        source=CLIENT + 256),
    segment(PLAIN4 + 8, port=4),
)  # fmt: skip


def text(number: int) -> str:
    return str(IPv6Address(number))


@pytest.mark.parametrize(
    ("asked", "ports"),
    [
        ({}, [1, 2, 3, 4]),
        ({"client": "acme"}, [1]),
        ({"tier": "gold"}, [1, 2, 4]),
        ({"address": text(ACME)}, [1]),
        ({"address": text(CLIENT)}, [1, 2]),
        ({"address": "2001:db8:a:1::/64"}, [1, 2, 3]),
        ({"address": "192.0.2.0/28"}, [4]),
        ({"address": "0.0.0.0/0"}, [4]),
        ({"address": "2001:db9::/32"}, []),
        ({"state": "established"}, [1]),
        ({"state": "closing"}, [3]),
        ({"state": "new", "tier": "gold"}, [2, 4]),
    ],
)
def test_flows_are_found(asked: dict[str, str], ports: list[int]) -> None:
    """By client, tier, state and any address of them, all that is said together."""
    assert found(FLOWS, read_filter(asked, TABLES)) == ports


def test_flows_of_a_server() -> None:
    """By server with or without its pool, and by its address."""
    servers = {f"{pool.name}/{s.name}": s for pool in TABLES.pools.values() for s in pool.servers}
    everyone = sorted(port for name in servers for port in found(FLOWS, read_filter({"server": name}, TABLES)))
    assert everyone == [1, 2, 3, 4]
    for name, server in servers.items():
        by_name = found(FLOWS, Filter(server=name))
        assert found(FLOWS, read_filter({"address": str(server.address)}, TABLES)) == by_name


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"client": "acne"}, "'acne' is not a client"),
        ({"tier": "golden"}, "'golden' is not a tier; did you mean 'gold'? (there is: blocked, counted"),
        ({"server": "fast/x"}, "'fast/x' is not a server"),
        ({"reason": "bad"}, "'bad' is not a reason; did you mean 'bad-tag'? (there is: bad-"),
        ({"state": "open"}, "must be new, established, closing"),
        ({"address": "2001:db8::1/32"}, "'2001:db8::1/32' is not an address or a prefix"),
        ({"port": "1"}, "port: not a criterion"),
        ({"client": 1}, "must be text"),
    ],
)
def test_wrong_questions_are_named(asked: dict[str, object], message: str) -> None:
    """What is not there, or not of that form, is said."""
    with pytest.raises(ConfigError) as caught:
        read_filter(asked, TABLES)
    assert message in str(caught.value)


def test_a_flow_is_described() -> None:
    """It has its endpoints, server, the fields of its address, and its idle time."""
    selection = CompiledFilter(Filter(client="acme"), TABLES)
    (flow,) = (flow for flow in shown(FLOWS).flows() if selection.matches_flow(flow, NOW))
    flow_document = flow_json(flow, selection, NOW + 7)
    server = flow.server
    assert server
    assert flow_document == {
        "protocol": "tcp", "source": text(CLIENT), "source_port": 1, "vip": text(ACME), "port": 80,
        "state": "established", "idle": 7, "pool": "fast", "server": server.name,
        "server_address": str(IPv6Address(server.address)), "dscp": 34,
        "cluster": "web", "tier": "gold", "client": "acme", "rule": None,
    }  # fmt: skip


def test_a_flow_outlives_its_server() -> None:
    """Its pool is still known."""
    tables = DispatchTables(replace(snapshot(), site=replace(snapshot().site, pools={})), TABLES)
    documents = [flow_json(flow, CompiledFilter(Filter(), tables), NOW) for flow in shown(FLOWS, tables).flows()]
    assert {(one["server"], one["pool"]) for one in documents} == {(None, "fast"), (None, "slow")}


def test_packets_are_described() -> None:
    """Each has its action and reason; so have malformed bytes."""
    taps, events, flows = UserEvents(), list[Event](), Flows(1000)
    stop = taps.watch(events.append, Filter())
    for data in (segment(ACME), segment(ACME, ACK), segment(ACME ^ 1), b"x"):
        taps.show(data, decide(data, TABLES, flows, NOW_NS), NOW_NS)
    stop()
    assert taps.sinks == ()
    selection = CompiledFilter(Filter(), TABLES)
    documents = [event_json(event, selection) for event in events]
    assert [one["reason"] for one in documents] == ["issued", "known", "bad-tag", "malformed-short"]
    assert [one["client"] for one in documents] == ["acme", "acme", None, None]
    assert documents[0]["words"] == "forwarded: new flow to an issued address"
    assert (documents[0]["at"], documents[0]["size"], documents[0]["dscp"]) == (NOW, 60, 34)
    assert (documents[2]["action"], documents[2]["server"]) == ("drop", None)
    assert [documents[3][name] for name in ("protocol", "source", "tier", "server")] == [None] * 4
    chosen = [[e.reason for e in events if CompiledFilter(q, TABLES).matches_event(e, NOW)] for q in (
        Filter(client="acme"), Filter(reason="bad-tag"), read_filter({"address": text(ACME)}, TABLES))]  # fmt: skip
    assert chosen == [["issued", "known"], ["bad-tag"], ["issued", "known"]]


def test_too_many_packets_are_counted() -> None:
    """A thousand at once and five thousand a second are shown, the others counted."""
    taps, events, data = UserEvents(), list[Event](), segment(PLAIN)
    taps.watch(events.append, Filter())
    verdict = decide(data, TABLES, Flows(10), NOW_NS)
    for number in range(3000):
        taps.show(data, verdict, NOW_NS + number)
    assert (len(events), taps.missed) == (1000, 2000)
    taps.show(data, verdict, NOW_NS + SECOND)
    assert len(events) == 1001


def test_who_wants_new_flows_alone_spends_nothing_on_known_ones() -> None:
    """Without another watcher, packets of known flows are not examined."""
    taps, log, all_events, flows = UserEvents(), list[Event](), list[Event](), Flows(1000)
    stop = taps.watch(log.append, Filter(opening=True))
    for flags in (2, ACK, ACK):
        data = segment(ACME, flags)
        taps.show(data, decide(data, TABLES, flows, NOW_NS), NOW_NS)
    assert [event.reason for event in log] == ["issued"]
    taps.watch(all_events.append, Filter())
    taps.show(data, decide(data, TABLES, flows, NOW_NS), NOW_NS)
    assert [event.reason for event in all_events] == ["known"]
    stop()
    assert taps.sinks == (all_events.append,)


def test_forgetting() -> None:
    """A forgotten flow is unknown; one that is not known cannot be forgotten."""
    flows = flows_of(segment(ACME, port=1), segment(ACME, ACK, port=1))
    packet = parse(segment(ACME, port=1))
    assert isinstance(packet, Packet)
    table = shown(flows)
    assert (table.forget(packet.key), table.forget(packet.key), len(flows)) == (True, False, 0)


def test_flows_may_change_while_they_are_listed() -> None:
    """Flows that come, go or are established during the listing do no harm; none is listed twice."""
    flows = flows_of(*(segment(ACME, port=port) for port in range(1, 200)))
    told = []
    for number, flow in enumerate(shown(flows).flows()):
        told.append(flow.key)
        decide(segment(ACME, ACK, port=number % 250 + 1), TABLES, flows, NOW_NS)
        decide(segment(ACME, port=1000 + number), TABLES, flows, NOW_NS)
        if number % 3 == 0:
            flows.remove(flow.key)
    assert len(told) == len(set(told)) > 100


def test_every_reason_has_words() -> None:
    """Each reason has its own text, and there are no others."""
    assert set(WORDS) == set(REASONS)
    assert len(set(WORDS.values())) == len(WORDS)
    for action in Action:
        assert in_words("known", action).endswith(": known flow")


def test_every_flow_state_has_a_word() -> None:
    """Each segment and a closed flow have a word."""
    assert {flow.state for flow in shown(FLOWS).flows()} == set(FlowState)
