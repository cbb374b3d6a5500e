"""The programs of the demo that run on: web servers, resolver, DNS with API, dispatcher.

It promises that each is ready when its function returns, or says what its log said.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dnsvip.demo.netns import CommandFailed, Host
from dnsvip.demo.stage import until
from dnsvip.demo.topology import Hosts


def start_surroundings(hosts: Hosts, folder: Path) -> None:
    """Start what is there without us: the operator's web servers, the clients' resolver."""
    web = {
        host: start(host, folder / f"{name}.log", sys.executable, "-m", "dnsvip.demo.webserver", name)
        for name, host in hosts.servers.items()
    }
    unbound = start(hosts.resolver, folder / "unbound.log", "unbound", "-d", "-c", folder / "unbound.conf")
    for host, process in web.items():
        ready(host, process, folder / f"{host.name}.log", tcp=80)
    ready(hosts.resolver, unbound, folder / "unbound.log", udp=53)


def start(host: Host, log: Path, *argv: str | Path) -> subprocess.Popen[bytes]:
    """Start a program that runs until the world ends."""
    return host.start(*argv, log=log)


def ready(host: Host, process: subprocess.Popen[bytes], log: Path, *, tcp: int = 0, udp: int = 0) -> None:
    """Wait until a started program listens on its ports; raises CommandFailed with its log when it does not."""
    wanted = [("--tcp", tcp)] * bool(tcp) + [("--udp", udp)] * bool(udp)
    try:
        until(lambda: all(_listens(host, *one) for one in wanted), f"{log.stem} on {host.name}", process=process)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; {log.name} says:\n{log.read_text()[-2000:]}") from None


def _listens(host: Host, transport: str, port: int) -> bool:
    listed = host.run("ss", "--no-header", "--listening", "--numeric", transport, f"sport = :{port}")
    return bool(listed.stdout)
