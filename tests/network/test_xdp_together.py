"""The DNS program and the dispatcher's on one interface: each comes, ends and leaves while the other loses nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.network.dispatching import wait_until
from tests.network.field import TRAFFIC, Field, kernel_world
from tests.network.hosted import run_on, start_on

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

FOUR, SIX = "10.0.0.2", "fd00:10::2"
DNS = f"""
[metrics]
listen = "127.0.0.1:9000"
[dns]
listen = [{{ name = "four", address = "{FOUR}:53" }}, {{ name = "six", address = "[{SIX}]:53" }}]
xdp = {{ interface = "eth0", pins = "PINS" }}
[dispatch]
"""
NAMES = """
[service."often.example.test"]
cluster = "web"
[zone."example.test"]
file = "zone"
"""
ZONE = '@ 60 SOA ns h 1 1 1 1 60\n@ 60 NS ns\nns 60 A 10.0.0.2\nversion 60 TXT "1"\n'


class Together(Field):
    """One host that answers questions and dispatches."""

    serving: subprocess.Popen[bytes]

    def node(self, name: str) -> str:
        return super().node(name).replace("[dispatch]\n", DNS.replace("PINS", f"{self.pins}/{name}"), 1)

    def site(self) -> str:
        (self.folder / "zone").write_text(ZONE)
        return super().site() + NAMES

    def serve_dns(self) -> None:
        """Start the server; return once the kernel answers."""
        before, host = self.log("serve").count("answering in the kernel"), self.dispatchers["d1"]
        self.serving = start_on(host, "serve", self.folder / "d1.toml", log=self.folder / "serve.log")
        wait_until(
            lambda: self.log("serve").count("answering in the kernel") > before or self.serving.poll() is not None, 60
        )
        assert self.serving.poll() is None, self.log("serve")
        wait_until(self.kernel_answers, 20)

    def kernel_answers(self) -> bool:
        """Ask, and return whether the kernel has answered."""
        before = self.answered()
        said = self.client.run(
            "dig", f"@{FOUR}", "+tries=1", "+time=5", "+noedns", "+short", "version.example.test", "TXT"
        )
        assert said.stdout == '"1"\n'
        return self.answered() > before

    def answered(self) -> int:
        text = self.dispatchers["d1"].run("curl", "-s", "http://127.0.0.1:9000/metrics").stdout
        found = re.search(r'dnsvip_dns_xdp_packets_total\{\w+="answered"\} (\S+)', text)
        return int(float(found[1])) if found else 0

    def xdp(self, *words: str) -> str:
        """What `dnsvip xdp` says."""
        return run_on(self.dispatchers["d1"], "xdp", *words, self.folder / "d1.toml", timeout=60).stdout

    def connects(self) -> bool:
        return bool(self.traffic("connect", "20", "5", self.address("direct"))["failed"] == 0)

    def pinned(self) -> list[Path]:
        return [path for path in (self.pins / "d1").rglob("*") if not path.is_dir()]

    def is_free(self) -> bool:
        """Whether nothing is attached or pinned."""
        return "xdp" not in self.dispatchers["d1"].ip("link", "show", "eth0") and not self.pinned()

    @contextmanager
    def questions(self) -> Iterator[None]:
        """Questions one after the other meanwhile, of which none is lost."""
        with self._meanwhile("asked", "-m", "tests.network.dns_asker", f"{FOUR},{SIX}", "example.test") as said:
            wait_until(lambda: "asking" in said(), 30)
            yield
        result = json.loads(said().splitlines()[-1])
        assert result["asked"] > 500
        assert (result["lost"], result["wrong"]) == (0, [])

    @contextmanager
    def connections(self) -> Iterator[None]:
        """Connections and downloads meanwhile, of which no packet is lost."""
        vip = self.address("direct")
        downloads = self.downloads(20, [vip])
        with self._meanwhile("paced", TRAFFIC, "pace", "100", "40", vip) as said:
            yield
            time.sleep(0.5)
            assert not said()
        result = json.loads(said())
        assert result["opened"] > 20
        assert (result["at_once"], result["failed"]) == (result["opened"], 0)
        assert downloads.finish()["harmed"] == {}

    @contextmanager
    def _meanwhile(self, name: str, *words: str | Path) -> Iterator[Callable[[], str]]:
        file = self.folder / name
        file.unlink(missing_ok=True)
        process = self.client.start(sys.executable, *words, log=file)
        yield lambda: file.read_text() if file.exists() else ""
        stop(process)


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    process.send_signal(number)
    process.wait(30)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    """A host where a dispatcher ran first and a server came; each test leaves both running."""
    with kernel_world() as world:
        made = Together(world, tmp_path_factory.mktemp("together"), ["xdp"], servers=2)
        made.dispatch("d1")
        with made.connections():
            made.serve_dns()
        yield made


def test_each_has_its_packets(host: Together) -> None:
    """The kernel answers dig, and dispatches the connections of curl."""
    for server in host.servers.values():
        server.start(sys.executable, "-m", "http.server", "8080", "--bind", "::", "--directory", host.folder)
        wait_until(lambda server=server: ":8080 " in server.run("ss", "-ltnH").stdout)  # type: ignore[misc]
    assert host.kernel_answers()
    before = host.status("d1")["counters"]["issued"]
    said = host.client.run("curl", "-s", "-m", "10", f"http://[{host.address('direct', nonce=3)}]:8080/zone").stdout
    assert said == ZONE
    assert host.status("d1")["counters"]["issued"] > before
    shown = host.xdp("status")
    assert "eth0: native, program dispatch" in shown
    assert re.search(r"behind program dns [0-9a-f]{16} \(\d+\) of \[dns\] xdp", shown)


def test_the_dispatcher_restarts(host: Together) -> None:
    """It ends, crashes and is replaced by another program while questions and flows go on."""
    node = host.folder / "d1.toml"
    with host.questions():
        downloads = host.downloads(20, [host.address("direct")])
        for number in (signal.SIGTERM, signal.SIGKILL):
            stop(host.processes["d1"], number)
            assert host.connects()
            if number == signal.SIGKILL:
                node.write_text(node.read_text().replace("flows = 20000", "flows = 40000"))
            host.dispatch("d1")
        assert host.log("d1").count("replaced the program") == 1
        assert host.connects()
        assert downloads.finish()["harmed"] == {}
    assert host.kernel_answers()


def test_the_server_restarts(host: Together) -> None:
    """It ends, comes, crashes and comes again while the dispatcher loses no packet."""
    with host.connections():
        stop(host.serving)
        assert "behind" not in host.xdp("status")
        host.serve_dns()
        stop(host.serving, signal.SIGKILL)
        assert "behind program dns" in host.xdp("status")
        host.serve_dns()
    assert not host.status("d1")["problems"]


def test_the_dispatcher_leaves_first(host: Together) -> None:
    """It is detached while the server answers; the last to leave frees the interface; then the server is first."""
    with host.questions():
        stop(host.processes["d1"])
        said = host.xdp("detach")
        assert "detached from eth0" in said
        assert "program dns" in said
    assert host.kernel_answers()
    assert "link" in {path.name for path in host.pinned()}
    stop(host.serving)
    assert host.is_free()
    host.serve_dns()
    with host.questions():
        host.dispatch("d1")
    assert host.connects()


def test_the_server_leaves_first(host: Together) -> None:
    """It crashes, and its program is detached while the dispatcher goes on; it may not come in another mode."""
    stop(host.serving, signal.SIGKILL)
    node = host.folder / "d1.toml"
    text = node.read_text()
    with host.connections():
        assert "the DNS program was detached from eth0" in host.xdp("detach", "--dns")
        assert "no DNS program was attached to eth0" in host.xdp("detach", "--dns")
        node.write_text(text.replace('xdp = { interface = "eth0"', 'xdp = { generic = true, interface = "eth0"'))
        node.write_text(node.read_text() + "generic = true\n")
        said = run_on(host.dispatchers["d1"], "serve", node, check=False, timeout=30).stderr
        assert "eth0 has program dispatch attached in the other mode" in said
        node.write_text(text)
    assert host.xdp("status").startswith("eth0: native, program dispatch")
    stop(host.processes["d1"])
    assert "detached from eth0" in host.xdp("detach")
    assert host.is_free()
