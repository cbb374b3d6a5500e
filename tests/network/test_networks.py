"""Networks of clients on real packets, in both data planes and both IP versions: a client is known by where it connects
from, and its addresses are good from there alone."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from tests.network.dispatching import PLAIN, apply, read_snapshot, wait_until
from tests.network.field import PLAIN4, Field, kernel_world

pytestmark = pytest.mark.network
PLANES = {"user": "d1", "xdp": "d2"}
ASK = (
    "import socket, sys; c = socket.create_connection((sys.argv[1], 8000), 5, (sys.argv[2], 0)); "
    "c.sendall(b'1\\n'); print(c.recv(9))"
)
SERVER4 = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 8000))
while True:
    connection, _ = listener.accept()
    connection.sendall(sys.argv[1].encode() + bytes(9))
    connection.close()
"""
HOME = {6: "2001:db8:77::10", 4: "198.51.100.10"}
AWAY = {6: "2001:db8:77::99", 4: "198.51.100.99"}
GOLD = """
[tier.gold]
code = 5
pool = "first"
networks = "only"
unproven = "default-tier"
[pool.first]
servers = [{ name = "a", address = "fd00:10::21" }]
[pool.second]
servers = [{ name = "b", address = "fd00:10::22" }]
[client.acme]
id = 1001
tier = "gold"
match = [{ ecs = "2001:db8:77::10/128" }, { source = "198.51.100.10/32" }]
"""


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A dispatcher of each data plane on one database; the client has an address of acme's networks and another one."""
    with kernel_world() as world:
        field = Field(world, tmp_path_factory.mktemp("field"), list(PLANES), servers=2)
        site = field.site().replace('code = 1\npool = "direct"', 'code = 1\npool = "second"')
        site = site.replace('default_tier = "direct"', 'default_tier = "direct"\nidentify_source = true')
        site = site.replace("direct = [8, 9]", "direct = [8, 9], gold = [5]")
        apply(field.folder, site + GOLD, node="d1.toml")
        (interface,) = {line.split()[1] for line in field.client.ip("-o", "addr").splitlines() if HOME[4] in line}
        for address in (f"{AWAY[6]}/64", f"{AWAY[4]}/24"):
            field.client.ip("addr", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))
        for name, host in field.servers.items():
            host.start(sys.executable, "-c", SERVER4, name)
            wait_until(lambda host=host: "0.0.0.0:8000 " in host.run("ss", "-ltnH").stdout)
        for name in field.dispatchers:
            field.dispatch(name)
        yield field


def counted(field: Field) -> Counter[tuple[str, str]]:
    """Flows by dispatcher and reason."""
    return Counter({
        (name, reason): count
        for name in field.dispatchers
        for reason, count in field.status(name)["counters"].items()
        if reason not in ("known", "not-ours")
    })  # fmt: skip


@pytest.mark.parametrize("plane", PLANES)
def test_a_client_is_known_by_its_networks(field: Field, plane: str) -> None:
    """The plain VIP, an issued address and a class lead to the client's pool from its networks, from elsewhere to the
    default tier's."""
    name = PLANES[plane]
    field.spread([name])
    active = read_snapshot(field.folder, "d1.toml").keyrings["web"].active
    assert active
    issued = active[1].encode({"tier": 5, "client": 1001, "expiry": 127, "nonce": 0})
    before = counted(field)
    for vip in (PLAIN, PLAIN4, str(IPv6Address(issued)), "192.0.2.5", "192.0.2.8"):
        version = 6 if ":" in vip else 4
        assert field.client.run("python3", "-c", ASK, vip, HOME[version]).stdout[2:4] == "s1", vip
        assert field.client.run("python3", "-c", ASK, vip, AWAY[version]).stdout[2:4] == "s2", vip
    expected = {"source-network": 3, "unproven": 2, "issued": 1, "class": 2, "plain": 2}
    assert counted(field) - before == {(name, reason): count for reason, count in expected.items()}
