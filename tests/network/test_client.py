"""`dnsvip client` on real packets: a host serves a whole cluster prefix, so the server sees which address was used."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.proof import Bind, acceptable_slots, verify
from dnsvip.client.enrolment import Enrolment, ProofKey
from dnsvip.client.io import files
from dnsvip.demo.netns import Host, World
from tests.client.conftest import certificate  # noqa: F401 - a fixture
from tests.client.test_agent import CLUSTER, CODEC, ISSUED, NAME, enrolment
from tests.network.hosted import run_on, start_on

pytestmark = pytest.mark.network

SOURCE = IPv6Address("2001:db8:77::5")
DNS = "127.0.0.1:5353"
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Scene:
    """A host with client, DNS server and web server, and the enrolment file."""

    host: Host
    file: Path
    certificate: Path

    def client(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {"DNSVIP_ENROLMENT": str(self.file), "PYTHONPATH": str(ROOT)}
        return run_on(self.host, "client", *words, env=environment, check=check)

    def enrol(self, enrolled: Enrolment) -> None:
        files.save(enrolled, self.file)

    def fetch(self, *words: str | Path) -> dict[str, Any]:
        """The web server's view of curl's connection."""
        document: dict[str, Any] = json.loads(self.client("exec", *words).stdout)
        return document

    def curl(self, url: str, *words: str) -> tuple[str | Path, ...]:
        return ("curl", "-sS", "--max-time", "10", "--cacert", self.certificate / "cert.pem", *words, url)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Scene]:  # noqa: F811
    if reason := World.available(tun=False):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("client")
    with World() as world:
        host = world.host("one")
        host.address("lo", f"{SOURCE}/128")
        host.route(f"local {CLUSTER.prefix}", "dev", "lo")
        environment = {"PYTHONPATH": str(ROOT)}
        log = folder / "log"
        host.start(sys.executable, "-m", "tests.client.issuer", *DNS.split(":"), env=environment, log=log)
        web = (sys.executable, "-m", "tests.client.webserver", certificate, "::", "80", "443")
        host.start(*web, env=environment, log=log)
        found = Scene(host, folder / "enrolment.json", certificate)
        until(lambda: host.run("ss", "-Hltn").stdout.count("LISTEN") == 3, log)
        yield found


def until(holds: Callable[[], bool], log: Path) -> None:
    for _ in range(100):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail(f"the servers do not come up: {log.read_text()}")


def proof_of(seen: dict[str, Any], bind: Bind) -> bool:
    """Whether the connection's destination carries a proof for its source."""
    address, (source, port) = int(IPv6Address(seen["to"])), seen["from"]
    return CODEC.authentic(address) and any(
        verify(CODEC.layout, address, bytes(16), bind, int(IPv6Address(source)), port, slot)
        for slot in acceptable_slots(time.time(), 30)
    )


@pytest.mark.parametrize("bind", list(Bind))
def test_curl_by_exec(scene: Scene, bind: Bind) -> None:
    """curl connects to the proven address from the bound source, with certificate name, SNI and Host of its URL."""
    scene.enrol(enrolment(DNS, bind=bind))
    seen = scene.fetch(*scene.curl(f"https://{NAME}/x"))
    assert proof_of(seen, bind)
    assert IPv6Address(seen["to"]) != ISSUED
    assert IPv6Address(seen["from"][0]) == SOURCE
    assert (seen["sni"], seen["fields"]["host"], seen["start"]) == (NAME, NAME, "GET /x HTTP/1.1")


def test_plain_http_by_exec(scene: Scene) -> None:
    """A plain http URL uses the proven address too, with Host as in the URL."""
    scene.enrol(enrolment(DNS))
    seen = scene.fetch(*scene.curl(f"http://{NAME}/"))
    assert proof_of(seen, Bind.ADDRESS)
    assert seen["fields"]["host"] == NAME


def test_port_bound_connections_differ(scene: Scene) -> None:
    """With single use and address+port, each parallel connection has its own address and a valid proof."""
    scene.enrol(enrolment(DNS, bind=Bind.ADDRESS_PORT, single_use=True))
    script = "; ".join(f"curl -sS --cacert {scene.certificate}/cert.pem https://{NAME}/{i}; echo" for i in range(6))
    lines = scene.client("exec", "--", "sh", "-c", script).stdout.split("\n")
    seen = [json.loads(line) for line in lines if line]
    assert len(seen) == 6
    assert len({each["to"] for each in seen}) == 6
    assert all(proof_of(each, Bind.ADDRESS_PORT) for each in seen)


