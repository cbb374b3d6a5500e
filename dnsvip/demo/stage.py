"""What acts use: run a program on a host with its command line shown, watch packets, read a page.

It promises that every command and its output reach the report; what the output proves is for the acts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

from dnsvip.demo.netns import CommandFailed, Host, shown, stop
from dnsvip.demo.record import Ran
from dnsvip.demo.site import API
from dnsvip.demo.topology import Hosts

DNSVIP = Path(sys.executable).with_name("dnsvip")
DUMP = ("tcpdump", "-nn", "-l", "-t", "--immediate-mode", "-Z", "root", "-i")
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the demo's web servers: who answered, the client's address there, the address asked."""

    server: str
    client: IPv6Address
    asked: IPv6Address


@dataclass
class Capture:
    """Packets seen by one tcpdump; complete when its block has ended."""

    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """The hosts of the demo and the folder with its files, in which commands run."""

    hosts: Hosts
    folder: Path
    show: Callable[[Ran], None] = lambda ran: None

    def run(self, host: Host, *argv: str | Path, timeout: float = 30) -> str:
        """Run a program, show it, give its standard output. Its failure ends the act."""
        done = self.attempt(host, *argv, timeout=timeout)
        if done.returncode != 0:
            raise CommandFailed(f"`{_line(argv)}` on {host.name} ended with exit status {done.returncode}")
        return done.stdout

    def attempt(self, host: Host, *argv: str | Path, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a program that may fail, and show it."""
        done = host.run(*argv, check=False, timeout=timeout)
        self.show(Ran(host.name, _line(argv), (done.stdout + done.stderr).rstrip(), done.returncode))
        return done

    def start(self, host: Host, *argv: str | Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a program that runs on until the world ends, and show it."""
        self.show(Ran(host.name, f"{_line(argv)} &", "", None))
        return host.start(*argv, log=log)

    def shell(self, host: Host, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as it is shown, with our program on the PATH; it may fail."""
        path = {"PATH": f"{DNSVIP.parent}:{os.environ['PATH']}"}
        done = host.run("sh", "-c", line, check=False, env=path)
        self.show(Ran(host.name, line, (done.stdout + done.stderr).rstrip(), done.returncode))
        return done

    def api(self, method: str, path: str, body: str = "") -> None:
        """One request to the HTTP API with curl, from the dispatcher's host; its failure ends the act."""
        data = f" -H 'Content-Type: application/json' -d '{body}'" if body else ""
        bearer = '-H "Authorization: Bearer $(cat token)"'
        done = self.shell(
            self.hosts.dispatcher, f"curl -sS --fail-with-body -X {method} {bearer}{data} '{API}/api/v1/{path}'"
        )
        if done.returncode != 0:
            raise CommandFailed(f"the HTTP API refuses {method} {path}")

    def drops(self, reason: str) -> int:
        """How many packets the dispatcher has dropped for a reason, as `dnsvip status` shows it."""
        status = f"dnsvip status --api '{API}' --token-file token | grep {reason}"
        return sum(int(line.split()[-1]) for line in self.shell(self.hosts.dispatcher, status).stdout.splitlines())

    def ask(self, host: Host, name: str) -> IPv6Address | None:
        """Like `dig`, without showing it: for waiting."""
        try:
            return IPv6Address(host.run("dig", "+short", "AAAA", name, check=False).stdout.strip())
        except ValueError:
            return None

    def dig(self, host: Host, *words: str) -> IPv6Address:
        """Ask the host's resolver for the AAAA of a name with dig; raises CommandFailed without one."""
        answer = self.run(host, "dig", "+short", "AAAA", *words)
        try:
            return IPv6Address(answer.strip())
        except ValueError:
            raise CommandFailed(f"no single address for {shown(words)} on {host.name}") from None

    def page(self, host: Host, *argv: str | Path) -> Page:
        """What a curl, or a command around it, got from a web server."""
        lines = self.run(host, *argv).splitlines()
        if len(lines) != 3:
            raise CommandFailed(f"`{_line(argv)}` on {host.name} got no page of our web servers")
        return Page(lines[0], IPv6Address(lines[1].split()[-1]), IPv6Address(lines[2].split()[-1]))

    @contextmanager
    def capture(self, host: Host, interface: str, what: str) -> Iterator[Capture]:
        """Watch an interface with tcpdump while the block runs; shown with its packets when it ends."""
        argv, log = (*DUMP, interface, what), self.folder / f"tcpdump-{host.name}.log"
        log.unlink(missing_ok=True)
        process, capture = host.start(*argv, log=log), Capture()
        until(lambda: "listening on" in log.read_text(), f"tcpdump on {host.name}", process=process)
        try:
            yield capture
            time.sleep(0.2)  # the last packets are on their way to the file
        finally:
            stop(process)
        capture.lines = [line for line in log.read_text().splitlines() if " IP6 " in f" {line}"]
        self.show(Ran(host.name, _line(argv), "\n".join(capture.lines), 0))


def until(
    true: Callable[[], bool], what: str, *, seconds: float = 10, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for something to become true; raises CommandFailed when it does not, or when `process` ends first."""
    deadline = time.monotonic() + seconds
    while not true():
        if process is not None and process.poll() is not None:
            raise CommandFailed(f"{what} ended with status {process.returncode} before it was ready")
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what} not ready after {seconds} s")
        time.sleep(POLL_SECONDS)


def _line(argv: tuple[str | Path, ...]) -> str:
    """The command line as one would type it with our program on the PATH."""
    return shown(["dnsvip" if word == DNSVIP else word for word in argv])
