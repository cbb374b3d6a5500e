"""What a client says of its connections: words, the published vectors, the document, the agent, and its verifier."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import dns.message
import pytest

from dnsvip.address.proof import Bind
from dnsvip.client import Agent, Why
from dnsvip.client.claims import Claims, claims_of, parse_claim
from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import EnrolledCluster, Enrolment, ProofKey, dump, parse
from dnsvip.client.proof import Modifier
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.errors import ClientError
from tests.client.responder import Responder, reply
from tests.samples import make_snapshot

CASES = json.loads((Path(__file__).parent.parent / "fixtures" / "claims.json").read_text())["cases"]
NAME = "www.example.test"
SOURCE = IPv6Address("2001:db8:77::5")
SNAPSHOT = make_snapshot(
    {
        "cluster": {
            "web": {
                "layout": [["tier", 4], ["client", 16], ["expiry", 6]],
                "claims": [["content", 3], ["session", 8]],
                "values": {"content": {"video": 1, "page": 2}},
            }
        }
    }
)
ENTRY = SNAPSHOT.keyrings["web"].at(0)
assert ENTRY is not None
ISSUED = IPv6Address(ENTRY[1].encode({"tier": 1, "client": 1001, "expiry": 63}))


def enrolment(*servers: str) -> Enrolment:
    """That of acme in the sample site."""
    return replace(make_enrolment(SNAPSHOT, "acme", servers or ("192.0.2.53:53",)), tsig=None)


def issuing(query: dns.message.Message, _transport: str) -> list[bytes]:
    """The issued address, for anybody."""
    return [reply(query, f"{query.question[0].name} 60 IN AAAA {ISSUED}").to_wire()]


def read(address: Any) -> Mapping[str, int]:
    """What a dispatcher reads in a proven address now."""
    verdict = AddressVerifier(SNAPSHOT).verify(int(address), int(SOURCE), 0, time.time())
    assert verdict.reason is AddressReason.PROVEN
    return {name: verdict.values[name] for name in ("content", "session")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["proven"])
def test_vectors(case: dict[str, Any]) -> None:
    """The client's address modifier reproduces every published proof with its claims."""
    network = IPv6Network(case["prefix"])
    fields, claims = (tuple((name, bits) for name, bits in case[key]) for key in ("fields", "claims"))
    key = ProofKey(bytes.fromhex(case["client_key"]), Bind(case["bind"]))
    plain = network.network_address + 1
    enrolled = EnrolledCluster("web", network, plain, fields, case["tag_bits"], 30, (), key, claims)
    proven = Modifier(enrolled).prove(
        IPv6Address(case["issued"]), IPv6Address(case["source"]), case["source_port"], case["slot"] * 30 + 1,
        said=case["said"],
    )  # fmt: skip
    assert (proven.why, proven.address) == (Why.PROVEN, IPv6Address(case["proven"]))


def test_the_document_has_what_clients_may_say() -> None:
    """Claims and their words are in the enrolment; where there are none, the keys are absent as before."""
    enrolled = enrolment()
    (web,) = json.loads(dump(enrolled))["clusters"]
    assert (web["claims"], web["values"]) == ([["content", 3], ["session", 8]], {"content": {"video": 1, "page": 2}})
    assert parse(dump(enrolled), "it") == enrolled
    (before,) = json.loads(dump(make_enrolment(make_snapshot(), "acme", ("192.0.2.53:53",))))["clusters"]
    assert not {"claims", "values"} & before.keys()


@pytest.mark.parametrize(
    ("said", "number"),
    [({}, 0), ({"content": "video", "session": 7}, 1 << 8 | 7), ({"content": 2}, 2 << 8), ({"content": 0}, 0)],
)
def test_words_and_numbers(said: Claims, number: int) -> None:
    """A claim is a word of its table or a number; what is not said is 0."""
    assert claims_of(enrolment().clusters[0], said) == number


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"content": "film"}, "claim content=film: cluster 'web' knows video, page"),
        ({"content": 3}, "claim content=3: cluster 'web' knows video, page"),
        ({"session": "mine"}, "claim session=mine: must be a number"),
        ({"session": 256}, "'session': value 256 is out of range"),
        ({"quality": 1}, r"claim 'quality': no cluster of the enrolment has it \(there is: content, session\)"),
        ({"tier": 1}, "claim 'tier': no cluster of the enrolment has it"),
    ],
)
async def test_what_cannot_be_said(said: Claims, message: str) -> None:
    """An agent refuses what no cluster knows, for all connections or for one, before it asks anybody."""
    with pytest.raises(ClientError, match=message):
        Agent(enrolment(), claims=said)
    with pytest.raises(ClientError, match=message):
        await Agent(enrolment()).resolve(NAME, source=SOURCE, claims=said)


def test_claims_need_an_enrolment() -> None:
    """Without a key nothing can be claimed."""
    with pytest.raises(ClientError, match="claim 'content': claims need an enrolment"):
        Agent(claims={"content": "video"})


async def test_a_dispatcher_reads_what_the_agent_says() -> None:
    """Claims of the agent, and of one connection before those, are in the address that it proves."""
    async with Responder(issuing) as server:
        agent = Agent(enrolment(server.endpoint), claims={"content": "page", "session": 9})
        resolved = await agent.resolve(NAME, source=SOURCE)
        other = await agent.resolve(NAME, source=SOURCE, claims={"content": "video"})
    assert read(resolved.address) == {"content": 2, "session": 9}
    assert read(other.address) == {"content": 1, "session": 9}
    assert read(agent.prove(ISSUED, source=SOURCE).address) == {"content": 2, "session": 9}


@pytest.mark.parametrize(
    ("text", "claim"),
    [("content=video", ("content", "video")), ("session=12", ("session", 12)), ("a=b=c", ("a", "b=c"))],
)
def test_claims_as_text(text: str, claim: tuple[str, str | int]) -> None:
    """NAME=VALUE is a claim, of a number where the value has digits alone."""
    assert parse_claim(text) == claim


@pytest.mark.parametrize("text", ["content", "=video", "content=", ""])
def test_text_that_is_no_claim(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="must be NAME=VALUE"):
        parse_claim(text)
