r"""A dispatcher whose servers fail, recover, report their load and sit behind tunnels.

client - router ---- dispatcher        web-1, web-2: on the dispatcher's segment (direct), each with a load agent
            |   \---- web-1, web-2
            \------- tun-1, tun-2      behind another hop, reached through a tunnel (encap)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from dnsvip.demo.netns import Host, World
from tests.network.dispatching import Capture, apply, clusters, read_snapshot, wait_until
from tests.network.hosted import run_on, start_on

WHOLE = 12_000_000
"""Bytes of a download."""
SERVERS = {"web-1": "fd00:10::11", "web-2": "fd00:10::12", "tun-1": "fd00:20::11", "tun-2": "fd00:20::12"}
TIERS = {"web": 1, "tunnel": 2, "lonely": 3, "spare": 4, "held": 5}
CLIENT = "2001:db8:77::10"
SITE = (
    clusters("web", "tunnel = [8], lonely = [9]")
    + """
[tier.web]
code = 1
pool = "web"
[tier.tunnel]
code = 2
pool = "tunnel"
dscp = 46
[tier.lonely]
code = 3
pool = "lonely"
[tier.spare]
code = 4
pool = "spare"
[tier.held]
code = 5
pool = "web"
rate = { new_flows = 10, burst = 1, over = "hold" }
[pool.web]
check = { http = "http://[{address}]/health", agent = 9000, interval = 0.2, timeout = 2, fall = 2, rise = 2 }
servers = [{ name = "web-1", address = "fd00:10::11" }, { name = "web-2", address = "fd00:10::12" }]
[pool.tunnel]
forward = "encap"
check = { tcp = 80, interval = 0.2, timeout = 2 }
servers = [{ name = "tun-1", address = "fd00:20::11" }, { name = "tun-2", address = "fd00:20::12" }]
[pool.lonely]
check = { tcp = 81, interval = 0.2 }
servers = [{ name = "nobody", address = "fd00:10::11" }]
[pool.spare]
check = { tcp = 81, interval = 0.2 }
fallback = "web"
servers = [{ name = "nobody", address = "fd00:10::12" }]
[client.acme]
id = 1001
tier = "web"
"""
)
NODE = """
database = "sqlite:///site.db"
state_dir = "state"
node = "edge"
[admin]
listen = "127.0.0.1:8053"
[dispatch]
flows = 5000
"""
WEB = """
import http.server, os, socketserver, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, size):
        self.send_response(status); self.send_header("Content-Length", str(size)); self.end_headers()
    def do_GET(self):
        if self.path == "/health":
            return self.answer(503 if os.path.exists("sick") else 200, 0)
        if self.path == "/slow":  # takes a minute; once `finish` exists, sends the rest at once
            self.answer(200, 12_000_000)
            for _ in range(600):
                self.wfile.write(NAME * 4_000)
                if not os.path.exists("../finish"): time.sleep(0.1)
            return
        self.answer(200, len(NAME)); self.wfile.write(NAME)
    def do_POST(self):
        got = len(self.rfile.read(int(self.headers["Content-Length"])))
        text = b"%s %d" % (NAME, got)
        self.answer(200, len(text)); self.wfile.write(text)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = 10
    request_queue_size = 200
    daemon_threads = True
NAME = NAME_HERE
Server(("::", 80), Handler).serve_forever()
"""
AGENT = """
import pathlib, socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(pathlib.Path("agent").read_bytes())
class Server(socketserver.ThreadingTCPServer):
    address_family = 10
    allow_reuse_address = True
Server(("::", 9000), Handler).serve_forever()
"""
DECAP = """
import fcntl, os, select, socket, struct, subprocess
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"vip0", 0x1001))
subprocess.run(["ip", "link", "set", "vip0", "up"], check=True)
doors = [socket.socket(socket.AF_INET6, socket.SOCK_RAW, protocol) for protocol in (41, 4)]
while True:
    for door in select.select(doors, [], [])[0]:
        os.write(tun, door.recv(65535))
