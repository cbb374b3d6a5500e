"""A small world of hosts and cables: network namespaces, veth pairs and the programs run in them.

It promises that everything made is gone when its `with` block ends, also after an exception, SIGTERM
or SIGHUP, and that the machine's own network is never touched. It does not know what the hosts are for.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import FrameType, TracebackType
from typing import Self

from dnsvip.demo.privilege import Entrance, missing
from dnsvip.errors import DnsvipError

NAMESPACE = re.compile(r"^dnsvip-(?P<pid>\d+)-[0-9a-f]{4}-")
BRIDGE = "br0"
STOP_SECONDS = 3.0

QUIET_IPV6 = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}
"""Addresses count at once (no duplicate address detection), and nobody configures hosts but us."""

SET_SYSCTLS = 'for pair; do printf %s "${pair#*=}" > "/proc/sys/$(echo "${pair%%=*}" | tr . /)" || exit; done'
BIND_ETC = 'for f in "$1"/*; do mount --bind "$f" "/etc/${f##*/}" || exit; done; shift; exec "$@"'
"""Gives a host its own files in /etc; `ip netns exec` has made the mounts private already."""


class CommandFailed(DnsvipError):
    """A program in a host failed or took too long; the message holds its command line and what it said."""


@dataclass(frozen=True)
class Host:
    """One network namespace. Paths in commands are the machine's own: files are shared."""

    name: str
    namespace: str
    prefix: tuple[str, ...] = field(repr=False)
    bridge: str | None = None
    etc: Path | None = None
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False, compare=False)

    def run(
        self,
        *argv: str | Path,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - the name subprocess.run uses
        timeout: float = 30,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end (`timeout` in seconds). With `check`, raises CommandFailed unless it exits 0."""
        command = self.command(*argv)
        try:
            done = subprocess.run(
                command,
                input=input,
                timeout=timeout,
                env=_environment(env),
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise CommandFailed(f"{self.name}$ {shown(argv)}\nstill running after {timeout} s") from late
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise CommandFailed(f"{self.name}$ {shown(argv)}\nexit {done.returncode}: {said}")
        return done

    def start(
        self, *argv: str | Path, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program that is stopped when the world ends, if not before; its output goes to `log`."""
        with open(log or os.devnull, "ab") as output:
            process = subprocess.Popen(
                self.command(*argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(env),
                start_new_session=True,  # Ctrl-C is for us: we stop it in our own order
            )
        self._started.append(process)
        return process

    def command(self, *argv: str | Path) -> list[str]:
        """The command line that runs `argv` in this host, for a process of one's own."""
        words = [str(word) for word in argv]
        if self.etc:
            words = ["sh", "-c", BIND_ETC, "sh", str(self.etc), *words]
        return [*self.prefix, "ip", "netns", "exec", self.namespace, *words]

    def ip(self, *words: str) -> str:
        """Run `ip` on this host's network."""
        return _run([*self.prefix, "ip", "-n", self.namespace, *words])

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface addresses such as "2001:db8::1/64"; they can be used at once."""
        for address in addresses:
            self.ip("address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))

    def route(self, to: str, *words: str) -> None:
        """Add a route: `route("2001:db8::/32", "via", "fe80::1")`, `route("local 2001:db8::/64", "dev", "lo")`."""
        family = "-6" if ":" in f"{to} {' '.join(words)}" else "-4"
        self.ip(family, "route", "add", *to.split(), *words)

    def forwarding(self) -> None:
        """Make this host a router, IPv4 and IPv6."""
        self.sysctl({"net.ipv6.conf.all.forwarding": "1", "net.ipv4.ip_forward": "1"})

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Set kernel parameters of this host's network."""
        pairs = [f"{key}={value}" for key, value in settings.items()]
        self.run("sh", "-c", SET_SYSCTLS, "sh", *pairs)

    def stop(self) -> None:
        """Stop what was started here, politely first; the newest goes first."""
        for process in reversed(self._started):
            stop(process)
        self._started.clear()


class World:
    """Hosts and links of one run, in namespaces called dnsvip-PID-RANDOM-NAME.

    Raises PlatformError where the right to make namespaces is missing; `World.available` asks before.
    """

    def __init__(self) -> None:
        self.tag = f"dnsvip-{os.getpid()}-{secrets.token_hex(2)}"
        self.hosts: dict[str, Host] = {}
        self._exits = ExitStack()
        self._entrance = Entrance()
        self._etc: Path | None = None

    @staticmethod
    def available(*, tun: bool = True) -> str | None:
        """What this machine lacks for a world (and for a TUN device in it), None when nothing."""
        return missing(tun=tun)

    def __enter__(self) -> Self:
        self._exits.enter_context(_signals_as_exceptions())
        self._exits.enter_context(self._entrance)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._exits.close()

    @property
    def prefix(self) -> tuple[str, ...]:
        """What goes before `ip netns exec` in a shell of this machine; empty for root."""
        return self._entrance.prefix

    def host(self, name: str, *, etc: Mapping[str, str] | None = None) -> Host:
        """A new host with loopback up; `etc` gives it files of its own: {"resolv.conf": "nameserver ..."}."""
        return self._add(Host(name, f"{self.tag}-{name}", self.prefix, etc=self._write_etc(name, etc)))

    def switch(self, name: str) -> Host:
        """A new Ethernet switch: what is linked to it shares one segment."""
        made = self._add(Host(name, f"{self.tag}-{name}", self.prefix, bridge=BRIDGE))
        made.ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        made.ip("link", "set", BRIDGE, "up")
        return made

    def link(
        self,
        a: Host,
        b: Host,
        *,
        a_addrs: Sequence[str] = (),
        b_addrs: Sequence[str] = (),
        a_name: str | None = None,
        b_name: str | None = None,
        mtu: int = 1500,
    ) -> tuple[str, str]:
        """A cable between two hosts; the names of its ends, by default that of the host at the other end."""
        ends = (a_name or b.name[:15], b_name or a.name[:15])
        a.ip("link", "add", "name", ends[0], "type", "veth", "peer", "name", ends[1], "netns", b.namespace)
        for host, end, addresses in ((a, ends[0], a_addrs), (b, ends[1], b_addrs)):
            host.ip("link", "set", "dev", end, "mtu", str(mtu), *(["master", host.bridge] if host.bridge else []), "up")
            host.address(end, *addresses)
        return ends

    def _add(self, host: Host) -> Host:
        if host.name in self.hosts:
            raise ValueError(f"there is a host {host.name!r} already")
        self._exits.callback(_delete, host)
        self._exits.callback(host.stop)
        _run([*self.prefix, "ip", "netns", "add", host.namespace])
        self.hosts[host.name] = host
        host.ip("link", "set", "lo", "up")
        host.sysctl(QUIET_IPV6)
        return host

    def _write_etc(self, name: str, files: Mapping[str, str] | None) -> Path | None:
        if not files:
            return None
        if self._etc is None:
            self._etc = Path(mkdtemp(prefix=f"{self.tag}-"))
            self._exits.callback(rmtree, self._etc)
        folder = self._etc / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder


def stop(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> int:
    """Stop a started program by its pid and give its exit status; killed after `seconds`."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def sweep() -> list[str]:
    """Remove what runs that died by force left behind (root only); the namespaces removed."""
    if os.geteuid() != 0 or not Path("/run/netns").is_dir():
        return []  # anybody else's namespaces died with their run
    dead = [
        name
        for name in sorted(os.listdir("/run/netns"))
        if (match := NAMESPACE.match(name)) and not Path("/proc", match["pid"]).exists()
    ]
    for name in dead:
        for pid in _run(["ip", "netns", "pids", name]).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        _run(["ip", "netns", "delete", name])
    return dead


def shown(argv: Sequence[str | Path]) -> str:
    """A command line as one would type it."""
    return shlex.join(str(word) for word in argv)


def _delete(host: Host) -> None:
    """Remove a namespace; what still runs in it (a program's own children) goes first."""
    netns = (*host.prefix, "ip", "netns")
    found = subprocess.run([*netns, "pids", host.namespace], check=False, capture_output=True, text=True)
    for pid in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run([*netns, "delete", host.namespace], check=False, capture_output=True)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return {**os.environ, **extra} if extra else None


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise CommandFailed(f"{shown(command)}\nexit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that `with` blocks clean up; once, not while they do."""

    def leave(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)} if mine else {}
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
