"""Rules and clients' own servers on real packets, in both data planes: who connects reaches what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from dnsvip.site import Client
from dnsvip.site.plan import Change
from dnsvip.store import Store
from tests.network.dispatching import apply, read_snapshot, with_store
from tests.network.field import Field, kernel_world

pytestmark = pytest.mark.network
PLANES = {"user": "d1", "xdp": "d2"}
ASK = """
import socket, sys
connection = socket.create_connection((sys.argv[1], 8000), 5)
connection.sendall(b"1\\n")
print(connection.recv(9).decode())
"""
RULES = """
[[cluster.web.select]]
when = { tier = "direct", lang = 1 }
pool = "second"
[[cluster.web.select]]
when = { client = "acme" }
pool = "first"
[pool.first]
servers = [{ name = "a", address = "fd00:10::21" }]
[pool.second]
servers = [{ name = "b", address = "fd00:10::22" }]
[client.acme]
id = 1001
tier = "direct"
"""


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A dispatcher of each data plane on one database, and two servers."""
    with kernel_world() as world:
        field = Field(world, tmp_path_factory.mktemp("field"), list(PLANES), servers=2)
        site = field.site().replace('["nonce", 6]]', '["nonce", 4], ["lang", 2]]') + RULES
        apply(field.folder, site, node="d1.toml")
        for name in field.dispatchers:
            field.dispatch(name)
        yield field


def reached(folder: Path, field: Field, client: int, lang: int) -> str:
    """The server that a connection of the client host reaches."""
    active = read_snapshot(folder, "d1.toml").keyrings["web"].active
    assert active
    values = {"tier": 1, "client": client, "expiry": 127, "nonce": 0, "lang": lang}
    ask = (
        "import socket, sys; c = socket.create_connection((sys.argv[1], 8000), 5); c.sendall(b'1\\n'); print(c.recv(9))"
    )
    vip = str(IPv6Address(active[1].encode(values)))
    return field.client.run("python3", "-c", ask, vip).stdout[2:4]


def own(field: Field, *servers: str) -> None:
    """Give client acme servers of its own; return once dispatchers know."""

    async def change(store: Store) -> None:
        before = await store.objects.get("client", "acme")
        assert isinstance(before, Client)
        await store.objects.apply(
            [Change("client", "acme", "~", before, replace(before, servers=servers))], "test", "api"
        )

    asyncio.run(with_store(field.folder / "d1.toml", change))
    field.settle()


@pytest.mark.parametrize("plane", PLANES)
def test_connections_reach_what_was_selected(field: Field, plane: str) -> None:
    """An attribute, then a client, decide; a client moves to a server of its own and back with the address it has."""
    name = PLANES[plane]
    field.spread([name])
    for _ in range(3):
        assert reached(field.folder, field, 1002, 1) == "s2"
        assert reached(field.folder, field, 1001, 0) == "s1"
    own(field, "second/b")
    assert reached(field.folder, field, 1001, 0) == "s2"
    own(field)
    assert reached(field.folder, field, 1001, 0) == "s1"
    counted = {one["rule"]: one["flows"] for one in field.status(name)["rules"] if one["cluster"] == "web"}
    assert counted == {"1": 3, "2": 4, "client": 1}
