"""The shared vectors for claims, read by the kernel program and the reference: what is said in addresses, flow labels
and clients' own addresses, and what is rejected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.proof import Bind
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.site import Client, Cluster, Label, Pool, Proof, SelectRule, Site, Snapshot, Source, Tier
from tests.dispatcher.build import NOW_NS, segment, servers, with_label
from tests.dispatcher.io.xdp.kernel import Kernel, Reference, Seen, loaded

VECTORS = json.loads((Path(__file__).parents[3] / "fixtures" / "claims.json").read_text())
CASES, SOURCES = VECTORS["cases"], VECTORS["sources"]
POOLS = {name: Pool(name, servers(name, 1)) for name in ("fast", "said", "heard", "own")}
IGNORED = "label-ignored"


@pytest.fixture(scope="module")
def program() -> Iterator[Kernel]:
    with loaded() as running:
        yield running


def number(text: str) -> int:
    return int(IPv6Address(text))


def snapshot(case: dict[str, Any], **changes: Any) -> Snapshot:
    """A site with the case's cluster, keys and client; rules for what the client says, in a label and in an address."""
    network = IPv6Network(case["prefix"])
    fields, claims = (tuple((name, bits) for name, bits in case[key]) for key in ("fields", "claims"))
    said = {name: (value,) for name, value in case["said"].items() if name != "session"}
    label = Label(tuple((name, bits) for name, bits in case["label"]["claims"]), case["label"]["mac_bits"])
    heard = {name: (value,) for name, value in case["label_said"].items()}
    rules = (SelectRule(heard, "heard"), SelectRule(said, "said"))
    cluster = replace(
        Cluster("web", network, network.network_address + 1, fields, case["tag_bits"], "gold", select=rules),
        claims=claims,
        label=label,
        **changes,
    )
    values = case["values"]
    tier = Tier("gold", values.get("tier", 1), "fast")
    client = Client(
        "acme", values["client"], "gold", proof=Proof(Bind(case["bind"])), key_generation=case["generation"]
    )
    epoch = Epoch(case["epoch"], EpochState.ACTIVE, bytes.fromhex(case["secret"]))
    site = Site(clusters={"web": cluster}, tiers={"gold": tier}, pools=POOLS, clients={"acme": client})
    master = bytes.fromhex(case["client_master"])
    return Snapshot(1, site, {"web": Keyring(cluster.address_layout, [epoch])}, {"web": master})


def see(
    program: Kernel, case: dict[str, Any], addresses: list[str], label: int = 0, later: int = 0, **changes: Any
) -> list[Seen]:
    """What becomes of the first packets of flows to addresses, `later` slots after that of the case."""
    source, now = number(case["source"]), (case["slot"] + later) * 30 * SECOND
    packets = [segment(number(address), port=case["source_port"], source=source) for address in addresses]
    return agreed(program, snapshot(case, **changes), [with_label(packet, label) for packet in packets], now)


def agreed(program: Kernel, site: Snapshot, packets: list[bytes], now: int) -> list[Seen]:
    """What becomes of packets at `now` (unix ns), which the program and the reference agree on."""
    tables = DispatchTables(site)
    program.writer.apply(tables)
    program.forget()
    reference, seen = Reference(tables), []
    before = program.writer.counters.auxiliary()[IGNORED]
    for packet in packets:
        seen.append(program.see(packet, now))
        assert seen[-1] == reference.see(packet, now), packet.hex()
    assert program.writer.counters.auxiliary()[IGNORED] - before == reference.flows.labels_ignored
    return seen


def pool(seen: Seen) -> str:
    """The pool of its server."""
    return seen.server.partition("/")[0]


def silent(case: dict[str, Any]) -> str:
    """The pool of a flow whose client says nothing: that of a rule for a 0 fits too."""
    return "fast" if case["said"]["content"] else "said"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["proven"])
def test_vectors(program: Kernel, case: dict[str, Any]) -> None:
    """The proven address is accepted and its claims pick the pool of their rule, the issued one says nothing, and no
    damaged one is accepted."""
    proven, issued = see(program, case, [case["proven"], case["issued"]])
    assert (proven.reason, pool(proven)) == ("proven", "said")
    assert (issued.reason, pool(issued)) == ("issued", silent(case))
    reasons = {one.reason for one in see(program, case, case["rejected"])}
    assert reasons <= {"bad-tag", "bad-proof", "unknown-epoch"}


