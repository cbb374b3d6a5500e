"""`_dns.resolver.arpa` at a running server: its own listeners, whatever the site has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.site import Zone
from dnsvip.site.node_listen import Listener
from tests.client.encrypted.authority import NAME, Authority
from tests.dns.world import Running, world_snapshot
from tests.ports import free_port

ASKED = "_dns.resolver.arpa"


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Running]:
    tls = authority.files(names=(NAME,))
    listen = (
        Listener("127.0.0.1:0", "public"),
        Listener(f"tls://127.0.0.1:{free_port()}", "tls", tls=tls),
        Listener(f"https://127.0.0.1:{free_port()}", "https", tls=tls),
    )
    with Running(world_snapshot(), listen) as running:
        yield running


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_its_own_listeners(server: Running, way: str) -> None:
    """Whoever asks gets them, however often, with authority and without a signature."""
    for more in ([], ["+dnssec"], []):
        reply = server.dig(way, *more, ASKED, "SVCB")
        assert (reply.status, "aa" in reply.flags) == ("NOERROR", True)
        assert [line.split()[2] for line in reply.answer] == ["SVCB", "SVCB"]
        dot, doh = (line.split(maxsplit=3)[3] for line in reply.answer)
        assert dot == f'1 {NAME}. alpn="dot" port={server.endpoints[1].port} ipv4hint=127.0.0.1'
        assert doh.startswith(f'2 {NAME}. alpn="h2,h3" port={server.endpoints[2].port} ipv4hint=127.0.0.1')
        assert "/dns-query{?dns}" in doh


def test_what_else_is_there(server: Running) -> None:
    """Other types and names do not exist, and nobody transfers the zone."""
    assert (server.dig(ASKED, "A").status, server.dig(ASKED, "A").answer) == ("NOERROR", [])
    assert server.dig("x.resolver.arpa", "A").status == "NXDOMAIN"
    assert server.dig("x.arpa", "A").status == "REFUSED"
    assert "Transfer failed" in server.dig("+tcp", "resolver.arpa", "AXFR").text


def test_a_new_snapshot_keeps_it(server: Running) -> None:
    """It stays whatever changes in the site; a zone of that name in the site goes before it."""
    snapshot, own = server.snapshot, Zone("resolver.arpa", "$TTL 60\n@ SOA ns x 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n")
    with_own = replace(snapshot.site, zones={**snapshot.site.zones, own.name: own})
    for site, status in ((snapshot.site, "NOERROR"), (with_own, "NXDOMAIN"), (snapshot.site, "NOERROR")):
        server.in_loop(lambda site=site: server.server.update(replace(snapshot, site=site, generation=2)))
        assert server.dig(ASKED, "SVCB").status == status


def test_without_encrypted_listeners() -> None:
    """A server without them refuses, as it does for all that is not its own."""
    with Running(world_snapshot()) as running:
        assert running.dig(ASKED, "SVCB").status == "REFUSED"
