"""Behind a real Unbound that sends and caches by EDNS client subnet: nobody gets the answer of another client."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from random import Random

import dns.edns
import dns.exception
import dns.message
import dns.query
import pytest

from dnsvip.dns.identity.identify import Classifier, Ecs, Requester
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.unbound import configuration, run_unbound, subnets
from tests.dns.world import ZONES, Running, site_tables, who_is
from tests.ports import free_port
from tests.samples import snapshot_of

OUTER = IPv4Network("198.18.0.0/15")
GOLD = [f"198.18.{third}.{fourth}/32" for third, fourth in ((1, 185), (1, 7), (3, 0), (77, 255), (200, 1), (255, 255))]
LOCAL = ip_address("127.0.0.1")


@pytest.fixture
def server() -> Iterator[Running]:
    """A server where one client has a network with the single addresses of others inside."""
    tables = deepcopy(site_tables())
    tables["client"] = {
        "outer": {"id": 900, "tier": "standard", "match": [{"ecs": str(OUTER)}]},
        **{f"gold-{n}": {"id": 901 + n, "tier": "gold", "match": [{"ecs": net}]} for n, net in enumerate(GOLD)},
    }
    with Running(snapshot_of(build_site(tables, zone_files(ZONES)))) as running:
        yield running


@pytest.fixture
def unbound(server: Running, tmp_path: Path) -> Iterator[int]:
    """The port of an Unbound that asks the server."""
    port = free_port()
    settings = configuration(tmp_path, port, server.port, "subnetcache iterator", subnets(32))
    with run_unbound(tmp_path, port, settings, "mail.example.test", "A"):
        yield port


def client(server: Running, port: int, subnet: str) -> int:
    """The client id in the address that Unbound has for a subnet, 0 for the plain VIP."""
    address, _, length = subnet.partition("/")
    option = dns.edns.ECSOption(address, int(length))
    query = dns.message.make_query("www.example.test", "AAAA", use_edns=0, options=[option])
    answer = dns.query.udp(query, "127.0.0.1", 5, port).answer
    vip = int(ip_address(answer[0][0].to_text()))
    cluster = server.snapshot.site.clusters["web"]
    return 0 if vip == int(cluster.plain) else who_is(server.snapshot, vip)["client"]


@pytest.mark.skipif(not shutil.which("unbound"), reason="unbound is not installed")
@pytest.mark.parametrize("first", ["198.18.1.185/16", "198.18.0.0/15", "198.18.0.0/24", "198.0.0.0/8", "0.0.0.0/0"])
def test_a_short_question_takes_nobodys_tier(server: Running, unbound: int, first: str) -> None:
    """After a question too short to tell clients apart, each client still gets its own answer."""
    client(server, unbound, first)
    assert [client(server, unbound, network) for network in GOLD] == [901 + n for n in range(len(GOLD))]
    assert client(server, unbound, "198.18.1.186/32") == 900
    assert client(server, unbound, "198.20.0.1/32") == 0


@pytest.mark.skipif(not shutil.which("unbound"), reason="unbound is not installed")
def test_questions_of_all_lengths(server: Running, unbound: int) -> None:
    """Whatever was asked before, an answer from the cache is the one that the server would give."""
    pick, classifier = Random(7), Classifier(server.snapshot)
    bases = [int(IPv4Network(network).network_address) for network in GOLD]
    for _ in range(600):
        length = pick.choice((8, 14, 15, 16, 20, 23, 24, 25, 28, 31, 32, 32, 32))
        near = pick.choice(bases) ^ pick.choice((0, 0, 1, 2, 1 << 8, 1 << 15, 1 << 17))
        address = ip_address(near >> 32 - length << 32 - length)
        right = classifier.classify(Requester(LOCAL, "public", ecs=Ecs(address, length))).client
        assert client(server, unbound, f"{address}/{length}") == (right.id if right else 0)
