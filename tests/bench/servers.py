"""The servers of the bench, each in its own folder on a free loopback port with one worker, running during its `with`.

Their configurations are in peers/*; this module fills in the templates, starts each server, and checks its answers
before anything is measured.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from string import Template

from dns.message import from_wire
from dns.rdatatype import AAAA

from tests.bench.processes import family
from tests.bench.questions import FIRST_KNOWN, FIRST_NEW, KNOWN, plain, with_ecs
from tests.ports import free_port

TEMPLATES = Path(__file__).parent / "peers"
DATACENTERS = 250
"""gdnsd's limit is 254 a map."""

STOP_SECONDS = 5.0
NET = "2001:db8:a:1::"
_VIEW = f"{{{{'10.0.0.0/9'}},{{'{NET}2'}}}}, {{{{'10.128.0.0/9'}},{{'{NET}3'}}}}, {{{{'0.0.0.0/0'}},{{'{NET}1'}}}}"


class BenchError(Exception):
    """The bench cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to run a server.

    `files` maps each file to its template; `prefix` formats one known prefix. `prepare` are commands to run
    before `argv`. Words in both may hold $dir and $port. `service` is its zone's line for the queried name.
    `by_prefix`: whether different prefixes get different answers.
    """

    name: str
    text: str
    package: str
    argv: tuple[str, ...]
    files: Mapping[str, str]
    service: str = f"www 60 AAAA {NET}1"
    by_prefix: bool = True
    prefix: Callable[[int, str], str] = lambda _number, _network: ""
    prepare: tuple[tuple[str, ...], ...] = ()
    wait: float = 30.0
    values: Mapping[str, str] = field(default_factory=dict)


_DNSVIP = (sys.executable, "-m", "dnsvip")
OURS = Recipe(
    "dnsvip",
    "10,000 clients, an encoded address each",
    "",
    (*_DNSVIP, "serve", "$dir/node.toml"),
    {"site.toml": "site.toml", "node.toml": "node.toml", "zone": "example.test.zone"},
    service="",
    prefix=lambda number, network: (
        f'[client.c{number}]\nid = {number + 1}\ntier = "gold"\nmatch = [{{ ecs = "{network}" }}]'
    ),
    prepare=((*_DNSVIP, "apply", "$dir/site.toml", "--config", "$dir/node.toml"),),
)
PEERS = (
    Recipe(
        "knot",
        "geoip module, 10,000 prefixes",
        "knot knot-module-geoip",
        ("knotd", "-c", "$dir/knot.conf"),
        {"knot.conf": "knot.conf", "prefixes.conf": "knot-prefixes.conf", "zone": "example.test.zone"},
        prefix=lambda number, network: f"  - net: {network}\n    AAAA: {NET}{number + 2:x}",
    ),
    Recipe(
        "pdns",
        "LUA view(), 3 prefixes",
        "pdns-server pdns-backend-bind",
        ("pdns_server", "--config-dir=$dir"),
        {"pdns.conf": "pdns.conf", "zones.conf": "pdns-zones.conf", "zone": "example.test.zone"},
        service=f'www 60 LUA AAAA "view({{ {_VIEW} }})"',
    ),
    Recipe(
        "gdnsd",
        f"geoip plugin, 10,000 prefixes to {DATACENTERS} answers",
        "gdnsd",
        ("gdnsd", "-c", "$dir", "start"),
        {"config": "gdnsd.config", "nets": "gdnsd-nets", "zones/example.test": "example.test.zone"},
        service="www 60 DYNA geoip!www",
        prefix=lambda number, network: f"{network} => d{number % (DATACENTERS - 1) + 1}",
        values={
            "datacenters": ", ".join(f"d{n}" for n in range(DATACENTERS)),
            "addresses": ", ".join(f"d{n} => {NET}{n + 1:x}" for n in range(DATACENTERS)),
        },
    ),
    Recipe(
        "nsd",
        "the same for all",
        "nsd",
        ("nsd", "-d", "-c", "$dir/nsd.conf"),
        {"nsd.conf": "nsd.conf", "zone": "example.test.zone"},
        by_prefix=False,
    ),
    Recipe(
        "bind",
        "the same for all",
        "bind9",
        ("named", "-f", "-n", "1", "-c", "$dir/named.conf"),
        {"named.conf": "named.conf", "zone": "example.test.zone"},
        by_prefix=False,
    ),
)


def missing_packages() -> list[str]:
    """The Debian packages whose programs are missing here."""
    return [recipe.package for recipe in PEERS if shutil.which(recipe.argv[0]) is None]


class Server:
    """A server during its `with` block: started, checked, and stopped with all its children."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.name, self.port = recipe, recipe.name, free_port()
        self._dir = folder / recipe.name
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self._write()
        for words in self.recipe.prepare:
            subprocess.run(self._fill(words), check=True, stdout=subprocess.DEVNULL)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._fill(self.recipe.argv), stdout=log, stderr=log)
        try:
            self._await_answer()
            self._check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in family(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """The pid of the first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self._dir / "log"

    def _fill(self, words: tuple[str, ...]) -> list[str]:
        return [Template(word).substitute(dir=self._dir, port=self.port) for word in words]

    def _write(self) -> None:
        recipe = self.recipe
        networks = (f"{IPv4Address(FIRST_KNOWN + (n << 8))}/24" for n in range(KNOWN))
        values = {
            "dir": str(self._dir),
            "port": str(self.port),
            "service": recipe.service,
            "zone_settings": "",
            "layout": '["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]',
            "prefixes": "\n".join(recipe.prefix(number, network) for number, network in enumerate(networks)),
            **recipe.values,
        }
        for name, template in recipe.files.items():
            path = self._dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template((TEMPLATES / template).read_text()).substitute(values))
        for name in ("db", "run", "state"):
            (self._dir / name).mkdir(parents=True, exist_ok=True)

    def _await_answer(self) -> None:
        until = time.monotonic() + self.recipe.wait
        while ask_once(self.port, plain()) is None:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"{self.name} does not answer; it says:\n{self._log.read_text()[-2000:]}")

    def _check(self) -> None:
        """Check that it answers with an address, and with different ones if `by_prefix`."""
        answers = [
            self._address(question) for question in (plain(), with_ecs(FIRST_KNOWN, 24), with_ecs(FIRST_NEW, 32))
        ]
        if (answers[1] != answers[2]) != self.recipe.by_prefix:
            raise BenchError(f"{self.name} does not answer as it is meant to: {answers}")

    def _address(self, question: bytes) -> str:
        wire = ask_once(self.port, question)
        addresses = (
            [str(rdata) for rrset in from_wire(wire).answer for rdata in rrset if rdata.rdtype == AAAA] if wire else []
        )
        if len(addresses) != 1:
            raise BenchError(f"{self.name} gives {len(addresses)} addresses where it should give one")
        return addresses[0]


def ask_once(port: int, question: bytes, seconds: float = 0.2) -> bytes | None:
    """The answer to one query, or None on timeout."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(question)
            return sock.recv(65535)
        except ConnectionRefusedError:
            time.sleep(0.05)
            return None
        except TimeoutError:
            return None
