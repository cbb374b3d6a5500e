"""Source addresses of a client's own: asked for in its network, and refused where there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from dnsvip.address.source import SourceCodec
from dnsvip.client import Agent, Why
from dnsvip.client.io.netlink import route_to
from dnsvip.client.io.own_address import bound_to
from dnsvip.errors import ClientError
from dnsvip.site import Cluster
from tests.client.responder import Responder
from tests.client.test_tickets import NAME, PLAIN, SNAPSHOT, at, enrolment, loaded, public
from tests.dns.world import Running

HERE = IPv6Address("2001:db8:99:7::10")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with Running(SNAPSHOT) as running:
        yield running


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's address towards the cluster."""
    monkeypatch.setattr("dnsvip.client.io.agent.source_towards", lambda _: HERE)


async def test_the_plain_vip_from_an_address_that_says_who(server: Running, tmp_path: Path) -> None:
    """The destination is the plain VIP, also where DNS issued another, and the source is of this network's /64."""
    agent = loaded(tmp_path, at(server), own_address=True)
    resolved = await agent.resolve(NAME)
    assert (resolved.address, resolved.why) == (PLAIN, Why.SOURCE)
    assert resolved.source
    assert int(resolved.source) >> 64 == int(HERE) >> 64
    cluster, active = SNAPSHOT.site.clusters["web"], SNAPSHOT.keyrings["web"].active
    assert isinstance(cluster, Cluster)
    assert cluster.source_format
    assert active
    codec = SourceCodec(cluster.source_format, active[0].secret, active[0].slot)
    assert codec.authentic(int(resolved.source))
    assert codec.format.unpack(codec.open(int(resolved.source)))["client"] == 1001


async def test_it_is_kept_for_its_network(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process uses it while our servers are away; in another network there is none."""
    first = await loaded(tmp_path, at(server), own_address=True).resolve(NAME)
    await loaded(tmp_path, at(server)).fetch_tickets()
    async with Responder(public) as resolver:
        away = loaded(tmp_path, enrolment("127.0.0.1:1"), resolver=resolver.endpoint, own_address=True)
        assert (await away.resolve(NAME)).source == first.source
        monkeypatch.setattr("dnsvip.client.io.agent.source_towards", lambda _: IPv6Address("2001:db8:98::1"))
        with pytest.raises(ClientError, match="give no source address for this network"):
            await away.resolve(NAME)


async def test_other_clusters_are_as_ever(tmp_path: Path) -> None:
    """Where the cluster reads no source addresses the option changes nothing."""
    from tests.dns.test_own import world  # noqa: PLC0415

    with Running(world(source=None)) as running:
        enrolled = at(running)
        (web,) = (c for c in enrolled.clusters if c.name == "web")
        agent = Agent(enrolled, own_address=True)
        assert web.source  # an enrolment from before `source` was taken away
        with pytest.raises(ClientError, match="give no source address"):
            await agent.resolve(NAME)


def test_an_address_that_is_here_is_bound() -> None:
    """A local address needs nothing; one without a route to the cluster is refused by name."""
    with bound_to(IPv6Address("::1"), IPv6Address("::1")) as sock:
        assert (sock.getsockname()[0], sock.type & socket.SOCK_STREAM) == ("::1", socket.SOCK_STREAM)
        assert not sock.getblocking()
    assert route_to(IPv6Address("::1")).is_local
