"""DNS gives each client its own address, and the address decides the servers."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import FAST, PLAIN, PREFIX, SLOW


def plain_client(stage: Stage) -> Iterator[Check]:
    """An unknown client gets the plain VIP and a slow server."""
    plain = stage.hosts.plain
    vip = stage.dig(plain, NAME)
    yield Check("an unknown client is answered the plain VIP", vip == PLAIN, str(vip))
    page = stage.page(plain, "curl", "-s", f"http://{NAME}/")
    yield Check("an unknown client is served by the slow pool", page.server in SLOW, page.server)


def gold_client(stage: Stage) -> Iterator[Check]:
    """A gold client asks the same resolver for the same name: an encoded VIP, a fast server."""
    gold = stage.hosts.gold
    vip = stage.dig(gold, NAME)
    yield Check("a gold client is answered an encoded VIP", vip != PLAIN and vip in PREFIX, str(vip))
    said = stage.run(stage.hosts.dispatcher, "dnsvip", "decode", str(vip), "--config", "node.toml")
    payload = next((line.partition("payload")[2].strip() for line in said.splitlines() if " payload " in line), "")
    yield Check("a gold client's address says who it is for", "(gold)" in payload and "(acme)" in payload, payload)
    page = stage.page(gold, "curl", "-s", f"http://{NAME}/")
    yield Check("a gold client is served by the fast pool", page.server in FAST, page.server)
    again = stage.dig(stage.hosts.plain, NAME)
    yield Check("the resolver's cache keeps the two apart", again == PLAIN, f"client-plain still gets {again}")
