"""Claims in flow labels: made as published, set on sockets, and refused where nothing can carry them."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.proof import Bind
from dnsvip.client import Agent
from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import EnrolledCluster, Enrolment, ProofKey, dump, parse
from dnsvip.client.io.flow_label import use_label
from dnsvip.client.io.hosts import HostsFile
from dnsvip.client.io.stub import Stub
from dnsvip.client.proof import Modifier
from dnsvip.errors import ClientError
from dnsvip.site import Label
from tests.client.responder import Responder, reply
from tests.dns.test_own import world

CASES = json.loads((Path(__file__).parent.parent / "fixtures" / "claims.json").read_text())["cases"]
LABELLED = [case for case in CASES if "label_said" in case]
LABEL = {"claims": [["quality", 4], ["priority", 3]], "mac_bits": 13}
SNAPSHOT = world(label=LABEL, values={"quality": {"low": 1, "high": 9}})
NAME = "www.example.test"
SOURCE = IPv6Address("2001:db8:77::5")


def enrolment(*servers: str) -> Enrolment:
    return make_enrolment(SNAPSHOT, "acme", servers or ("192.0.2.53:53",))


@pytest.mark.parametrize("address", ["issued", "proven"])
@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case["proven"])
def test_vectors(case: dict[str, Any], address: str) -> None:
    """The client makes every published label, of the issued address and of the proven one."""
    network = IPv6Network(case["prefix"])
    fields, claims = (tuple((name, bits) for name, bits in case[key]) for key in ("fields", "claims"))
    label = Label(tuple((name, bits) for name, bits in case["label"]["claims"]), case["label"]["mac_bits"])
    key = ProofKey(bytes.fromhex(case["client_key"]), Bind(case["bind"]))
    plain = network.network_address + 1
    cluster = EnrolledCluster("web", network, plain, fields, case["tag_bits"], 30, (), key, claims, {}, label)
    made = Modifier(cluster).label(
        IPv6Address(case[address]), IPv6Address(case["source"]), case["source_port"], case["slot"] * 30 + 1,
        case["label_said"],
    )  # fmt: skip
    assert made == case[f"label_of_{address}"]


def test_nothing_said_is_no_label() -> None:
    """Without a claim for it, to the plain VIP, and without a key, the host's own label stays."""
    (cluster, *_) = enrolment().clusters
    address, modifier = cluster.prefix[0x1234_5678_9ABC], Modifier(cluster)
    assert modifier.label(address, SOURCE, 0, 1e9, {"quality": "high"})
    assert not modifier.label(address, SOURCE, 0, 1e9, {"content": 1})
    assert not modifier.label(cluster.plain, SOURCE, 0, 1e9, {"quality": "high"})
    assert not Modifier(replace(cluster, proof=None)).label(address, SOURCE, 0, 1e9, {"quality": "high"})
    assert not Modifier(replace(cluster, label=None)).label(address, SOURCE, 0, 1e9, {})


def test_the_document_has_the_label() -> None:
    """Its bits and words are in the enrolment, and whether the cluster reads source addresses."""
    document = json.loads(dump(enrolment()))["clusters"][0]
    assert document["label"] == LABEL
    assert document["values"] == {"quality": {"low": 1, "high": 9}}
    assert document["source"] is True
    assert parse(dump(enrolment()), "it") == enrolment()


async def test_resolve_tells_the_label() -> None:
    """`resolve` gives the label to send, for programs that connect themselves."""
    entry = SNAPSHOT.keyrings["web"].active
    assert entry
    issued = IPv6Address(entry[1].encode({"tier": 1, "client": 1001, "expiry": 63}))

    def issuing(query: Any, _transport: str) -> list[bytes]:
        return [reply(query, f"{query.question[0].name} 60 IN AAAA {issued}").to_wire()]

    async with Responder(issuing) as server:
        agent = Agent(enrolment(server.endpoint))
        resolved = await agent.resolve(NAME, source=SOURCE, claims={"quality": "high"})
        silent = await agent.resolve(NAME, source=SOURCE)
    form = enrolment().clusters[0].label_format
    proof = enrolment().clusters[0].proof
    assert form
    assert proof
    assert isinstance(resolved.address, IPv6Address)
    slot = int(resolved.valid_until) // 30 - 1
    read = form.read(resolved.label, int(resolved.address), proof.key, proof.bind, int(SOURCE), 0, (slot, slot + 1))
    assert read == form.pack({"quality": 9})
    assert silent.label == 0


@pytest.mark.parametrize("said", [{"quality": "best"}, {"quality": 16}, {"priority": 8}])
def test_what_the_label_cannot_say(said: dict[str, Any]) -> None:
    """A word or number that it has no room for is refused at once."""
    with pytest.raises(ClientError):
        Agent(enrolment(), claims=said)


async def test_dns_and_hosts_files_carry_no_label() -> None:
    """The stub and the hosts file refuse a claim that they would lose, and name it."""
    bound_to_nothing = replace(enrolment(), clusters=enrolment().clusters)
    with pytest.raises(ClientError, match="no DNS answer carries the flow label, into which the claim 'quality' goes"):
        Stub(Agent(bound_to_nothing, claims={"quality": 9}), "127.0.0.1:0", ("192.0.2.1:53",))
    with pytest.raises(ClientError, match="no hosts file carries the flow label"):
        async with HostsFile(Agent(bound_to_nothing, claims={"quality": 9})):
            pass
    with pytest.raises(ClientError, match="no DNS answer carries a source address"):
        Stub(Agent(bound_to_nothing, own_address=True), "127.0.0.1:0", ("192.0.2.1:53",))


@pytest.mark.skipif(sys.platform != "linux", reason="flow labels are set as Linux has it")
@pytest.mark.parametrize("label", [1, 0x12345, 0x80000, 0xFFFFF])
def test_a_socket_sends_it(label: int) -> None:
    """A connection is made with the label, of either half of all values."""
    with socket.socket(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as sock:
        listener.bind(("::1", 0))
        listener.listen()
        use_label(sock, IPv6Address("::1"), label)
        sock.connect(("::1", listener.getsockname()[1], label, 0))
        assert sock.getpeername()[2] == label
