"""Clients that are known by their certificate or their token alone, from the operator's commands to the answers: they
are issued, moved between tiers, renewed and void, and no cache of a shared resolver gives their addresses to others."""

from __future__ import annotations

import base64
import json
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from tests.dns.io.tls_world import NAME, Authority
from tests.dns.unbound import configuration, run_unbound
from tests.node.serving import NODE, PLAIN, Node, node, within
from tests.ports import free_port

SERVICE = "www.example.test"
LISTENERS = """
[dns.tls]
certificate = "{folder}/{name}.pem"
key = "{folder}/{name}.key"
client_ca = "dnsvip"
names = "{name}"
[[dns.listen]]
name = "encrypted"
address = "tls://127.0.0.1:{tls}"
[[dns.listen]]
name = "web"
address = "https://127.0.0.1:{https}"
http3 = false
"""


class World:
    """A node with encrypted listeners, and what clients of it have."""

    def __init__(self, made: Node, authority: Authority) -> None:
        self.node, self.authority, self.folder = made, authority, made.folder
        self.tls, self.https = free_port(), free_port()
        listeners = LISTENERS.format(folder=authority.folder, name=NAME, tls=self.tls, https=self.https)
        made.write_node(NODE.replace("[admin]", listeners.replace("{", "{{").replace("}", "}}") + "[admin]"))
        made.apply()
        made.start("--token-file", "token")

    def run(self, *argv: str) -> str:
        """What a command of the operator prints."""
        done = self.node.noun(*argv)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def context(self, certificate: str = "") -> ssl.SSLContext:
        """What a client speaks TLS with, with a certificate of its own."""
        context = self.authority.context()
        if certificate:
            context.load_cert_chain(self.folder / certificate, self.folder / "phone.key")
        return context

    def by_tls(self, name: str, rtype: str, certificate: str = "", token: str = "") -> dns.message.Message:
        """The answer over DoT to a question of a client with a certificate or a token in the name that it asks for."""
        query, server = dns.message.make_query(name, rtype), f"{token}.{NAME}" if token else NAME
        context = self.context(certificate)
        return dns.query.tls(query, "127.0.0.1", 5, self.tls, server_hostname=server, ssl_context=context)

    def by_https(self, token: str = "", path: str = "") -> tuple[int, dict[str, str], str]:
        """Status, header and address of the service that curl gets over DoH, with a token in its header or its path."""
        query = self.folder / "query"
        query.write_bytes(dns.message.make_query(SERVICE, "AAAA", id=0).to_wire())
        argv = ["curl", "-sS", "--cacert", str(self.authority.file), "--resolve", f"{NAME}:{self.https}:127.0.0.1"]
        argv += [
            "-H",
            "content-type: application/dns-message",
            "--data-binary",
            f"@{query}",
            "-D",
            "head",
            "-o",
            "body",
        ]
        argv += ["-H", f"authorization: Bearer {token}"] if token else []
        url = f"https://{NAME}:{self.https}/dns-query{path}"
        subprocess.run([*argv, url], check=True, cwd=self.folder, timeout=20)
        first, *lines = (self.folder / "head").read_text().strip().splitlines()
        header = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        body = (self.folder / "body").read_bytes() if status == 200 else b""
        return status, header, address_in(dns.message.from_wire(body)) if body else ""

    def whose(self, address: str) -> tuple[str | None, str | None]:
        """The client and the tier in an address; none in the plain one."""
        if address == PLAIN:
            return None, None
        status, said = self.node.curl("GET", f"decode?address={address}")
        assert status == 200, said
        return said["client"], said["tier"]


def address_in(answer: dns.message.Message) -> str:
    """The one address of an answer."""
    ((record,),) = answer.answer
    return record.to_text()


def request(key: ec.EllipticCurvePrivateKey) -> str:
    """A request for a certificate; the name in it counts for nothing."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anybody")])
    signed = x509.CertificateSigningRequestBuilder(subject).sign(key, SHA256())
    return signed.public_bytes(Encoding.PEM).decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two clients that nothing but a certificate and a token identifies."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.server()
    with node(tmp_path_factory.mktemp("node")) as made:
        world = World(made, authority)
        key = ec.generate_private_key(ec.SECP256R1())
        form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        (world.folder / "phone.key").write_bytes(key.private_bytes(*form))
        (world.folder / "phone.csr").write_text(request(key))
        world.run("clients", "add", "phone", "--id", "3001", "--tier", "standard", "--match", "tls=phone")
        world.run("clients", "add", "van", "--id", "3002", "--tier", "standard")
        (world.folder / "phone.pem").write_text(world.run("clients", "certify", "phone", "phone.csr"))
        within(10, lambda: not refused(world))
        yield world


def test_an_operator_moves_clients_that_are_known_by_certificate_or_token(world: World, tmp_path: Path) -> None:
    """Each gets its own address, in the tier that it is moved to; the resolver that strangers share, and the one that
    shows a token itself, give out nobody else's, before and after."""
    token = world.run("dns-tokens", "mint", "van", "--client", "van").strip()

    def of_phone() -> tuple[str | None, str | None]:
        return world.whose(address_in(world.by_tls(SERVICE, "AAAA", "phone.pem")))

    def of_van() -> set[tuple[str | None, str | None]]:
        ways = world.by_https(token)[2], world.by_https(path=f"/{token}")[2]
        return {*map(world.whose, ways), world.whose(address_in(world.by_tls(SERVICE, "AAAA", token=token)))}

    within(10, lambda: of_phone() == ("phone", "standard"))
    within(10, lambda: world.by_https(token)[0] == 200)  # until then the token is refused
    assert of_van() == {("van", "standard")}
    assert world.by_https(token)[1]["cache-control"].startswith("private")
    assert world.by_https()[2] == PLAIN
    assert address_in(world.by_tls(SERVICE, "AAAA")) == PLAIN
    with ExitStack() as stack:
        shared = [stack.enter_context(resolver(world, tmp_path / name, label)) for name, label in
                  (("strangers", ""), ("of-van", f"{token}."))]  # fmt: skip
        for tier in ("standard", "gold"):
            world.run("clients", "move", "phone", tier)
            world.run("clients", "move", "van", tier)
            within(10, lambda tier=tier: (of_phone(), of_van()) == (("phone", tier), {("van", tier)}))  # type: ignore[misc]
            for _ in range(3):
                assert cached(shared[0]) == PLAIN
                assert world.whose(cached(shared[1]))[0] == "van"
                assert (of_phone()[0], world.by_https()[2]) == ("phone", PLAIN)