"""
"""A tunnel endpoint for servers whose kernel lacks ip6tnl: it decapsulates IPv6 or IPv4 in IPv6."""


class Backends:
    """The topology above with everything running and the dispatcher's first checks passed."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.client, self.router, self.dispatcher = (world.host(name) for name in ("client", "router", "dispatcher"))
        self.servers = {name: world.host(name) for name in SERVERS}
        self.web: dict[str, subprocess.Popen[bytes]] = {}
        self._wire()
        for name, host in self.servers.items():
            self._furnish(name, host)
        (folder / "node.toml").write_text(NODE)
        apply(folder, SITE)
        self.process = start_on(self.dispatcher, "dispatch", folder / "node.toml", log=folder / "dispatch.log")
        wait_until(lambda: (folder / "state" / "dispatch.sock").exists() or self.process.poll() is not None, 30)
        wait_until(lambda: self.states("lonely") == {"nobody": "down"}, 30)

    def _wire(self) -> None:
        link, world = self.world.link, self.world
        near, far = world.switch("near"), world.switch("away")
        link(self.client, self.router, a_addrs=[f"{CLIENT}/64", "198.51.100.10/24"], a_name="eth0",
             b_addrs=["2001:db8:77::1/64", "198.51.100.1/24"])  # fmt: skip
        link(self.router, near, a_addrs=["fd00:10::1/64", "10.0.0.1/24"], a_name="near")
        link(self.router, far, a_addrs=["fd00:20::1/64"], a_name="away")
        link(self.dispatcher, near, a_addrs=["fd00:10::2/64", "10.0.0.2/24"], a_name="eth0")
        for host in (self.router, self.dispatcher):
            host.forwarding()
        self.client.route("default", "via", "2001:db8:77::1")
        self.client.route("default", "via", "198.51.100.1")
        self.router.route("2001:db8:a:1::/64", "via", "fd00:10::2")
        self.router.route("192.0.2.0/28", "via", "10.0.0.2")
        self.dispatcher.route("default", "via", "fd00:10::1")
        self.dispatcher.route("default", "via", "10.0.0.1")
        for name, address in SERVERS.items():
            web = name.startswith("web")
            host, gateway = self.servers[name], "fd00:10::1" if web else "fd00:20::1"
            link(host, near if web else far, a_addrs=[f"{address}/64"], a_name="eth0", b_name=name)
            host.route("default", "via", gateway)
            host.ip("-4", "route", "add", "default", "via", "inet6", gateway, "dev", "eth0")

    def _furnish(self, name: str, host: Host) -> None:
        """Set up the VIPs, a web server, a load agent, and a tunnel endpoint on remote servers."""
        host.ip("-6", "route", "add", "local", "2001:db8:a:1::/64", "dev", "lo")
        host.ip("-4", "route", "add", "local", "192.0.2.0/28", "dev", "lo")
        host.sysctl({"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0"})
        (self.folder / name).mkdir()
        self.agent(name, "up 100%\n")
        host.start(sys.executable, "-c", f"import os; os.chdir({str(self.folder / name)!r})\n{AGENT}")
        if name.startswith("tun"):
            host.start(sys.executable, "-c", DECAP)
            wait_until(lambda: "vip0" in host.ip("-o", "link"))
            host.ip("-4", "address", "add", "198.18.0.1/32", "dev", "lo")
        self.start_web(name)

    def start_web(self, name: str) -> None:
        """Start the web server of a host."""
        code = f"import os; os.chdir({str(self.folder / name)!r})\n{WEB.replace('NAME_HERE', repr(name.encode()))}"
        host = self.servers[name]
        self.web[name] = host.start(sys.executable, "-c", code)
        wait_until(lambda: host.run("curl", "-sf", "http://[::1]/who", check=False).stdout == name)

    def kill_web(self, name: str) -> None:
        """Kill the web server of a host."""
        self.web[name].kill()
        self.web[name].wait()

    def agent(self, name: str, line: str) -> None:
        """Set the answer of a host's load agent."""
        file = self.folder / name / "agent"
        file.with_suffix(".new").write_text(line)
        file.with_suffix(".new").replace(file)

    def address(self, tier: str, nonce: int = 0, client: int = 0) -> str:
        """An issued address."""
        active = read_snapshot(self.folder).keyrings["web"].active
        assert active
        values = {"tier": TIERS[tier], "client": client, "expiry": 127, "nonce": nonce}
        return str(IPv6Address(active[1].encode(values)))

    def curl(self, address: str, path: str = "who", *options: str) -> subprocess.CompletedProcess[str]:
        """A curl request from the client."""
        host = f"[{address}]" if ":" in address else address
        return self.client.run("curl", "-sS", "-m", "10", *options, f"http://{host}/{path}", check=False)

    def download(self, address: str) -> subprocess.Popen[str]:
        """A download that runs for a minute or until `finish`; it prints how much it received."""
        (self.folder / "finish").unlink(missing_ok=True)
        argv = self.client.command("curl", "-s", "-m", "60", "-o", "/dev/null", "-w", "%{size_download}",
                                   f"http://[{address}]/slow")  # fmt: skip
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def finish(self, *loads: subprocess.Popen[str]) -> list[int]:
        """Let downloads finish; return the bytes that each received."""
        (self.folder / "finish").touch()
        return [int(load.communicate(timeout=60)[0]) for load in loads]

    def who(self, address: str, count: int = 1) -> set[str]:
        """The servers that answer a number of requests."""
        return {self.curl(address).stdout for _ in range(count)}

    def dnsvip(self, *argv: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a dnsvip command on the dispatcher's host."""
        done = run_on(self.dispatcher, *argv, check=False)
        assert not ok or done.returncode == 0, (argv, done.stderr)
        return done

    def status(self) -> dict[str, Any]:
        """The dispatcher's status; empty while it does not answer."""
        code = (
            "import socket\ns = socket.socket(socket.AF_UNIX); s.connect('state/dispatch.sock')\n"
            's.sendall(b\'{"do": "status"}\\n\'); f = s.makefile(); next(f); print(next(f))\n'
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, check=False, capture_output=True, text=True
        )
        status: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return status

    def states(self, pool: str) -> dict[str, str]:
        """The states of a pool's servers, as the dispatcher uses them."""
        return {one["name"]: one["state"] for one in self.status().get("servers", []) if one["pool"] == pool}

    def weights(self, pool: str) -> dict[str, int]:
        """The weights of a pool's servers, as the dispatcher uses them."""
        return {one["name"]: one["weight"] for one in self.status().get("servers", []) if one["pool"] == pool}

    def count(self, reason: str) -> int:
        """One counter of the dispatcher."""
        counted: int = self.status()["counters"][reason]
        return counted

    def capture(self, host: Host, expression: str) -> Capture:
        """Capture packets on a host's eth0 (or the client's only link)."""
        return Capture(host, expression, self.folder / f"{host.name}-{time.monotonic_ns()}.pcap")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, patiently enough for a busy machine."""
        wait_until(condition, 30)
