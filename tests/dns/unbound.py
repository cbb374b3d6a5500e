"""Unbound, a real resolver, in front of a server of ours."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query

CONFIG = """
server:
  interface: 127.0.0.1
  port: {port}
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  do-not-query-localhost: no
  module-config: "{modules}"
{settings}  local-zone: "test." nodefault
remote-control:
  control-enable: no
"""

STUB = """
stub-zone:
  name: "{zone}"
  stub-addr: 127.0.0.1@{upstream}
"""


def configuration(
    folder: Path, port: int, upstream: int, modules: str, settings: str, zones: Iterable[str] = ("example.test",)
) -> str:
    """That of an Unbound at `port` which asks a server of ours at the port `upstream` for some zones. `settings` are
    more lines of its section `server`."""
    stubs = [STUB.format(zone=zone, upstream=upstream) for zone in zones]
    return CONFIG.format(port=port, folder=folder, modules=modules, settings=settings) + "".join(stubs)


def subnets(v4: int, v6: int | None = None) -> str:
    """Settings that send client subnets of at most these lengths, whatever the cache has."""
    lengths = f"  max-client-subnet-ipv4: {v4}\n" + ("" if v6 is None else f"  max-client-subnet-ipv6: {v6}\n")
    always = '  client-subnet-zone: "example.test"\n  client-subnet-always-forward: yes\n'
    return f"{always}{lengths}  qname-minimisation: no\n"


@contextmanager
def run_unbound(folder: Path, port: int, configuration: str, name: str, rtype: str) -> Iterator[Path]:
    """Runs Unbound with `configuration`, which has it listen at `port`; yields its log once it answers the question."""
    file, log = folder / "unbound.conf", folder / "log"
    file.write_text(configuration)
    with log.open("w") as output:
        process = subprocess.Popen(["unbound", "-d", "-c", str(file)], stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 60
            while not _answers(port, name, rtype):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
            yield log
        finally:
            process.terminate()
            process.wait(30)


def _answers(port: int, name: str, rtype: str) -> bool:
    try:
        return bool(dns.query.udp(dns.message.make_query(name, rtype), "127.0.0.1", 1, port).answer)
    except (dns.exception.Timeout, OSError):
        time.sleep(0.05)
        return False