def test_wrong_certificate_name(scene: Scene) -> None:
    """curl rejects a certificate for another name: the client does not intercept TLS."""
    enrolled = enrolment(DNS)
    cluster = replace(enrolled.clusters[0], services=(NAME, "other.example.test"))
    scene.enrol(replace(enrolled, clusters=(cluster,)))
    done = scene.client("exec", *scene.curl("https://other.example.test/"), check=False)
    assert (done.returncode, "subject name" in done.stderr) == (60, True)


def test_hosts_option(scene: Scene) -> None:
    """A program without proxy support gets the proven address from a private /etc/hosts."""
    scene.enrol(enrolment(DNS))
    seen = scene.fetch("--hosts", *scene.curl(f"https://{NAME}/", "--noproxy", "*"))
    assert proof_of(seen, Bind.ADDRESS)
    assert seen["sni"] == NAME


def test_without_enrolment(scene: Scene, tmp_path: Path) -> None:
    """Without an enrolment curl under exec reaches the plain VIP."""
    words = ("exec", "--server", DNS, *scene.curl(f"https://{NAME}/"))
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    seen = json.loads(run_on(scene.host, "client", *words, env=environment).stdout)
    assert IPv6Address(seen["to"]) == CLUSTER.plain


def test_resolve(scene: Scene) -> None:
    """`client resolve --json` prints an address that verifies for this host's source."""
    scene.enrol(enrolment(DNS))
    before = time.time()
    answer = json.loads(scene.client("resolve", NAME, "--json").stdout)
    assert answer["proven"]
    assert IPv6Address(answer["issued"]) == ISSUED
    assert proof_of({"to": answer["address"], "from": [str(SOURCE), 0]}, Bind.ADDRESS)
    assert before < answer["valid_until"] <= time.time() + 30
    shown = scene.client("resolve", NAME).stdout.splitlines()
    assert IPv6Address(shown[0]) in CLUSTER.prefix
    assert "proven for new connections in the next" in shown[1]


PROGRAM = f"""
import asyncio, json, ssl, sys
from dnsvip.client import Agent
agent = Agent.load()
context = ssl.create_default_context(cafile=sys.argv[1])
request = b"GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\nConnection: close\\r\\n\\r\\n"

async def streams():
    reader, writer = await agent.open_connection("{NAME}", 443, ssl=context)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer

def blocking():
    with agent.create_connection("{NAME}", 443, timeout=5) as sock:
        with context.wrap_socket(sock, server_hostname="{NAME}") as tls:
            tls.sendall(request)
            return b"".join(iter(lambda: tls.recv(65536), b""))

for answer in (asyncio.run(streams()), blocking()):
    print(answer.partition(b"\\r\\n\\r\\n")[2].decode())
"""


def test_python_api(scene: Scene) -> None:
    """Connections by streams and by socket carry proofs bound to their source ports."""
    scene.enrol(enrolment(DNS, bind=Bind.ADDRESS_PORT))
    environment = {"DNSVIP_ENROLMENT": str(scene.file), "PYTHONPATH": str(ROOT)}
    done = scene.host.run(sys.executable, "-c", PROGRAM, scene.certificate / "cert.pem", env=environment)
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(seen) == 2
    assert all(proof_of(each, Bind.ADDRESS_PORT) and each["sni"] == NAME for each in seen)


def test_single_use_bound_to_the_address(scene: Scene) -> None:
    """With single use bound to the address alone, connecting fails with an error once no fresh proof is left."""
    enrolled = enrolment(DNS)
    cluster = replace(enrolled.clusters[0], proof=ProofKey(bytes(16), Bind.ADDRESS, True), slot_seconds=3600)
    scene.enrol(replace(enrolled, clusters=(cluster,)))
    script = "; ".join(f"curl -sS --max-time 5 http://{NAME}/{i}; echo" for i in range(4))
    lines = [line for line in scene.client("exec", "--", "sh", "-c", script).stdout.split("\n") if line]
    assert len({json.loads(line)["to"] for line in lines[:3]}) == 3
    assert "used up" in lines[3]


