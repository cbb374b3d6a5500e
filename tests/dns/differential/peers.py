"""NSD, Knot, BIND and this package's server, each with the same zones on a loopback port of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path

from dnsvip.dns.engine import Engine
from dnsvip.dns.io.server import DnsServer
from dnsvip.site import Site, Snapshot, Zone
from dnsvip.site.node_dns import DnsSettings, Listener
from tests.ports import free_port

START_SECONDS = 15.0


class Peer(AbstractContextManager["Peer"]):
    """A server program with configuration and zones in `folder`; runs while its `with` block lasts."""

    def __init__(self, folder: Path, zones: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder, self.port = folder, free_port()
        self.files = {name: folder / f"{number}.zone" for number, name in enumerate(zones)}
        for name, file in self.files.items():
            file.write_text(zones[name])
        (folder / "conf").write_text(self.configuration())

    def __enter__(self) -> Peer:
        self.log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, cwd=self.folder)
        until = time.monotonic() + START_SECONDS
        while not self.ready():
            if time.monotonic() > until or self.process.poll() is not None:
                self.__exit__()
                raise RuntimeError(f"{self.command()[0]} does not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()

    def ready(self) -> bool:
        """Whether it takes connections, all zones loaded."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def configuration(self) -> str:
        raise NotImplementedError


class Nsd(Peer):
    """NSD as Debian packages it, with minimal responses."""

    def command(self) -> Sequence[str]:
        return ["/usr/sbin/nsd", "-d", "-c", str(self.folder / "conf")]

    def configuration(self) -> str:
        user = pwd.getpwuid(os.getuid()).pw_name
        lines = [
            "server:",
            f'  ip-address: 127.0.0.1@{self.port}\n  username: "{user}"\n  zonesdir: "{self.folder}"',
            '  database: ""\n  zonelistfile: "zonelist"\n  pidfile: "pid"\n  xfrdfile: "xfrd"',
            f'  xfrdir: "{self.folder}"',
            "  verbosity: 1\n  server-count: 1\n  minimal-responses: yes\n  refuse-any: no\n  round-robin: no",
            "  hide-version: yes\n  hide-identity: yes\n  tcp-query-count: 0\n  rrl-ratelimit: 0",
            "remote-control:\n  control-enable: no",
        ]
        lines += [f'zone:\n  name: "{name}"\n  zonefile: "{file}"' for name, file in self.files.items()]
        return "\n".join(lines) + "\n"


class Knot(Peer):
    """Knot DNS as Debian packages it."""

    def command(self) -> Sequence[str]:
        return ["/usr/sbin/knotd", "-c", str(self.folder / "conf")]

    def configuration(self) -> str:
        lines = [
            f'server:\n  rundir: "{self.folder}"\n  listen: 127.0.0.1@{self.port}',
            "  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  tcp-idle-timeout: 60",
            f'database:\n  storage: "{self.folder}"',
            "log:\n  - target: stderr\n    any: warning",
            f'template:\n  - id: default\n    storage: "{self.folder}"\n    journal-content: none',
            "    zonefile-load: whole\n    zonefile-sync: -1\n    semantic-checks: off",
            "zone:",
        ]
        lines += [f'  - domain: "{_doubled(name)}"\n    file: "{file}"' for name, file in self.files.items()]
        return "\n".join(lines) + "\n"


class Bind(Peer):
    """BIND as Debian packages it, with minimal responses."""

    def command(self) -> Sequence[str]:
        return ["/usr/sbin/named", "-g", "-n", "1", "-c", str(self.folder / "conf")]

    def ready(self) -> bool:
        return super().ready() and "all zones loaded" in (self.folder / "log").read_text()

    def configuration(self) -> str:
        lines = [
            f'options {{ directory "{self.folder}"; pid-file none; session-keyfile none; managed-keys-directory ".";',
            f"  listen-on port {self.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};",
            "  recursion no; dnssec-validation no; empty-zones-enable no; notify no; answer-cookie no;",
            "  minimal-responses yes; minimal-any no; max-udp-size 1232; zero-no-soa-ttl no; max-records-per-type 0;",
            "  check-names primary ignore; check-integrity no; check-mx ignore; check-srv-cname ignore; };",
            "controls { };",
        ]
        lines += [f'zone "{name}" {{ type primary; file "{file}"; }};' for name, file in self.files.items()]
        return "\n".join(lines) + "\n"


def _doubled(name: str) -> str:
    return name.replace("\\", "\\\\")


class Ours(AbstractContextManager["Ours"]):
    """This package's DNS server in a process."""

    def __init__(self, zones: Mapping[str, str]) -> None:
        self.zones = dict(zones)

    def __enter__(self) -> Ours:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self.process = context.Process(target=_run, args=(self.zones, there), daemon=True)
        self.process.start()
        if not here.poll(START_SECONDS):
            self.__exit__()
            raise RuntimeError("our server does not start")
        answer = here.recv()
        if not isinstance(answer, int):
            self.__exit__()
            raise RuntimeError(str(answer))
        self.port = answer
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join(10)


def _run(zones: Mapping[str, str], pipe: Connection) -> None:
    asyncio.run(_serve(zones, pipe))


async def _serve(zones: Mapping[str, str], pipe: Connection) -> None:
    site = Site(zones={name: Zone(name, text) for name, text in zones.items()})
    engine = Engine(Snapshot(1, site, {}, {}))
    if engine.problems:
        pipe.send("; ".join(f"{problem.where}: {problem.message}" for problem in engine.problems))
        return
    server = DnsServer(DnsSettings(listen=(Listener("127.0.0.1:0", "public"),)), engine)
    await server.start()
    pipe.send(server.endpoints[0].port)
    await asyncio.Event().wait()
