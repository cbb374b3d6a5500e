"""A small world of hosts and cables: network namespaces, veth pairs and the programs run in them.

Everything it creates is gone when its `with` block ends, also after an exception, SIGTERM
or SIGHUP, and that the machine's own network is never touched. It does not know what the hosts are for.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import FrameType, TracebackType
from typing import Self

from dnsvip.demo.host import CommandFailed, Host, run_plain, shown, stop
from dnsvip.demo.privilege import Entrance, missing

NAMESPACE = re.compile(r"^dnsvip-(?P<pid>\d+)-[0-9a-f]{4}-")
BRIDGE = "br0"

QUIET_IPV6 = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}
"""Addresses are usable at once (no duplicate address detection), and no router advertisement configures hosts."""

__all__ = ["CommandFailed", "Host", "World", "shown", "stop", "sweep"]


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
        """What this machine lacks for a world (and for a TUN device in it), None where nothing."""
        return missing(tun=tun)

    def __enter__(self) -> Self:
        self._exits.enter_context(_signals_as_exceptions())
        self._exits.enter_context(self._entrance)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._exits.close()

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command prefix for `ip netns exec` in a shell of this machine; empty for root."""
        return self._entrance.prefix

    def at_end(self, clean: Callable[[], object]) -> None:
        """Call this when the world ends, after the hosts created from now on are gone."""
        self._exits.callback(clean)

    def host(self, name: str, *, etc: Mapping[str, str] | None = None) -> Host:
        """A new host with loopback up; `etc` gives it its own files: {"resolv.conf": "nameserver ..."}."""
        return self._add(Host(name, f"{self.tag}-{name}", self.prefix, etc=self._write_etc(name, etc)))

    def switch(self, name: str) -> Host:
        """A new Ethernet switch: hosts linked to it share one segment."""
        switch = self._add(Host(name, f"{self.tag}-{name}", self.prefix, bridge=BRIDGE))
        switch.ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        switch.ip("link", "set", BRIDGE, "up")
        return switch

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
        """A cable between two hosts; returns its interface names, by default the name of the host at the other end."""
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
        run_plain([*self.prefix, "ip", "netns", "add", host.namespace])
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


def sweep() -> list[str]:
    """Remove what killed runs left behind (root only); returns the removed namespaces."""
    if os.geteuid() != 0 or not Path("/run/netns").is_dir():
        return []  # other users' namespaces died with their run
    dead = [
        name
        for name in sorted(os.listdir("/run/netns"))
        if (match := NAMESPACE.match(name)) and not Path("/proc", match["pid"]).exists()
    ]
    for name in dead:
        _delete(Host(name, name, ()))
    return dead


def _delete(host: Host) -> None:
    """Remove a namespace, after killing what still runs in it (children of programs)."""
    netns = (*host.prefix, "ip", "netns")
    listing = subprocess.run([*netns, "pids", host.namespace], check=False, capture_output=True, text=True)
    for pid in listing.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run([*netns, "delete", host.namespace], check=False, capture_output=True)


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that `with` blocks clean up; once, not while they do."""

    def leave(number: int, frame: FrameType | None) -> None:
        for handled in before:
            signal.signal(handled, signal.SIG_IGN)
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