def test_stub(scene: Scene, tmp_path: Path) -> None:
    """An unmodified program gets proven addresses through the stub in its resolv.conf."""
    scene.enrol(enrolment(DNS))
    environment = {"DNSVIP_ENROLMENT": str(scene.file), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    listening = ("stub", "--listen", "127.0.0.1:53", "--upstream", DNS)
    stub = start_on(scene.host, "client", *listening, env=environment, log=log)
    until(lambda: log.exists() and "answering at 127.0.0.1:53" in log.read_text(), log)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    private = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    words = ("sh", "-c", private, tmp_path / "resolv.conf", *scene.curl(f"https://{NAME}/"))
    seen = json.loads(scene.host.run(*words).stdout)
    assert proof_of(seen, Bind.ADDRESS)
    assert seen["sni"] == NAME
    stub.terminate()
    assert stub.wait(5) == 0


# -- a network without IPv6 --------------------------------------------------------------------------------

IPV4 = "198.51.100.80"


@pytest.fixture(scope="module", params=["no IPv6", "no route"])
def scene4(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificate: Path,  # noqa: F811
) -> Iterator[Scene]:
    """A host whose network has IPv4 only: the kernel has IPv6 switched off, or has nowhere to send it."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("client4")
    with World() as world:
        host = world.host("four")
        host.address("lo", f"{IPV4}/32")
        if request.param == "no IPv6":
            host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        environment = {"PYTHONPATH": str(ROOT)}
        log = folder / "log"
        host.start(sys.executable, "-m", "tests.client.issuer", *DNS.split(":"), IPV4, env=environment, log=log)
        web = (sys.executable, "-m", "tests.client.webserver", certificate, IPV4, "80", "443")
        host.start(*web, env=environment, log=log)
        until(lambda: host.run("ss", "-Hltn").stdout.count("LISTEN") == 3, log)
        yield Scene(host, folder / "enrolment.json", certificate)


@pytest.mark.parametrize("bind", list(Bind))
def test_ipv4_by_exec(scene4: Scene, bind: Bind) -> None:
    """By the proxy, an enrolled client reaches the service's IPv4 address, with TLS to the service as ever."""
    scene4.enrol(enrolment(DNS, bind=bind))
    seen = scene4.fetch(*scene4.curl(f"https://{NAME}/x"))
    assert (seen["to"], seen["sni"], seen["start"]) == (IPV4, NAME, "GET /x HTTP/1.1")


def test_ipv4_by_hosts_and_resolve(scene4: Scene) -> None:
    """The hosts file and `client resolve` give the IPv4 address, and `resolve` says why."""
    scene4.enrol(enrolment(DNS))
    seen = scene4.fetch("--hosts", *scene4.curl(f"https://{NAME}/", "--noproxy", "*"))
    assert seen["to"] == IPV4
    answer = json.loads(scene4.client("resolve", NAME, "--json").stdout)
    assert (answer["address"], answer["proven"], answer["why"]) == (IPV4, False, "no-ipv6")


def test_ipv4_by_the_stub(scene4: Scene, tmp_path: Path) -> None:
    """The stub answers A, and no AAAA that this host could not connect to."""
    scene4.enrol(enrolment(DNS))
    environment = {"DNSVIP_ENROLMENT": str(scene4.file), "PYTHONPATH": str(ROOT)}
    stub = ("stub", "--listen", "127.0.0.1:5300", "--upstream", "127.0.0.1:1")
    process = start_on(scene4.host, "client", *stub, env=environment, log=tmp_path / "log")
    try:
        until(lambda: ":5300" in scene4.host.run("ss", "-Hlun").stdout, tmp_path / "log")
        dig = ("dig", "@127.0.0.1", "-p", "5300", "+tries=1", NAME)
        assert scene4.host.run(*dig, "A", "+short").stdout.split() == [IPV4]
        answer = scene4.host.run(*dig, "AAAA").stdout
        assert "status: NOERROR" in answer
        assert "ANSWER: 0" in answer
    finally:
        process.terminate()
        process.wait(10)
