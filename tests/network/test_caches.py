"""Behind real resolvers that cut ECS, send none or share a cache: whatever answer a client gets, its first packet is
handled as its own. Nested clients ask an Unbound, and a SYN to the answer comes from their real address."""

from __future__ import annotations

import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from random import Random
from typing import NamedTuple

import dns.edns
import dns.exception
import dns.message
import dns.query
import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.simulate import syn
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dns.identity.identify import Classifier, Ecs, Requester
from dnsvip.site import Networks, Snapshot
from tests.dns.unbound import configuration, run_unbound, subnets
from tests.dns.world import Running
from tests.long import long_or
from tests.ports import free_port
from tests.samples import NOW, make_site, snapshot_of

QUESTIONS = long_or(1500, long=200_000)
WINDOW = 32
"""Questions that one resolver has at a time."""

RESOLVERS = {
    "whole": ("subnetcache iterator", 32, 128),
    "cut": ("subnetcache iterator", 24, 56),
    "none": ("iterator", 0, 0),
}
"""What each resolver sends of its clients' addresses."""

TIERS = ("gold", "silver", "standard")
NESTED = {
    "198.18.0.0/15": "silver",
    "198.18.0.0/20": "standard",
    "198.18.1.0/24": "gold",
    "198.18.1.64/26": "silver",
    "198.18.1.77/32": "gold",
    "198.18.1.78/32": "standard",
    "198.19.7.0/25": "gold",
    "198.19.7.200/32": "gold",
    "203.0.113.128/25": "gold",
    "2001:db8:7000::/36": "gold",
    "2001:db8:7001::/48": "silver",
    "2001:db8:7001:0:8000::/66": "gold",
    "2001:db8:7001:100::/56": "standard",
    "2001:db8:7001:142::/64": "gold",
    "2001:db8:7001:142::7/128": "silver",
    "2001:db8:9000:0:1::/80": "gold",
}
"""Networks and tiers of the clients."""

ONLY = {"networks": "only", "unproven": "default-tier"}
CHANGES = {
    "cluster": {
        "web": {"identify_source": True},
        "legacy": {"identify_source": True, "classes": {"gold": [8, 9], "silver": [5, 6], "standard": [2, 3]}},
    },
    "tier": {"gold": ONLY, "silver": {"code": 3, "pool": "middle", **ONLY}, "standard": ONLY},
    "pool": {"middle": {"servers": [{"name": "middle-1", "address": "fd00:10::31"}]}},
    "client": {
        "acme": None,
        "newsreader": None,
        **{
            f"c{number}": {"id": number, "tier": tier, "match": [{"ecs": text}]}
            for number, (text, tier) in enumerate(NESTED.items(), 1)
        },
    },
    "tsig": {"acme-key": None},
}


class Question(NamedTuple):
    """Who asks, which resolver, and how many bits of whose address it is told (None: none)."""

    source: IPv4Address | IPv6Address
    resolver: str
    ecs: tuple[IPv4Address | IPv6Address, int] | None


def questions(random: Random, count: int) -> Iterator[Question]:
    """Questions of clients and strangers, and short ones that others ask before."""
    networks = [ip_network(text) for text in NESTED]
    for _ in range(count):
        near = random.choice(networks)
        width = near.max_prefixlen
        number = int(near.network_address) ^ random.getrandbits(random.choice((0, 1, 3, 8, width - near.prefixlen)))
        source = type(near.network_address)(number)
        resolver = random.choice(tuple(RESOLVERS))
        length = random.choice((8, 14, 16, 20, 23, 24, 25, 30, 48, 56, 60)) if random.random() < 0.2 else width
        length = min(length, width)
        cut = ip_network((int(source), length), strict=False).network_address
        yield Question(source, resolver, None if resolver == "none" else (cut, length))


@contextmanager
def unbound(folder: Path, upstream: int, modules: str, v4: int, v6: int) -> Iterator[int]:
    """The port of an Unbound that asks a server."""
    folder.mkdir()
    port = free_port()
    settings = configuration(folder, port, upstream, modules, subnets(v4, v6))
    with run_unbound(folder, port, settings, "mail.example.test", "A"):
        yield port


