"""The alert on late answers fires while one network floods a real DNS server, and ends when its advice is followed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import pytest

from dnsvip.demo.netns import Host, World
from tests.alerts import Scrape, Stage, fires, scraped
from tests.dns.io.test_fairness import HEAD, NAME, long_record
from tests.network.dispatching import wait_until
from tests.network.hosted import start_on
from tests.node.serving import DATABASE, node

SERVER, HONEST, FLOODER = "10.0.0.2", "198.51.100.10", "203.0.113.66"
FLOODING = "203.0.113.0/24"
CONSOLE = "http://127.0.0.1:8053"
NODE = (
    DATABASE
    + f"""\
[[dns.listen]]
name = "public"
address = "{SERVER}:53"
[admin]
listen = "127.0.0.1:8053"
[metrics]
listen = "127.0.0.1:9153"
"""
)
SECONDS = 40
"""Everything here waits for so long at most: a loaded machine is slow to notice."""

ASK = f"""
import socket, sys, time
source, number, burst, message = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((source, 0))
sock.connect(("{SERVER}", 53))
sock.settimeout(5)
for each in range(number):
    sock.send(message)
    if not burst:
        sock.recv(4096)
    elif each % burst == 0:
        time.sleep(0.01)
"""
"""A program that asks so many times: where there is no `burst`, one after the other is answered, else it sends so many
in each hundredth of a second, or a little longer, whatever is answered."""

SHORT = dns.message.make_query("mail.example.test", "A").to_wire()
LONG = HEAD + b"\0\6" + NAME + long_record(110) * 6
"""A question that is answered at once, and one that takes long to read."""

pytestmark = pytest.mark.network


class Served:
    """client - router - server: two networks ask a DNS server through the router."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folder, self.jar, self.token = folder, folder / "jar", folder / "token"
        self.client, self.router, self.server = (world.host(name) for name in ("client", "router", "server"))
        near, far = [f"{HONEST}/24", f"{FLOODER}/24"], ["198.51.100.1/24", "203.0.113.1/24"]
        world.link(self.client, self.router, a_addrs=near, b_addrs=far)
        world.link(self.router, self.server, a_addrs=["10.0.0.1/24"], b_addrs=[f"{SERVER}/24"])
        self.router.forwarding()
        self.client.route("default", "via", "198.51.100.1")
        self.server.route("default", "via", "10.0.0.1")

    def start(self) -> None:
        """Serve the example site."""
        with node(self.folder) as made:
            made.apply()
        (self.folder / "node.toml").write_text(NODE)
        log = self.folder / "log"
        start_on(self.server, "serve", self.folder / "node.toml", "--token-file", self.token, log=log)
        wait_until(lambda: "ready" in log.read_text(), SECONDS)
        self.sign_in()

    def curl(self, *words: str) -> str:
        """What a listener on the server's loopback answers."""
        return self.server.run("curl", "-sf", "-m", "10", *words).stdout

    def look(self) -> Scrape:
        """A scrape of the server."""
        return scraped(self.curl("http://127.0.0.1:9153/metrics"))

    def stage(self, act: Callable[[], object]) -> Stage:
        """A stage in which that is done."""
        before = self.look()
        act()
        return before, self.look()

    def asked(self) -> Stage:
        """A stage in which the honest network asks one question after the other."""
        return self.stage(lambda: ask(self.client, HONEST, 320, 0, SHORT).wait(SECONDS))

    def sign_in(self) -> None:
        """Open a session of the console."""
        bearer = f"Authorization: Bearer {self.token.read_text().strip()}"
        self.curl(
            "-c", str(self.jar), "-X", "POST", "-H", bearer, "-H", f"Origin: {CONSOLE}", f"{CONSOLE}/console/session"
        )

    def busiest(self) -> str:
        """The network at the head of the overview's top resolvers."""
        rows = json.loads(self.curl("-b", str(self.jar), f"{CONSOLE}/console/live"))["tops"]["resolvers"]
        return str(rows[0]["network"]) if rows else ""


def ask(client: Host, source: str, number: int, burst: int, message: bytes) -> subprocess.Popen[bytes]:
    """Start to ask from an address of the client."""
    return client.start(sys.executable, "-c", ASK, source, str(number), str(burst), message.hex())


@contextmanager
def flood(client: Host) -> Iterator[None]:
    """Questions of another network, far more than the server answers."""
    process = ask(client, FLOODER, 10_000_000, 200, LONG)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_answers_that_are_late(world: World, tmp_path: Path) -> None:
    """Late while a network floods the server, which the overview names; in time when that is filtered before it."""
    served = Served(world, tmp_path)
    served.start()
    well = served.asked()
    with flood(served.client):
        time.sleep(0.5)
        late = served.stage(lambda: time.sleep(1))
        wait_until(lambda: served.busiest() == FLOODING, SECONDS)
        served.router.ip("rule", "add", "blackhole", "from", FLOODING)
        time.sleep(1)  # what waits is answered, or too late, in half a second
        filtered = served.asked()
    fires([well, late, filtered], "DnsvipDnsSlow", [False, True, False])
