"""Certificates of clients from a running node: by DNS, from an operator, replaced in time, and void with the key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from cryptography import x509

from dnsvip.client import Agent
from dnsvip.errors import ClientError
from tests.client.encrypted.authority import NAME, Authority
from tests.node.serving import Node, node, within
from tests.node.test_secondary import apply
from tests.ports import free_port

SERVICE = "www.example.test"
TOKEN = "dv" + "a2" * 13
NODE_MORE = """
[dns.tls]
certificate = "dns.pem"
key = "dns.key"
client_ca = "dnsvip"
names = ["{name}"]
[[dns.listen]]
name = "encrypted"
address = "tls://127.0.0.1:{tls}"
"""
SITE_MORE = f"""
[dns_token.van]
digest = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
[client.van]
id = 3001
tier = "gold"
match = [{{ token = "van" }}]
[client.laptop]
id = 3002
tier = "gold"
match = [{{ tls = "laptop" }}]
[client.desk]
id = 3003
tier = "gold"
match = [{{ tsig = "desk-key" }}, {{ tls = "desk" }}]
[tsig."desk-key"]
secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
"""


class World:
    """A node that trusts the site's own authority, and the files of its clients."""

    def __init__(self, made: Node, folder: Path) -> None:
        self.node, self.folder, self.tls = made, folder, free_port()
        self.authority = Authority(folder)
        chain, key = self.authority.pair(NAME, f"*.{NAME}")
        (made.folder / "dns.pem").write_bytes(chain.read_bytes())
        (made.folder / "dns.key").write_bytes(key.read_bytes())
        file = made.folder / "node.toml"
        file.write_text(file.read_text() + NODE_MORE.format(name=NAME, tls=self.tls))
        site = (made.folder / "site.toml").read_text()
        order = next(line for line in site.splitlines() if line.startswith("order ="))
        (made.folder / "site.toml").write_text(site.replace(order, 'order = ["tsig", "tls", "token", "ecs", "source"]'))
        apply(made, SITE_MORE)
        made.start("--token-file", "token")

    def enrolled(self, client: str, *more: str) -> Path:
        """The file of a client's enrolment."""
        file = self.folder / f"{client}.json"
        server = f"tls://127.0.0.1:{self.tls}#{NAME}"
        trust = ("--ca", str(self.authority.file))
        self.run("enrol", client, "--config", "node.toml", "--server", server, *trust, *more, "--output", str(file))
        return file

    def run(self, *argv: str, fails: bool = False) -> str:
        """What `dnsvip client` says."""
        done = self.node.noun("client", *argv)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("certify")
    (folder / "node").mkdir()
    with node(folder / "node") as made:
        yield World(made, folder)


def client_of(file: Path) -> str:
    """Whether the servers know the client with this enrolment: its name, else nobody."""
    agent = Agent.load(file)
    assert agent.enrolment
    cluster = agent.enrolment.clusters[0]
    try:
        resolved = agent.resolve_sync(SERVICE, source=IPv6Address("2001:db8:99::1"))
    except ClientError as error:
        return str(error)
    return "nobody" if resolved.issued == cluster.plain else agent.enrolment.client


def serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.with_suffix(".crt").read_bytes()).serial_number


def test_by_dns(world: World) -> None:
    """A client with a TSIG key gets a certificate for a key that it makes itself; with it alone it is known, and gets
    the next one."""
    file = world.enrolled("desk")
    assert "a certificate of desk until" in world.run("certify", "--enrolment", str(file))
    assert stat.S_IMODE(file.with_suffix(".key").stat().st_mode) == 0o600
    without = world.folder / "desk-alone.json"
    without.write_text(json.dumps({**json.loads(file.read_text()), "tsig": None}))
    without.chmod(0o600)
    assert client_of(without) == "nobody"
    for suffix in (".key", ".crt"):
        without.with_suffix(suffix).write_bytes(file.with_suffix(suffix).read_bytes())
        without.with_suffix(suffix).chmod(0o600)
    within(20, lambda: client_of(without) == "desk")  # a listener trusts a new authority after two seconds
    first = serial(without)
    world.run("certify", "--enrolment", str(without))
    assert serial(without) != first


def test_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`renew` replaces a certificate when two thirds of its time are over, and not before; one that has expired is not
    shown, as servers would end the connection."""
    file = world.enrolled("desk")
    world.run("certify", "--enrolment", str(file))
    first = serial(file)
    agent = Agent.load(file)
    held = agent._naming
    monkeypatch.setattr(type(held), "now", property(lambda _: time.time() + 19 * 86_400))
    asyncio.run(held.certify())
    assert serial(file) == first
    monkeypatch.setattr(type(held), "now", property(lambda _: time.time() + 21 * 86_400))
    asyncio.run(held.certify())
    assert serial(file) != first
    agent.close()
    said: list[str] = []
    gone = Agent.load(file, clock=lambda: time.time() + 31 * 86_400, warn=said.append)
    assert gone._naming._own_channels._credentials.certificate is None
    assert "has expired" in said[0]


def test_from_an_operator(world: World) -> None:
    """A client without a TSIG key makes a request, an operator issues the certificate, and from then on it renews
    itself. One for another key is refused."""
    file = world.enrolled("laptop")
    assert "no certificate" in world.run("certify", "--enrolment", str(file), fails=True)
    request = world.folder / "laptop.csr"
    request.write_text(world.run("certify", "--request", "--enrolment", str(file)))
    issued = world.folder / "laptop.pem"
    done = world.node.noun("clients", "certify", "laptop", str(request))
    assert done.returncode == 0, done.stderr
    issued.write_text(done.stdout)
    other = world.enrolled("desk")
    world.run("certify", "--request", "--enrolment", str(other))
    assert "another key" in world.run("certify", "--import", str(issued), "--enrolment", str(other), fails=True)
    world.run("certify", "--import", str(issued), "--enrolment", str(file))
    assert client_of(file) == "laptop"
    first = serial(file)
    world.run("certify", "--enrolment", str(file))
    assert serial(file) != first


def test_a_token_is_not_enough(world: World) -> None:
    """Who shows a token gets no certificate, which would outlive it."""
    token = world.folder / "van.token"
    token.write_text(f"{TOKEN}\n")
    file = world.enrolled("van", "--token-file", str(token))
    assert client_of(file) == "van"
    assert "no certificate" in world.run("certify", "--enrolment", str(file), fails=True)
    assert not file.with_suffix(".crt").exists()


def test_a_new_key(world: World) -> None:
    """Once the client has a new key, its certificate says nothing, and gets no other."""
    file = world.enrolled("laptop")
    request = world.folder / "again.csr"
    request.write_text(world.run("certify", "--request", "--enrolment", str(file)))
    issued = world.folder / "again.pem"
    issued.write_text(world.node.noun("clients", "certify", "laptop", str(request)).stdout)
    world.run("certify", "--import", str(issued), "--enrolment", str(file))
    assert client_of(file) == "laptop"
    assert world.node.noun("clients", "new-key", "laptop").returncode == 0
    until = time.monotonic() + 20
    while client_of(file) != "nobody":
        assert time.monotonic() < until
    assert "no certificate" in world.run("certify", "--enrolment", str(file), fails=True)
