"""The long-running programs of the demo, and how to tell that they are ready.

It promises that a program is ready when its function returns, or says what its log said.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dnsvip.demo.host import PATIENCE
from dnsvip.demo.netns import CommandFailed, Host
from dnsvip.demo.stage import until
from dnsvip.demo.topology import DELAY_MS, WIRE_ENDS, Hosts


def start_surroundings(hosts: Hosts, folder: Path) -> None:
    """Start what exists without dnsvip: the operator's web servers, the clients' resolver."""
    web = {host: _web(host, folder) for host in hosts.servers.values()}
    unbound = hosts.resolver.start("unbound", "-d", "-c", folder / "unbound.conf", log=folder / "unbound.log")
    for host, process in web.items():
        wait_ready(process, folder / f"{host.name}.log", partial(listens, host, "--tcp", 80))
    if hosts.wire is not None:
        _start_wire(hosts.wire, folder)
    wait_ready(unbound, folder / "unbound.log", partial(listens, hosts.resolver, "--udp", 53))


def start_web(host: Host, folder: Path) -> None:
    """Start the web server of a host again."""
    wait_ready(_web(host, folder), folder / f"{host.name}.log", partial(listens, host, "--tcp", 80))


def _web(host: Host, folder: Path) -> subprocess.Popen[bytes]:
    return host.start(sys.executable, "-m", "dnsvip.demo.webserver", host.name, log=folder / f"{host.name}.log")


def _start_wire(wire: Host, folder: Path) -> None:
    log = folder / "wire.log"
    argv = (sys.executable, "-m", "dnsvip.demo.delay_line", str(DELAY_MS), *WIRE_ENDS)
    process = wire.start(*argv, log=log)
    wait_ready(process, log, lambda: "passing" in log.read_text())


def wait_ready(
    process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool], *, seconds: float = PATIENCE
) -> None:
    """Wait until a started program is ready; raises CommandFailed with the end of its log if it is not in time."""
    try:
        until(ready, log.stem, seconds=seconds, process=process)
    except CommandFailed as error:
        raise CommandFailed(f"{error}; {log.name} says:\n{log.read_text()[-2000:]}") from None


def listens(host: Host, transport: str, port: int) -> bool:
    """Whether a program on a host listens on a port; `transport` is --tcp or --udp."""
    return bool(host.run("ss", "--no-header", "--listening", "--numeric", transport, f"sport = :{port}").stdout)
