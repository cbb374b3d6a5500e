"""Programs as they are, without a preloaded library, reach proven addresses: by the stub as this host's resolver, by
the proxy, or by a hosts file of their own."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.proof import Bind
from dnsvip.demo.netns import World
from tests.client.conftest import certificate  # noqa: F401 - a fixture
from tests.client.test_agent import CLUSTER, ISSUED, NAME, enrolment
from tests.network.hosted import start_on
from tests.network.test_client import DNS, ROOT, SOURCE, Scene, proof_of, until

pytestmark = pytest.mark.network

SSH_SERVER = """
import json, socket, sys
with socket.create_server(("::", 22), family=socket.AF_INET6) as listener:
    while True:
        connection, peer = listener.accept()
        connection.sendall(b"SSH-2.0-nobody\\r\\n")
        banner = connection.recv(255).decode(errors="replace").strip()
        to = connection.getsockname()[0]
        with open(sys.argv[1], "w") as file:
            json.dump({"from": peer[:2], "to": to, "banner": banner}, file)
        connection.close()
"""
BROWSER = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--ignore-certificate-errors")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Scene]:  # noqa: F811
    """A host whose resolver is the stub, and servers of its cluster on the same host."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("programs")
    with World() as world:
        host = world.host("one", etc={"resolv.conf": "nameserver 127.0.0.1\n"})
        host.address("lo", f"{SOURCE}/128")
        host.route(f"local {CLUSTER.prefix}", "dev", "lo")
        host.route("2000::/3", "dev", "lo")  # Chromium asks for AAAA where it sees a way to the Internet
        environment, log = {"PYTHONPATH": str(ROOT)}, folder / "log"
        scene = Scene(host, folder / "enrolment.json", certificate)
        scene.enrol(enrolment(DNS))
        host.start(sys.executable, "-m", "tests.client.issuer", *DNS.split(":"), env=environment, log=log)
        web = (sys.executable, "-m", "tests.client.webserver", certificate, "::", "80", "443")
        host.start(*web, env=environment, log=log)
        host.start(sys.executable, "-c", SSH_SERVER, folder / "ssh.json", log=log)
        stub = ("stub", "--listen", "127.0.0.1:53", "--upstream", DNS)
        start_on(host, "client", *stub, env={**environment, "DNSVIP_ENROLMENT": str(scene.file)}, log=log)
        until(lambda: host.run("ss", "-Hltn").stdout.count("LISTEN") == 5, log)
        yield scene


def is_proven(seen: dict[str, Any]) -> bool:
    """Whether a connection came from this host to an address with its proof."""
    return IPv6Address(seen["to"]) != ISSUED and seen["from"][0] == str(SOURCE) and proof_of(seen, Bind.ADDRESS)


def test_curl(scene: Scene) -> None:
    """curl, which asks the stub by the C library."""
    assert is_proven(json.loads(scene.host.run(*scene.curl(f"https://{NAME}/")).stdout))


def test_curl_by_the_proxy(scene: Scene) -> None:
    """curl by the loopback proxy of `exec`."""
    assert is_proven(scene.fetch(*scene.curl(f"https://{NAME}/")))


@pytest.mark.parametrize("way", ["stub", "hosts"])
def test_chromium(scene: Scene, way: str, tmp_path: Path) -> None:
    """A browser, by the stub or by the hosts file of `exec --hosts`."""
    program = shutil.which("chromium")
    assert program, "no chromium: deploy/debian-packages.sh installs it"
    page = (program, *BROWSER, f"--user-data-dir={tmp_path}", "--timeout=20000", "--dump-dom", f"https://{NAME}/")
    said = (scene.host.run(*page, timeout=90) if way == "stub" else scene.client("exec", "--hosts", "--", *page)).stdout
    shown = re.search(r"\{.*\}", said, re.DOTALL)
    assert shown, said
    seen = json.loads(shown[0])
    assert is_proven(seen)
    assert (seen["sni"], "Chrome" in seen["fields"]["user-agent"]) == (NAME, True)


def test_ssh(scene: Scene) -> None:
    """ssh, which connects to what the C library tells it."""
    options = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-F", "none")
    scene.host.run("ssh", *options, NAME, check=False)
    seen = json.loads((scene.file.parent / "ssh.json").read_text())
    assert is_proven(seen)
    assert seen["banner"].startswith("SSH-2.0-OpenSSH")


def test_ping(scene: Scene) -> None:
    """ping, which has no ports: the proof is in the address alone."""
    said = scene.host.run("ping", "-6", "-n", "-c", "1", "-W", "5", NAME).stdout
    assert "1 received" in said
    (to,) = set(re.findall(r"bytes from ([0-9a-f:]+):", said))
    assert is_proven({"to": to, "from": [str(SOURCE), 0]})
