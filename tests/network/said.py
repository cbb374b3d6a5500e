"""An enrolled client behind a public resolver, and a site that hears what it says: the field of test_said.py.

client - router ======== d1 (user space), d2 (kernel)     The router also runs our DNS server, and Unbound, which
         segment         s1, s2, s3                       knows no client and sends no ECS.

Strangers reach s3, the client s1, and what it says of video or quality s2. Its second network, on lo, is routed to it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import EnrolledCluster, Enrolment
from dnsvip.client.io import files
from dnsvip.demo.netns import World
from tests.network.dispatching import Capture, apply, read_snapshot, wait_until
from tests.network.field import Field
from tests.network.hosted import run_on, start_on

NAME = "www.example.test"
ROUTER, HOME, ROUTED = "2001:db8:77::1", "2001:db8:77::10", "2001:db8:99::10"
RESOLVER, SERVER = f"[{ROUTER}]:53", f"[{ROUTER}]:5300"
PLAIN = "2001:db8:a:1::1"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
SITE = f"""
[cluster.web]
prefix = "2001:db8:a:1::/64"
plain = "{PLAIN}"
layout = [["tier", 4], ["client", 16], ["expiry", 6]]
tag_bits = 24
default_tier = "open"
claims = [["content", 3], ["session", 8]]
label = {{ claims = [["quality", 4], ["priority", 3]], mac_bits = 13 }}
source = {{ layout = [["tier", 4], ["client", 33]], tag_bits = 24 }}
values.content = {{ video = 1, page = 2 }}
[[cluster.web.select]]
when = {{ content = "video" }}
pool = "video"
[[cluster.web.select]]
when = {{ quality = 9 }}
pool = "video"
[tier.open]
code = 1
pool = "open"
[tier.gold]
code = 5
pool = "gold"
[pool.gold]
servers = [{{ name = "s1", address = "fd00:10::21" }}]
[pool.video]
servers = [{{ name = "s2", address = "fd00:10::22" }}]
[pool.open]
servers = [{{ name = "s3", address = "fd00:10::23" }}]
[tsig.acme-key]
secret = "{SECRET}"
[client.acme]
id = 1001
tier = "gold"
match = [{{ tsig = "acme-key" }}]
[zone."example.test"]
file = "example.test.zone"
[service."{NAME}"]
cluster = "web"
"""
ZONE = f"""
@ 60 IN SOA ns hostmaster 1 3600 600 86400 60
@ 60 IN NS ns
ns 60 IN AAAA {ROUTER}
"""
UNBOUND = f"""
server:
  interface: {ROUTER}
  port: 53
  access-control: ::/0 allow
  username: ""
  chroot: ""
  directory: "FOLDER"
  pidfile: ""
  use-syslog: no
  module-config: "iterator"
  local-zone: "test." nodefault
stub-zone:
  name: "example.test"
  stub-addr: {ROUTER}@5300
remote-control:
  control-enable: no
"""
NODE = f"""
database = "sqlite:///site.db"
state_dir = "state-dns"
node = "dns"
[[dns.listen]]
name = "public"
address = "{SERVER}"
"""
ASK = """
import json, sys
from dnsvip.client import Agent
agent = Agent.load(**json.loads(sys.argv[1]))
with agent.create_connection("NAME", 8000, timeout=5) as sock:
    sock.sendall(b"1\\n")
    print(json.dumps([sock.recv(9).decode()[:2], sock.getpeername()[0], sock.getsockname()[:2]]))
