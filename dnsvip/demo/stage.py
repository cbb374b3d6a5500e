"""The acts' tools: run a program on a host and show its command line, capture packets, read a page.

Every command and its output reach the report; the acts decide what the output proves.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from dnsvip.demo.capture import Capture, watch_for
from dnsvip.demo.host import PATIENCE
from dnsvip.demo.netns import CommandFailed, Host, shown, stop
from dnsvip.demo.record import Ran
from dnsvip.demo.scripts import BIN
from dnsvip.demo.site import API
from dnsvip.demo.topology import Hosts

BEARER = '-H "Authorization: Bearer $(cat token)"'
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the demo's web servers: who answered, the client's address there, the address asked."""

    server: str
    client: IPv6Address
    asked: IPv6Address


@dataclass(frozen=True)
class Stage:
    """The hosts of the demo, and the folder with its files, in which commands run. `show` receives each command.
    With `xdp` the dispatchers are in the kernel."""

    hosts: Hosts
    folder: Path
    show: Callable[[Ran], None]
    xdp: bool = False
    figure: Callable[[str, Any], None] = lambda _name, _value: None
    """Receives what was measured, by its name."""

    def run(self, host: Host, *argv: str, timeout: float = PATIENCE) -> str:
        """Run a program, show it, return its standard output. A failure ends the act."""
        done = self.attempt(host, *argv, timeout=timeout)
        if done.returncode != 0:
            raise CommandFailed(f"`{shown(argv)}` on {host.name} ended with exit status {done.returncode}")
        return done.stdout

    def attempt(self, host: Host, *argv: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a program that may fail, and show it."""
        done = host.run(*argv, check=False, timeout=timeout, env=self._environment)
        self.show(Ran(host.name, shown(argv), (done.stdout + done.stderr).rstrip(), done.returncode))
        return done

    def shell(self, host: Host, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell, which may fail, and show it verbatim."""
        done = host.run("sh", "-c", line, check=False, env=self._environment)
        self.show(Ran(host.name, line, (done.stdout + done.stderr).rstrip(), done.returncode))
        return done

    def start(self, host: Host, *argv: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a long-running program, which ends with the world at the latest, and show it."""
        self.show(Ran(host.name, f"{shown(argv)} &", "", None))
        return host.start(*argv, log=log, env=self._environment)

    def dig(self, host: Host, name: str) -> IPv6Address:
        """Ask the host's resolver for the AAAA of a name with dig; raises CommandFailed without one."""
        answer = self.run(host, "dig", "+short", "AAAA", name)
        try:
            return IPv6Address(answer.strip())
        except ValueError:
            raise CommandFailed(f"no single address for {name} on {host.name}") from None

    def ask(self, host: Host, name: str) -> IPv6Address | None:
        """Like `dig`, without showing it: for waiting."""
        try:
            return IPv6Address(host.run("dig", "+short", "AAAA", name, check=False).stdout.strip())
        except ValueError:
            return None

    def page(self, host: Host, *argv: str) -> Page:
        """What curl, or a command around it, got from a web server."""
        lines = self.run(host, *argv).splitlines()
        if len(lines) != 3:
            raise CommandFailed(f"`{shown(argv)}` on {host.name} got no page of our web servers")
        return Page(lines[0], IPv6Address(lines[1].split()[-1]), IPv6Address(lines[2].split()[-1]))

    def api(self, method: str, path: str, body: str = "") -> None:
        """One request to the HTTP API with curl, from the dispatcher's host; its failure ends the act."""
        data = f" -H 'Content-Type: application/json' -d '{body}'" if body else ""
        line = f"curl -sS --fail-with-body -X {method} {BEARER}{data} '{API}/api/v1/{path}'"
        if self.shell(self.hosts.dispatcher, line).returncode != 0:
            raise CommandFailed(f"the HTTP API refuses {method} {path}")

    def status(self) -> Any:
        """The status from the HTTP API, without showing it: for waiting and comparing."""
        return json.loads(self.hosts.dispatcher.run("sh", "-c", f"curl -sS {BEARER} '{API}/api/v1/status'").stdout)

    def counted(self, reason: str) -> int:
        """How many packets the dispatcher has counted under a reason, as `dnsvip status` shows it."""
        status = f"dnsvip status --api '{API}' --token-file token | grep 'counters.{reason}[[:blank:]]'"
        return sum(int(line.split()[-1]) for line in self.shell(self.hosts.dispatcher, status).stdout.splitlines())

    def settle(self) -> None:
        """Wait until every node has reported the newest generation."""

        def settled() -> bool:
            status = self.status()
            return status["dispatcher"] is not None and all(node["behind"] == 0 for node in status["nodes"])

        until(settled, "all nodes up to date")

    @contextmanager
    def capture(self, host: Host, interface: str, prefix: IPv6Network) -> Iterator[Capture]:
        """Capture TCP packets of a prefix on an interface while the block runs; they are shown when it ends."""
        watch, capture = watch_for(host, interface, prefix), Capture()
        log = self.folder / watch.log
        log.unlink(missing_ok=True)  # of a capture before
        process = self.start(host, *watch.start, log=log)
        until(lambda: "listening on" in log.read_text(), f"tcpdump on {host.name}", process=process)
        try:
            yield capture
            time.sleep(0.2)  # the last packets are on their way to the file
        finally:
            stop(process)
        capture.lines = self.shell(host, watch.read).stdout.splitlines()

    @property
    def _environment(self) -> Mapping[str, str]:
        return {"PATH": f"{self.folder / BIN}:{os.environ['PATH']}"}


def until(
    true: Callable[[], bool], what: str, *, seconds: float = PATIENCE, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for a condition; raises CommandFailed if it does not hold in time, or if `process` ends first."""
    deadline = time.monotonic() + seconds
    while not true():
        if process is not None and process.poll() is not None:
            raise CommandFailed(f"{what}: ended with exit status {process.returncode} before it was ready")
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what}: not ready after {seconds} s")
        time.sleep(POLL_SECONDS)