def wire(question: Question, number: int) -> bytes:
    """The query of a question."""
    options = [dns.edns.ECSOption(str(question.ecs[0]), question.ecs[1])] if question.ecs else []
    rtype = "A" if question.source.version == 4 else "AAAA"
    query = dns.message.make_query("www.example.test", rtype, use_edns=0, options=options, id=number)
    return query.to_wire()


def answers(port: int, asked: Sequence[Question]) -> Iterator[tuple[Question, IPv4Address | IPv6Address]]:
    """The answer to each question, some questions at a time; a lost one is asked again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("127.0.0.1", port))
        link.settimeout(5)
        for first in range(0, len(asked), WINDOW):
            open_ = dict(enumerate(asked[first : first + WINDOW], 1))
            for _ in range(20):
                for number, question in open_.items():
                    link.send(wire(question, number))
                try:
                    while open_:
                        data = link.recv(4096)
                        question = open_.pop(int.from_bytes(data[:2], "big"), None)
                        if question:
                            answer = dns.message.from_wire(data).answer
                            yield question, ip_address(answer[-1][0].to_text())
                except TimeoutError:
                    continue
                break
            assert not open_, "no answer"


def without(snapshot: Snapshot) -> Snapshot:
    """The site without either setting."""
    site = snapshot.site
    clusters = {name: replace(cluster, identify_source=False) for name, cluster in site.clusters.items()}
    tiers = {name: replace(tier, networks=Networks.ANY) for name, tier in site.tiers.items()}
    return replace(snapshot, site=replace(site, clusters=clusters, tiers=tiers))


class Ways:
    """Counts what becomes of first packets by tables."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.tables, self.flows, self.counts = DispatchTables(snapshot), Flows(4096), Counter[str]()

    def take(self, number: int, source: IPv4Address | IPv6Address, vip: IPv4Address | IPv6Address, tier: str) -> None:
        """One first packet, of a client that is entitled to the pool of this tier."""
        packet = syn(source, 1024 + number % 60_000, vip, 443)
        verdict = decide(packet, self.tables, self.flows, int(NOW * SECOND) + number)
        tiers = self.tables.sound.site.tiers
        went = verdict.server.pool if verdict.server else None
        if went == tiers[tier].pool:
            self.counts["right"] += 1
        else:
            gains = went is not None and went != tiers["standard"].pool
            self.counts["not entitled" if gains else "missed"] += 1


@pytest.mark.skipif(not shutil.which("unbound"), reason="unbound is not installed")
@pytest.mark.timeout(3600)
def test_no_cache_gives_or_takes_a_tier(tmp_path: Path) -> None:
    """Nested clients behind resolvers of every kind: no flow reaches a pool that its client is not entitled to, none
    misses its own; without the settings both happen."""
    snapshot = snapshot_of(make_site(CHANGES))
    entitled, classifier = Ways(snapshot), Classifier(snapshot)
    open_to_all = Ways(without(snapshot))
    random, left, number = Random(20_261_130), QUESTIONS, 0
    local = ip_address("127.0.0.1")
    with ExitStack() as stack:
        server = stack.enter_context(Running(snapshot))
        ports = {
            name: stack.enter_context(unbound(tmp_path / name, server.port, *kind)) for name, kind in RESOLVERS.items()
        }
        while left:
            batch = list(questions(random, min(left, 3000)))
            left -= len(batch)
            for name, port in ports.items():
                for question, vip in answers(port, [one for one in batch if one.resolver == name]):
                    whole = Ecs(question.source, question.source.max_prefixlen)
                    client = classifier.classify(Requester(local, "public", ecs=whole)).client
                    tier = client.tier if client else "standard"
                    number += 1
                    entitled.take(number, question.source, vip, tier)
                    open_to_all.take(number, question.source, vip, tier)
    assert entitled.counts == {"right": QUESTIONS}
    assert open_to_all.counts["not entitled"] > QUESTIONS // 200
    assert open_to_all.counts["missed"] > QUESTIONS // 20