def resolver(world: World, folder: Path, label: str) -> ExitStack:
    """An Unbound that forwards over DoT, with a label before the name that it asks the server by."""
    folder.mkdir()
    stack, port = ExitStack(), free_port()
    settings = f'  tls-cert-bundle: "{world.authority.file}"\n'
    forward = 'forward-zone:\n  name: "example.test"\n  forward-tls-upstream: yes\n'
    forward += f"  forward-addr: 127.0.0.1@{world.tls}#{label}{NAME}\n"
    text = configuration(folder, port, world.tls, "iterator", settings, ()) + forward
    stack.enter_context(run_unbound(folder, port, text, "mail.example.test", "A"))
    stack.port = port  # type: ignore[attr-defined]
    return stack


def cached(shared: ExitStack) -> str:
    """The address that somebody gets of a resolver."""
    return address_in(dns.query.udp(dns.message.make_query(SERVICE, "AAAA"), "127.0.0.1", 5, shared.port))  # type: ignore[attr-defined]


def test_a_certificate_is_renewed_by_dns(world: World) -> None:
    """A client gets another one for a new key by what it has; nobody else gets any, and none in the clear."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    name = f"{base64.b32encode(point).decode().rstrip('=').lower()}._certificate.{SERVICE}"
    answer = world.by_tls(name, "TXT", "phone.pem")
    assert answer.answer, answer
    assert answer.answer[0].ttl == 0
    pieces = b"".join(answer.answer[0][0].strings).split(b",")
    leaf, authority = (x509.load_der_x509_certificate(base64.b64decode(piece)) for piece in pieces)
    leaf.verify_directly_issued_by(authority)
    assert (leaf.subject.rfc4514_string(), leaf.public_key()) == ("CN=phone", key.public_key())
    assert world.by_tls(name, "TXT").rcode() == dns.rcode.NXDOMAIN
    query = dns.message.make_query(name, "TXT")
    assert dns.query.tcp(query, "127.0.0.1", 5, world.node.dns).rcode() == dns.rcode.NXDOMAIN
    assert world.by_tls(f"nokey._certificate.{SERVICE}", "TXT", "phone.pem").rcode() == dns.rcode.REFUSED


def test_what_was_given_out_is_void_at_once(world: World) -> None:
    """A token without its text before, a client with a new key, and an authority that is removed."""
    world.run("clients", "add", "bus", "--id", "3003", "--tier", "gold")
    old = world.run("dns-tokens", "mint", "bus", "--client", "bus").strip()
    within(10, lambda: world.by_https(old)[0] == 200)
    new = world.run("dns-tokens", "rotate", "bus").strip()
    within(10, lambda: [world.by_https(text)[0] for text in (old, new)] == [200, 200])
    last = world.run("dns-tokens", "rotate", "bus", "--overlap", "0s").strip()
    within(10, lambda: [world.by_https(text)[0] for text in (old, new, last)] == [401, 401, 200])
    assert world.by_https(old)[1]["www-authenticate"].startswith("Bearer")
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        world.by_tls(SERVICE, "AAAA", token=old)
    world.run("clients", "new-key", "phone")
    within(10, lambda: address_in(world.by_tls(SERVICE, "AAAA", "phone.pem")) == PLAIN)
    (world.folder / "phone.pem").write_text(world.run("clients", "certify", "phone", "phone.csr"))
    within(10, lambda: world.whose(address_in(world.by_tls(SERVICE, "AAAA", "phone.pem")))[0] == "phone")
    world.run("client-ca", "rotate")
    world.run("client-ca", "remove", "1")
    within(10, lambda: refused(world))


def refused(world: World) -> bool:
    """Whether the phone's certificate ends a handshake."""
    try:
        world.by_tls(SERVICE, "AAAA", "phone.pem")
    except (ssl.SSLError, ConnectionError, EOFError):
        return True
    return False


def test_the_last_use_is_written_by_the_node(world: World) -> None:
    """Not while queries come, but within a minute, and when the node stops."""
    world.run("clients", "add", "train", "--id", "3004", "--tier", "gold")
    text = world.run("dns-tokens", "mint", "train", "--client", "train").strip()
    within(10, lambda: world.by_https(text)[0] == 200)
    digest = json.loads(world.run("dns-tokens", "show", "train", "--json"))["digest"]
    assert world.node.stop() == 0
    with sqlite3.connect(world.folder / "dnsvip.db") as database:
        used = dict(database.execute("SELECT digest, used_at FROM dns_token_use"))
    assert used[digest] > 1e9