def test_a_claim_outside_its_table(program: Kernel) -> None:
    """A claim that no word has is a bad payload; with words for it, and where it is not set, it is accepted."""
    case = CASES[0]
    content = case["said"]["content"]
    assert [
        see(program, case, [case["proven"]], values={"content": {"word": value}})[0].reason for value in (content, 7)
    ] == [
        "proven",
        "bad-payload",
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["proven"])
def test_labels(program: Kernel, case: dict[str, Any]) -> None:
    """The label to each form of the address picks the pool of its rule, in its slot and those beside it, also once the
    cache knows the address. Every damaged one, one of another form, and one that is too late is ignored and counted."""
    issued, proven = case["label_of_issued"], case["label_of_proven"]
    for later in (-1, 0, 1):
        seen = see(program, case, [case["issued"]], issued, later)
        assert [(one.reason, pool(one)) for one in seen] == [("issued", "heard")]
    for form, label in (("issued", issued), ("proven", proven)):
        told = silent(case) if form == "issued" else "said"
        packets = [
            with_label(segment(number(case[form]), to=to, **by(case)), one)
            for to, one in enumerate([label, 0, label, *(label ^ 1 << bit for bit in range(20)), label], 1)
        ]
        seen = agreed(program, snapshot(case), packets, case["slot"] * 30 * SECOND)
        assert {one.reason for one in seen} == {form}
        assert [pool(one) for one in seen] == ["heard", told, "heard", *[told] * 20, "heard"]
    before = program.writer.counters.auxiliary()[IGNORED]
    assert pool(see(program, case, [case["proven"]], issued)[0]) == "said"
    assert pool(see(program, case, [case["issued"]], issued, later=2)[0]) == silent(case)
    assert program.writer.counters.auxiliary()[IGNORED] - before == 2


def by(case: dict[str, Any]) -> dict[str, int]:
    """Where the case's client sends from."""
    return {"port": case["source_port"], "source": number(case["source"])}


def test_a_label_outside_its_table(program: Kernel) -> None:
    """A label that names what no word has is ignored: the flow goes by its address."""
    case = CASES[0]
    quality = case["label_said"]["quality"]
    for value, expected in ((quality, "heard"), (quality - 1, "fast")):
        seen = see(program, case, [case["issued"]], case["label_of_issued"], values={"quality": {"word": value}})
        assert (seen[0].reason, pool(seen[0])) == ("issued", expected)


@pytest.mark.parametrize("case", SOURCES, ids=lambda case: case["address"])
def test_sources(program: Kernel, case: dict[str, Any]) -> None:
    """A client's own address says who it is to the plain VIP alone. With one bit flipped, or in another /64, it is any
    source of the plain VIP."""
    site = with_own(case)
    plain, own = int(site.site.clusters["web"].plain), number(case["address"])
    damaged = [own ^ 1 << bit for bit in (*range(65), 80)]
    packets = [segment(plain, source=source) for source in (own, *damaged, own)]
    first, *others, last = agreed(program, site, [*packets[:-1], segment(plain, source=own, port=1)], NOW_NS)
    assert [(one.reason, pool(one)) for one in (first, last)] == [("source", "own")] * 2
    assert {(one.reason, pool(one)) for one in others} == {("plain", "fast")}


def with_own(case: dict[str, Any]) -> Snapshot:
    """A site whose cluster reads the case's address; a rule for its client."""
    network = IPv6Network(case["cluster"])
    rest = 125 - network.prefixlen - 8
    layout = (("client", min(rest, 60)),) if rest <= 60 else (("client", 20), ("nonce", rest - 60), ("more", 40))
    rule = SelectRule({"proof": ("source",), "client": ("acme",)}, "own")
    source = Source(tuple((name, bits) for name, bits in case["fields"]), case["tag_bits"])
    cluster = Cluster(
        "web", network, network.network_address + 1, layout, 125 - network.prefixlen - sum(bits for _, bits in layout),
        "gold", select=(rule,), source=source,
    )  # fmt: skip
    tiers = {"gold": Tier("gold", case["values"]["tier"], "fast")}
    clients = {"acme": Client("acme", case["values"]["client"], "gold")}
    site = Site(clusters={"web": cluster}, tiers=tiers, pools=POOLS, clients=clients)
    epoch = Epoch(case["epoch"], EpochState.ACTIVE, bytes.fromhex(case["secret"]))
    return Snapshot(1, site, {"web": Keyring(cluster.address_layout, [epoch])})
