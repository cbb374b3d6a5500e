"""The walk of a query passes each stage once, whichever way it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import Any

import dns.edns
import dns.message
import pytest

from dnsvip.dns import asked
from dnsvip.dns.control import ServerIdentity
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath import hits, recognize
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.identity.identify import Classifier
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protection.rrl import Limiter
from dnsvip.dns.protocol import parser
from dnsvip.dns.querylog import Sample, record
from dnsvip.dns.zones import places
from tests.dns.world import at_last, world_snapshot

SOURCE = ip_address("203.0.113.9")
NSID = dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")


class Log:
    """Takes samples as the query log does, and writes their lines at once."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def offer(self, sample: Sample) -> None:
        self.lines.append(record(sample, str))


@pytest.fixture(scope="module")
def responder() -> Responder:
    snapshot = replace(world_snapshot(), cookie_secrets=(bytes(16),))
    one = Responder(Engine(snapshot, identity=ServerIdentity(nsid="node-1")), FrontEnds(()), Counter())
    one.limiter, one.samples = Limiter(1000, 2), Log()  # type: ignore[assignment]
    return one


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each stage was passed."""
    counts: Counter[str] = Counter()

    def counting(stage: str, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        counts[stage] += stage != "question" or args[1] in (hits.AT, 12)  # other names are those of records
        return call(*args, **kw)

    def watch(owner: Any, name: str, stage: str) -> None:
        monkeypatch.setattr(owner, name, partial(counting, stage, getattr(owner, name)))

    for module in (parser, recognize):
        watch(module, "read_name", "question")
    for stage in ("parse", "parse_additional"):
        watch(asked, stage, "parse")
    for stage, owner, name in (("classify", Classifier, "classify"), ("decide", Engine, "steps")):
        call = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, stage=stage, call=call: counting(stage, call, *args))
    watch(places, "_locate", "locate")
    return counts


def query(name: str, qtype: str | int = "AAAA", **kw: Any) -> bytes:
    return dns.message.make_query(name, qtype, **kw).to_wire()


def by_udp(responder: Responder, wire: bytes) -> bytes | None:
    [answer] = at_last(
        responder, *responder.datagrams([key_of(SOURCE.packed, wire)], bytearray(wire[:2]), "public", WIDTH[4])
    )
    return answer


@pytest.mark.parametrize(
    "wire",
    [
        query("www.example.test", 65280),
        query("www.example.test", options=[NSID]),
        query("a.b.C.example.test", "LOC", options=[NSID]),
        query("no.such.zone", 65281, options=[NSID]),
    ],
    ids=["private-type", "options", "location", "no-zone"],
)
def test_a_miss_starts_nothing_over(responder: Responder, passed: Counter[str], wire: bytes) -> None:
    """What the fast path leaves to the engine is parsed, identified and looked up once; limit and log parse nothing."""
    assert by_udp(responder, wire)
    assert passed["question"] == passed["parse"] == passed["decide"] == 1
    assert passed["classify"] <= 1
    assert passed["locate"] <= 2  # once to see whether there may be a template


def test_a_miss_of_a_known_sender_identifies_nobody(responder: Responder, passed: Counter[str]) -> None:
    """The sender is identified with its first message."""
    by_udp(responder, query("www.example.test", options=[NSID]))
    passed.clear()
    by_udp(responder, query("www.example.test", "A", options=[NSID]))
    assert (passed["classify"], passed["decide"], passed["question"]) == (0, 1, 1)


def test_a_hit_asks_no_engine(responder: Responder, passed: Counter[str]) -> None:
    """A ready-made answer is not parsed but for the query log, which reads it for the first time."""
    for _ in range(3):
        by_udp(responder, query("www.example.test"))
    assert (passed["decide"], passed["locate"], passed["classify"]) == (0, 0, passed["classify"])
    assert passed["question"] == 3  # one for each line of the log
    responder.samples, log = None, responder.samples
    by_udp(responder, query("www.example.test"))
    responder.samples = log
    assert passed["question"] == 3


def test_a_stream_passes_each_stage_once(responder: Responder, passed: Counter[str]) -> None:
    """Over TCP a ready-made answer asks no engine, and a miss starts nothing over."""
    for _ in range(3):
        assert responder.stream(query("www.example.test"), SOURCE, Arrival("public"))
    assert (passed["decide"], passed["locate"], passed["classify"]) == (0, 0, 1)
    passed.clear()
    assert responder.stream(query("www.example.test", options=[NSID]), SOURCE, Arrival("public"))
    assert (passed["question"], passed["parse"], passed["decide"], passed["classify"]) == (1, 1, 1, 0)
    assert passed["locate"] <= 2
