"""Names of sessions on real packets: curl from two networks comes to one server, in both data planes, with any keys.

client, other - router ==== d1 (xdp), d2 (user), s1 ... s4        the DNS server runs on the router
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from dnsvip.demo.netns import Host, World
from dnsvip.site.session_rules import session_labels, session_services
from tests.network.dispatching import read_snapshot, wait_until
from tests.network.field import Field, rotate
from tests.network.hosted import start_on

pytestmark = pytest.mark.network

DNS = "fd00:10::1"
SITE = """
[cluster.web]
prefix = "2001:db8:a:1::/64"
plain = "2001:db8:a:1::1"
layout = [["tier", 4], ["client", 14], ["session", 12], ["nonce", 7]]
tag_bits = 24
default_tier = "all"
ttl = 1
renew = 1
[tier.all]
code = 1
pool = "all"
[pool.all]
stickiness = "session"
servers = [SERVERS]
[zone."app.example.test"]
file = "app.zone"
[service."*.s.app.example.test"]
cluster = "web"
session = "label"
[client.known]
id = 7
tier = "all"
match = [{ source = "2001:db8:88::/64" }]
"""
ZONE = "$TTL 60\n@ IN SOA ns host 1 60 60 60 1\n@ IN NS ns\nns IN AAAA fd00:10::1\n"


class Sessions(Field):
    """The field with a site of sessions, a second client in another network, a DNS server, and web servers."""

    def site(self) -> str:
        """The site file."""
        (self.folder / "app.zone").write_text(ZONE)
        entries = (f'{{ name = "{name}", address = "fd00:10::2{name[1:]}" }}' for name in self.weights)
        return SITE.replace("SERVERS", ", ".join(entries))

    def start(self) -> None:
        """Start all of it."""
        self.other = self.world.host("other")
        self.world.link(self.other, self.router, a_addrs=["2001:db8:88::10/64"], b_addrs=["2001:db8:88::1/64"])
        self.other.route("default", "via", "2001:db8:88::1")
        self.dns()
        for name, host in self.servers.items():
            files = self.folder / name
            files.mkdir()
            (files / "who").write_text(name)
            host.start(sys.executable, "-m", "http.server", "--bind", "::", "--directory", files, "80")
            wait_until(lambda host=host: ":80 " in host.run("ss", "-ltnH").stdout)  # type: ignore[misc]
        for name in self.modes:
            self.dispatch(name)

    def dns(self) -> None:
        """Start the DNS server."""
        node = 'database = "sqlite:///site.db"\nstate_dir = "state-dns"\nnode = "dns"\n'
        (self.folder / "dns.toml").write_text(f'{node}[[dns.listen]]\naddress = "[{DNS}]:53"\n')
        start_on(self.router, "serve", self.folder / "dns.toml", log=self.folder / "dns.log")
        wait_until(lambda: f"[{DNS}]:53 " in self.router.run("ss", "-lunH").stdout, 30)

    def names(self, count: int) -> list[str]:
        """Names of sessions."""
        snapshot = read_snapshot(self.folder, "d1.toml")
        ((service, cluster),) = session_services(snapshot.site)
        labels = session_labels(snapshot, service, cluster)
        return [f"{labels.make(3 * number)}.s.app.example.test" for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    if reason := World.available(tun=True):
        pytest.skip(reason)
    with World() as world:
        made = Sessions(world, tmp_path_factory.mktemp("sessions"), ["xdp", "user"])
        made.start()
        yield made


def address(host: Host, name: str) -> str:
    return host.run("dig", "+short", f"@{DNS}", name, "AAAA").stdout.strip()


def who(host: Host, name: str) -> str:
    """The server that curl reaches by a name."""
    to = ("--resolve", f"{name}:80:[{address(host, name)}]")
    return host.run("curl", "-sS", "--max-time", "5", *to, f"http://{name}/who").stdout


def test_two_networks_come_to_one_server(field: Sessions) -> None:
    """An anonymous client and a known one in another network, by either data plane, before and after a rotation."""
    names = field.names(6)
    servers: dict[str, set[str]] = {name: set() for name in names}
    addresses: set[str] = set()
    for rotated in (False, True):
        if rotated:
            rotate(field.folder)
            field.settle()
            wait_until(lambda: address(field.client, names[0]) not in addresses, 20)
        for dispatcher in field.modes:
            field.spread([dispatcher])
            for name in names:
                addresses.add(address(field.client, name))
                servers[name] |= {who(field.client, name), who(field.other, name)}
    assert [len(those) for those in servers.values()] == [1] * len(names), servers
    assert set.union(*servers.values()) <= {"s1", "s2", "s3", "s4"}
    assert len(set.union(*servers.values())) > 1
    forged = names[0].replace(names[0][5], "0" if names[0][5] != "0" else "1", 1)
    assert "NXDOMAIN" in field.client.run("dig", f"@{DNS}", forged, "AAAA").stdout