"""


class SaidField(Field):
    """The hosts with DNS server, resolver and dispatchers running, and the client enrolled."""

    def __init__(self, world: World, folder: Path, modes: Sequence[str]) -> None:
        super().__init__(world, folder, modes, servers=3)
        self.file = folder / "acme.json"
        for name in self.dispatchers:
            self.dispatch(name)
        self._name_server()
        self.enrolment: Enrolment = make_enrolment(read_snapshot(folder, "d1.toml"), "acme", (SERVER,))
        files.save(self.enrolment, self.file)
        self._route_second_network()

    @property
    def cluster(self) -> EnrolledCluster:
        """The client's cluster."""
        return self.enrolment.clusters[0]

    def apply(self) -> None:
        """Apply this module's site."""
        (self.folder / "example.test.zone").write_text(ZONE)
        apply(self.folder, SITE, node="d1.toml")

    def _name_server(self) -> None:
        (self.folder / "dns.toml").write_text(NODE)
        (self.folder / "unbound.conf").write_text(UNBOUND.replace("FOLDER", str(self.folder)))
        start_on(self.router, "serve", self.folder / "dns.toml", log=self.folder / "dns.log")
        self.router.start("unbound", "-d", "-c", self.folder / "unbound.conf", log=self.folder / "unbound.log")
        dig = ("dig", f"@{ROUTER}", "+short", "+tries=1", "+time=1", NAME, "AAAA")
        wait_until(lambda: self.client.run(*dig, check=False).stdout.strip() == PLAIN, 60)

    def _route_second_network(self) -> None:
        network = "2001:db8:99::/64"
        self.router.route(network, "via", HOME)
        self.client.address("lo", f"{ROUTED}/128")
        self.client.ip("-6", "route", "add", "local", network, "dev", "lo")

    def ask(self, prefix: Sequence[str] = (), **settings: Any) -> tuple[str, str, tuple[str, int]]:
        """Connect as the client, with settings of its agent: the server reached, and both ends of the connection."""
        script = ASK.replace("NAME", NAME)
        words = (*prefix, sys.executable, "-c", script, json.dumps(settings))
        server, to, source = json.loads(self.client.run(*words, env=self.environment).stdout)
        return server, to, (source[0], source[1])

    def dnsvip(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `dnsvip client`."""
        return run_on(self.client, "client", *words, env=self.environment, check=check, timeout=60)

    @property
    def environment(self) -> dict[str, str]:
        """Where the client finds its enrolment, and Python this package."""
        return {"DNSVIP_ENROLMENT": str(self.file), "PYTHONPATH": str(Path(__file__).parent.parent.parent)}

    def plain_connection(self, to: str, source: str = HOME) -> str:
        """The server that any program reaches at an address; empty if none answers."""
        script = (
            "import socket, sys; c = socket.create_connection((sys.argv[1], 8000), 3, (sys.argv[2], 0));"
            "c.sendall(b'1\\n'); print(c.recv(9).decode()[:2])"
        )
        return self.client.run(sys.executable, "-c", script, to, source, check=False).stdout.strip()

    @contextmanager
    def translated(self, inside: str) -> Iterator[str]:
        """Translate what the client sends from an address to the cluster while the block lasts; to which source."""
        outside, log = "2001:db8:77::abcd", self.folder / f"nat-{time.monotonic_ns()}.log"
        self.client.forwarding()
        self.client.sysctl({"net.ipv6.conf.router.proxy_ndp": "1"})
        script = Path(__file__).with_name("nat66.py")
        process = self.client.start(
            sys.executable, script, "nat66", "router", inside, outside, "2001:db8:a:1::/64", log=log
        )
        try:
            wait_until(lambda: "translating" in log.read_text())
            yield outside
        finally:
            process.kill()
            process.wait()
            self.client.ip("-6", "neigh", "del", "proxy", outside, "dev", "router")

    def counters(self, name: str) -> dict[str, int]:
        """A dispatcher's packets by reason."""
        return dict(self.status(name)["counters"])

    def capture(self) -> Capture:
        """First packets of connections as they leave the router for the dispatchers."""
        number = len(list(self.folder.glob("*.pcap")))
        return Capture(self.router, "ip6 and dst net 2001:db8:a:1::/64 and tcp", self.folder / f"{number}.pcap")
