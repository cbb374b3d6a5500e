"""A packet is parsed once, and no key is looked up twice in one table, whatever the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.dispatcher import engine
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.io.user.view import UserEvents
from dnsvip.dispatcher.observe.plane import Event, Filter
from dnsvip.dispatcher.verdict import Verdict
from dnsvip.site import ServerState
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    FIN,
    NOW_NS,
    PLAIN,
    SYN,
    address,
    datagram,
    icmp_error,
    ip6,
    proven,
    segment,
    snapshot,
    with_state,
)

TABLES = DispatchTables(snapshot())
ROUTER = CLIENT + 99


class CountingDict(dict[bytes, Any]):
    """A dict that counts reads of each key."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reads: Counter[bytes] = Counter()

    def get(self, key: bytes, default: Any = None) -> Any:  # type: ignore[override]
        self.reads[key] += 1
        return super().get(key, default)

    def __getitem__(self, key: bytes) -> Any:
        self.reads[key] += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.reads[key] += 1  # type: ignore[index]
        return super().__contains__(key)


class Counted:
    """The decision function and its runner, with all parsing and look-ups counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables, self.flows, self.events = TABLES, Flows(1000), UserEvents()
        self.events.watch(self._see, Filter())
        self.event: Event | None = None
        self.parsed = self.verified = 0
        parse, verify = engine.parse, TABLES.verifier.verify

        def counting_parse(data: bytes) -> Any:
            self.parsed += 1
            return parse(data)

        def counting_verify(*args: Any, **more: Any) -> Any:
            self.verified += 1
            return verify(*args, **more)

        monkeypatch.setattr(engine, "parse", counting_parse)
        monkeypatch.setattr(TABLES.verifier, "verify", counting_verify)

    def _see(self, event: Event) -> None:
        self.event = event

    def __call__(self, data: bytes) -> Verdict:
        """Decide, show and send one packet; asserts that nothing was done twice."""
        flows = self.flows
        flows.established.slots = established = CountingDict(flows.established.slots)
        flows.probation.slots = probation = CountingDict(flows.probation.slots)
        flows.translations.forth = forth = CountingDict(flows.translations.forth)
        flows.translations.back = back = CountingDict(flows.translations.back)
        self.parsed = self.verified = 0
        verdict = engine.decide(data, self.tables, flows, NOW_NS)
        self.events.show(data, verdict, NOW_NS)
        output_bytes(data, verdict)
        assert self.parsed == 1
        assert self.verified <= 1
        for reads in (established.reads, probation.reads, forth.reads, back.reads):
            assert all(count == 1 for count in reads.values()), reads
        assert self.event is not None
        assert self.event.key == (verdict.packet.key if verdict.packet else b"")
        return verdict


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """A dispatcher with an empty flow table."""
    return Counted(monkeypatch)


def reply_to(data: bytes, verdict: Verdict) -> bytes:
    """What the server under nat answers to a packet that was sent to it."""
    sent = output_bytes(data, verdict)
    server, port = int.from_bytes(sent[24:40], "big"), int.from_bytes(sent[40:42], "big")
    return segment(CLIENT, SYN | ACK, 80, server, port)


@pytest.mark.parametrize("tier", ["gold", "silver", "tunnel"])
def test_flows_of_every_mode(counted: Counted, tier: str) -> None:
    """New, established, closing and reopened flows, and errors about them, under direct, nat and encap."""
    vip = address(tier)
    reasons = [counted(segment(vip, flags)).reason for flags in (SYN, ACK, ACK, FIN | ACK, SYN, ACK)]
    assert reasons == ["issued", "known", "known", "known", "issued", "known"]
    quoted = segment(CLIENT, ACK, 80, vip, 40_000)
    assert counted(icmp_error(ROUTER, vip, quoted)).reason == "icmp-error"


def test_replies(counted: Counted) -> None:
    """A server's reply under nat, before and after its flow is established."""
    syn = segment(address("silver"))
    reply = reply_to(syn, counted(syn))
    assert counted(reply).reason == "reply"
    counted(segment(address("silver"), ACK))
    assert counted(reply).reason == "reply"


def test_fragments(counted: Counted) -> None:
    """First and later fragments, and a later one that has no first."""

    def piece(offset: int, more: int, identity: int) -> bytes:
        whole = datagram(address("gold"), data=bytes(64))
        header = bytes((17, 0)) + (offset << 3 | more).to_bytes(2, "big") + identity.to_bytes(4, "big")
        body = whole[40 + 8 * offset : 40 + 8 * offset + 32]
        return ip6(CLIENT, address("gold"), 17, body, header, 44)

    assert [counted(piece(offset, more, 1)).reason for offset, more in ((0, 1), (4, 0))] == ["issued", "fragment"]
    assert counted(piece(4, 0, 2)).reason == "fragment-without-first"


OTHERS: list[tuple[str, Callable[[], bytes]]] = [
    ("plain", lambda: segment(PLAIN)),
    ("proven", lambda: segment(proven(CLIENTS["once"]))),
    ("bad-tag", lambda: segment(address("gold") ^ 1)),
    ("tier-drop", lambda: segment(address("blocked"))),
    ("no-server", lambda: segment(address("empty"))),
    ("not-ours", lambda: segment(CLIENT + 1)),
    ("icmp-error-unknown-flow", lambda: icmp_error(ROUTER, PLAIN, segment(CLIENT, ACK, 80, PLAIN, 1))),
    ("unsupported-protocol", lambda: ip6(CLIENT, PLAIN, 132, bytes(16))),
    ("malformed-short", lambda: segment(PLAIN)[:50]),
]


@pytest.mark.parametrize(("reason", "make"), OTHERS, ids=[reason for reason, _ in OTHERS])
def test_packets_without_a_flow(counted: Counted, reason: str, make: Callable[[], bytes]) -> None:
    """New, forged, refused, foreign, orphaned and malformed packets."""
    assert counted(make()).reason in (reason, "malformed-length")


def test_reselection(counted: Counted) -> None:
    """A flow whose server has gone, to another one, under direct and nat."""
    for tier, pool in (("gold", "fast"), ("silver", "translated")):
        server = counted(segment(address(tier))).server
        assert server is not None
        counted.tables = DispatchTables(
            replace(snapshot(), site=with_state(pool, server.name, ServerState.DOWN)), counted.tables
        )
        moved = counted(segment(address(tier), ACK))
        assert (moved.reason, moved.server == server) == ("reselected", False)


def test_verdict_carries_what_it_was_made_of(counted: Counted) -> None:
    """The packet as parsed, and for a new flow the verdict on its address with its client and cluster."""
    first = counted(segment(address("gold", 1001)))
    assert first.packet is not None
    assert first.address is not None
    assert (first.address.record, first.address.cluster) == (CLIENTS["acme"], TABLES.snapshot.site.clusters["web"])
    later = counted(segment(address("gold", 1001), ACK))
    assert later.packet is not None
    assert (later.packet.key, later.address) == (first.packet.key, None)
