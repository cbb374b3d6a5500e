"""A site at work for the console's tests: a real node, a real dispatcher beside it where the machine allows one,
and real questions and packets for both.

client ===== dispatcher ===== farm (all servers but slow-2, which is away)
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dnsvip.demo.netns import Host, World
from tests import preloaded
from tests.network.hosted import start_on
from tests.node.serving import NODE, Node, node, within

CLIENTS = 130
TIERS = ("gold", "standard", "standard", "blocked")
FARM = ("fd00:10::11", "fd00:10::21")
NAMES = ("www.example.test",) * 5 + ("example.test", "nowhere.example.test", "www.elsewhere.test")
PACKETS = """
import random, socket, sys, time
pick, addresses = random.Random(1), sys.argv[1:]
while True:
    for _ in range(pick.randint(1, 9)):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            one.sendto(b"hello", (pick.choice(addresses), 443))
    time.sleep(0.1)
"""


class Site:
    """The node with its clients, asked and sent packets all the while."""

    def __init__(self, serving: Node, folder: Path) -> None:
        self.node, self.folder = serving, folder
        self.dispatcher: preloaded.Process | subprocess.Popen[bytes] | None = None
        self._host: Host | None = None
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        """Where the console is."""
        return f"http://127.0.0.1:{self.node.api}/console/"

    def address(self, subnet: str = "198.51.100.7/32") -> str:
        """What a client behind this subnet is answered now."""
        return self.node.dig("AAAA", "www.example.test", f"+subnet={subnet}").splitlines()[-1]

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Real dig, asking all the while."""
        thread = threading.Thread(target=self._ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join(20)

    def _ask(self) -> None:
        pick = random.Random(2)
        batch = self.folder / "questions"
        while not self._stopped.is_set():
            subnets = ["198.51.100.7/32", "10.0.1.9/32", "192.0.2.77/32"]
            lines = [f"{pick.choice(NAMES)} AAAA +subnet={pick.choice(subnets)}" for _ in range(20)]
            batch.write_text("\n".join(lines) + "\n")
            argv = ["dig", "@127.0.0.1", "-p", str(self.node.dns), "+tries=1", "+time=1", "-f", batch]
            subprocess.run(argv, capture_output=True, timeout=60, check=False)
            self._stopped.wait(1)

    def dispatch(self, world: World) -> None:
        """Run a dispatcher of this node's, and send it packets, some of them to forged addresses."""
        client, dispatcher, farm = (world.host(name) for name in ("client", "dispatcher", "farm"))
        world.link(client, dispatcher, a_addrs=["2001:db8:77::10/64"], b_addrs=["2001:db8:77::1/64"])
        addresses = [f"{address}/64" for address in FARM]
        world.link(dispatcher, farm, a_addrs=["fd00:10::1/64"], b_addrs=addresses, a_name="eth0", b_name="eth0")
        dispatcher.forwarding()
        client.route("default", "via", "2001:db8:77::1")
        farm.route("default", "via", "fd00:10::1")
        farm.ip("-6", "route", "add", "local", "2001:db8:a:1::/64", "dev", "lo")
        (self.folder / "farm").mkdir()
        (self.folder / "farm" / "health").write_text("well\n")
        farm.start(sys.executable, "-m", "http.server", "--bind", "::", "--directory", self.folder / "farm", "80")
        self._host = dispatcher
        self.start_dispatcher()
        good = [self.address(), self.address(), "2001:db8:a:1::1", self.address("10.0.1.9/32")]
        forged = good[0][:-1] + ("0" if good[0][-1] != "0" else "1")
        client.start(sys.executable, "-c", PACKETS, *good, forged, log=self.folder / "packets.log")

    def start_dispatcher(self) -> None:
        """Start it, or start it again; returns when it dispatches."""
        assert self._host is not None
        log = self.folder / "dispatch.log"
        log.unlink(missing_ok=True)
        process = start_on(self._host, "dispatch", self.folder / "node.toml", log=log)
        within(60, lambda: (log.exists() and "dispatching" in log.read_text()) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        self.dispatcher = process

    def stop_dispatcher(self, number: signal.Signals) -> None:
        """End it by a signal."""
        assert self.dispatcher is not None
        self.dispatcher.send_signal(number)
        self.dispatcher.wait(20)


def clients() -> str:
    """Clients of all tiers, for the site file."""
    form = '[client.client-{0:03}]\nid = {1}\ntier = "{2}"\nmatch = [{{ ecs = "10.0.{0}.0/24" }}]\n'
    return "".join(form.format(number, 2000 + number, TIERS[number % len(TIERS)]) for number in range(CLIENTS))


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """The site, at work until the end of the block."""
    with ExitStack() as stack:
        serving = stack.enter_context(node(folder))
        serving.write_node(NODE + '[dispatch]\ninterface = "eth0"\n')
        with (folder / "site.toml").open("a") as site_file:
            site_file.write(clients())
        serving.apply()
        serving.start("--token-file", "token")
        made = Site(serving, folder)
        stack.enter_context(made.asked())
        if World.available(tun=True) is None:
            made.dispatch(stack.enter_context(World()))
        yield made
