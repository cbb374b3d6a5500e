"""A server on loopback with a site that has every behaviour, and dig and kdig to ask it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnsvip.dns.engine import Engine
from dnsvip.dns.io.gate import StreamLimits
from dnsvip.dns.io.listen import Endpoint
from dnsvip.dns.io.responder import Responder, Waiting
from dnsvip.dns.io.server import DnsServer
from dnsvip.site import Snapshot
from dnsvip.site.io.files import zone_files
from dnsvip.site.node_dns import DnsSettings, Listener
from dnsvip.site.site_file import build_site
from tests.samples import TABLES, snapshot_of

ZONES = Path(__file__).parent / "zones"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
KEY = f"hmac-sha256:acme-key:{SECRET}"

CHANGES: Mapping[str, Any] = {
    "zone": {
        "example.test": {"file": "example.test.zone"},
        "child.example.test": {"file": "child.example.test.zone"},
        "other.test": {"file": "other.test.zone"},
    },
    "service": {
        "www.example.test": {"cluster": "web", "cluster4": "legacy"},
        "hinted.example.test": {"cluster": "web"},
        "leaf.made.example.test": {"cluster": "web", "cluster4": "legacy"},
        "*.each.example.test": {"cluster": "web"},
        "other.test": {"cluster": "web"},
    },
    "tsig": {
        "acme-key": {"secret": SECRET},
        **{f"key-{n}": {"secret": SECRET, "algorithm": f"hmac-sha{n}"} for n in (1, 224, 384, 512)},
    },
    "client": {
        "acme": {
            "id": 1001,
            "tier": "gold",
            "match": [{"source": "2001:db8:77::/48"}, {"tsig": "acme-key"}, {"ecs": "198.51.100.0/24"}],
        },
        "newsreader": {"id": 1002, "tier": "standard", "match": [{"ecs": "2001:db8:203::/48"}]},
        "near": {"id": 1003, "tier": "gold", "match": [{"source": "127.0.0.3/32"}]},
        "six": {"id": 1004, "tier": "standard", "match": [{"listener": "six"}]},
    },
    "classify": {"trust_ecs_from": ["127.0.0.1/32", "::1/128"]},
}


def site_tables() -> dict[str, Any]:
    """The sample site's tables with this module's changes."""
    return {**deepcopy(dict(TABLES)), **deepcopy(dict(CHANGES))}


def world_snapshot() -> Snapshot:
    """The site and keys the tests ask about."""
    return snapshot_of(build_site(site_tables(), zone_files(ZONES)))


def who_is(snapshot: Snapshot, address: int, cluster: str = "web") -> dict[str, int]:
    """What an encoded VIP says, having checked its tag."""
    epoch = snapshot.keyrings[cluster].of(address)
    assert epoch
    _, codec = epoch
    assert codec.authentic(address)
    return codec.layout.unpack(codec.open(address))


def at_last(responder: Responder, answers: Sequence[bytes | None], later: Sequence[Waiting]) -> Sequence[bytes | None]:
    """The answers to a batch, with those that have to wait for their turn."""
    waited = {waiting.place: responder.answer(waiting) for waiting in later}
    return [waited.get(place, answer) for place, answer in enumerate(answers)]


class Running:
    """A DnsServer in a thread of its own, on free ports, while its `with` block lasts."""

    def __init__(
        self,
        snapshot: Snapshot,
        listen: tuple[Listener, ...] = (Listener("127.0.0.1:0", "public"), Listener("[::1]:0", "six")),
        limits: StreamLimits | None = None,
        settings: DnsSettings | None = None,
    ) -> None:
        self.snapshot = snapshot
        self._settings, self._limits = settings or DnsSettings(listen=listen), limits
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = DnsServer(self._settings, Engine(self.snapshot, listeners=self._settings.listen), self._limits)
        await self.server.start()
        self.endpoints: tuple[Endpoint, ...] = self.server.endpoints
        self._ready.set()
        await self._end.wait()
        await self.server.stop()

    @property
    def port(self) -> int:
        """Of the first listener."""
        return self.endpoints[0].port

    def in_loop(self, call: Callable[[], Any]) -> Any:
        """Run `call` in the server's thread and give its result."""

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        return dict(self.in_loop(self.server.counters))

    def dig(self, *args: str, listener: int = 0) -> Reply:
        """What dig shows."""
        endpoint = self.endpoints[listener]
        where = [f"@{endpoint.host}", "-p", str(endpoint.port)]
        return _run("dig", *where, "+tries=1", "+time=3", "+norec", *args)

    def kdig(self, *args: str, listener: int = 0) -> Reply:
        """What kdig shows."""
        endpoint = self.endpoints[listener]
        where = [f"@{endpoint.host}", "-p", str(endpoint.port)]
        return _run("kdig", *where, "+retry=0", "+time=3", "+norec", *args)


@dataclass(frozen=True)
class Reply:
    """A program's output, taken apart. Records are "owner ttl type data" in sorted order, single spaces."""

    text: str
    status: str = ""
    flags: frozenset[str] = frozenset()
    sections: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def answer(self) -> list[str]:
        return self.sections.get("ANSWER", [])

    @property
    def authority(self) -> list[str]:
        return self.sections.get("AUTHORITY", [])

    @property
    def additional(self) -> list[str]:
        return self.sections.get("ADDITIONAL", [])


def _run(*argv: str) -> Reply:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    return read_reply(done.stdout + done.stderr)


def read_reply(text: str) -> Reply:
    status = re.search(r"status: (\w+)", text)
    flags = re.search(r";; [fF]lags: ([a-z ]*)", text)
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if title := re.match(r";; (\w+)( PSEUDO)?[ -]?SECTION:?", line):
            current = sections.setdefault(title[1], []) if not title[2] else []
        elif line and not line.startswith(";"):
            owner, ttl, _, rtype, *data = line.split()
            current.append(" ".join([owner, ttl, rtype, *data]))
    return Reply(
        text,
        status[1] if status else "",
        frozenset(flags[1].split()) if flags else frozenset(),
        {name: sorted(lines) for name, lines in sections.items()},
    )
