"""What floods of questions do to a server with `[dns] xdp` and `require_cookies`, over veth: names in a zone of ours
that nobody has asked for, each from another forged source. Beside each flood, beside none, and beside as many packets
that are not for this machine, in the same round: questions that the kernel answers, made-up names with a valid cookie,
questions with an option that is the server's, and requests to the API. Before, how many of a flood the same server
answers without `xdp`; floods are to be ten times as many.

    python -m tests.bench.dns_floods [--rate N] [--rounds N]

The flood comes from the kernel itself (`programs/flood.bpf.c`), as that of `floods`. Everything runs on the processors
of one machine, the generator too: what a flood does to the API is judged by packets elsewhere, which take the generator
and the program's first test, and nothing of the server. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from typing import Any

from dnsvip.demo.host import Host, stop
from dnsvip.demo.kernel import face
from tests.bench.processes import cpu_seconds, prefer
from tests.bench.program import LEAST
from tests.bench.report import table
from tests.dns.hotpath.test_fastpath import opt, question
from tests.dns.io.xdp.kernel import packet
from tests.network.dispatching import wait_until
from tests.network.field import kernel_world
from tests.network.hosted import DNSVIP
from tests.network.test_dns_xdp import FOUR, NODE, Pair

RATE, SECONDS, ROUNDS, SOCKETS = 750_000, 4.0, 3, 100_000
SOURCES, ASKED, REQUESTED = 16_384, 400, 50
"""Forged sources; questions of each kind and requests a second."""
WAIT = 1.0
"""Seconds after which nobody waits for an answer."""
FLOODED = NODE.replace("xdp =", "require_cookies = true\nxdp =") + '[admin]\nlisten = "127.0.0.1:8053"\n'
ASKED_KINDS = ("known", "proven", "left")
CLIENT_COOKIE = b"\0\x0a\0\x08client  "
NSID = b"\0\3\0\0"
"""An option that the kernel does not know."""
LABEL = b"\2??"
"""Of a made-up name; the generator varies two bytes of it."""
COOKIE = b"\0\x0a\0\x18" + bytes(range(24))
"""With a server's part that is no server's."""
NONE, ELSEWHERE, FORGED = "none", "packets elsewhere", "random names, forged cookies"
KINDS: Mapping[str, bytes] = {
    NONE: b"",
    ELSEWHERE: b"",
    "random names": b"",
    FORGED: opt(COOKIE),
}
"""With what follows the question."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The flood's packets a second, percent answered of each kind of question, and milliseconds of requests to the
    API."""

    rate: float
    known: float
    proven: float
    left: float
    requests: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.requests)

    @property
    def p99(self) -> float:
        return sorted(self.requests)[len(self.requests) * 99 // 100]


def measure(
    rounds: int,
    rate: int,
    seconds: float = SECONDS,
    kinds: Sequence[str] = tuple(KINDS),
    *,
    also_sockets: bool = False,
) -> Mapping[str, Beside]:
    """The medians of each kind, with the requests of all rounds."""
    prefer(os.getpid())
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, kernel_world() as world:
        pair = Pair(world, Path(name))
        floods = prepared(pair, kinds)
        found: dict[str, list[Beside]] = {kind: [] for kind in kinds}
        if also_sockets:
            for kind in floods.keys() - {ELSEWHERE}:
                answers = by_sockets(pair, floods[kind])
                print(f"{kind}: on sockets {answers:,.0f} answers a second of a processor", flush=True)
        with _serving(pair):
            for _ in range(rounds):
                for kind in kinds:
                    found[kind].append(_beside(pair, floods.get(kind), rate, seconds))
    return {kind: _medians(some) for kind, some in found.items()}


def prepared(pair: Pair, kinds: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The words that have the generator send each kind; what is answered goes back to it."""
    pair.server.ip("route", "add", "198.18.0.0/15", "via", "192.0.2.7")
    pair.server.ip("neigh", "replace", "192.0.2.7", "dev", "eth0", "lladdr", _mac(pair.client))
    return {kind: _written(pair, kind, tail) for kind, tail in KINDS.items() if kind != NONE and kind in kinds}


@contextmanager
def flooding(
    pair: Pair, flood: tuple[str, ...], rate: int, seconds: float
) -> Iterator[Callable[[], Mapping[str, float]]]:
    """Flood while the context lasts, at most so long; what the generator says at its end."""
    words = ("-m", "tests.bench.floods", *flood, "--rate", str(rate), "--seconds", str(seconds))
    with _started(pair.client, *words) as running:
        yield lambda: _said(running)


def _medians(some: Sequence[Beside]) -> Beside:
    values: list[float] = [median(getattr(each, name) for each in some) for name in ("rate", *ASKED_KINDS)]
    return Beside(*values, [each for beside in some for each in beside.requests])


def _written(pair: Pair, kind: str, tail: bytes) -> tuple[str, ...]:
    """The words that have the generator send a kind: its heads, and what follows all of them."""
    macs = bytes.fromhex((_mac(pair.server) + _mac(pair.client)).replace(":", ""))
    if kind == ELSEWHERE:
        macs = macs[:5] + bytes((macs[5] ^ 1,)) + macs[6:]
    wire = question("??.example.test", 1, tail)
    frames = []
    for number in range(SOURCES):
        whole = macs + b"\x08\0" + packet(str(ip_address("198.18.0.0") + 8 * number), FOUR, wire)
        frames.append(whole[:40] + b"\0\0" + whole[42:])  # no checksum, as bytes are varied
    file = pair.folder / f"{kind.replace(' ', '-')}.heads"
    file.write_bytes(b"".join(frame[:LEAST].ljust(LEAST, b"\0") for frame in frames))
    vary = frames[0].index(LABEL) + 1
    return "--send", str(file), "--vary", str(vary), "--tail", frames[0][LEAST:].hex(), "--interface", "eth0"


@contextmanager
def _serving(pair: Pair, node: str = FLOODED) -> Iterator[subprocess.Popen[bytes]]:
    pair.node.write_text(node.replace("PINS", str(pair.pins)))
    token, log, before = pair.folder / "token", pair.folder / "serve.log", pair.log.count("ready")
    process = pair.process = pair.server.start(*DNSVIP, "serve", pair.node, "--token-file", token, log=log)
    prefer(process.pid)
    try:
        wait_until(lambda: pair.log.count("ready") > before and token.exists(), 60)
        if "xdp =" in node:
            pair.until_known(lambda: pair.dig("plain.example.test", "A", "+noedns"))
        yield process
    finally:
        stop(process)


def by_sockets(pair: Pair, flood: tuple[str, ...]) -> float:
    """How many questions of a flood the server answers without `xdp` in a second of one processor's time."""
    [without] = [FLOODED.replace(line, "") for line in FLOODED.splitlines(keepends=True) if line.startswith("xdp =")]
    face(pair.server, "eth0", pair.pins)  # has the device take the generator's packets
    with _serving(pair, without) as process, flooding(pair, flood, SOCKETS, SECONDS) as said:
        before, spent = pair.metrics()["responses"], cpu_seconds(process.pid)
        time.sleep(SECONDS / 2)
        answered, spent = pair.metrics()["responses"] - before, cpu_seconds(process.pid) - spent
        said()
    pair.server.ip("link", "set", "dev", "eth0", "xdp", "off")
    return answered / spent


def _beside(pair: Pair, flood: tuple[str, ...] | None, rate: int, seconds: float) -> Beside:
    here = ("-m", "tests.bench.dns_floods", "--seconds", str(seconds))
    with ExitStack() as stack:
        asking = stack.enter_context(_started(pair.client, *here, "--ask"))
        requesting = stack.enter_context(_started(pair.server, *here, "--request", str(pair.folder / "token")))
        said = None
        if flood is not None:
            said = stack.enter_context(flooding(pair, flood, rate, seconds + 2))
            time.sleep(0.5)
        for each in (asking, requesting):
            assert each.stdin
            each.stdin.write("begin\n")
            each.stdin.flush()
        asked, requested = _said(asking), _said(requesting)
        sent = said()["per_second"] if said else 0.0
    return Beside(sent, asked["known"], asked["proven"], asked["left"], requested["milliseconds"])


def _started(host: Host, *words: str) -> subprocess.Popen[str]:
    """A process that has said that it is ready."""
    command = host.command(sys.executable, *words)
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    running.stdout.readline()
    return running


def _said(running: subprocess.Popen[str]) -> dict[str, Any]:
    return dict(json.loads(running.communicate(timeout=60)[0]))


def ask(seconds: float) -> dict[str, float]:
    """Ask all kinds of questions in turn, ASKED of each a second; percent answered in time."""
    waiting: dict[bytes, tuple[str, float]] = {}
    answered, number, kinds = dict.fromkeys(ASKED_KINDS, 0), 0, len(ASKED_KINDS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((FOUR, 53))
        cookie = b"\0\x0a\0\x18" + _exchanged(sock, question("plain.example.test", 1, opt(CLIENT_COOKIE)))[-24:]
        print("ready", flush=True)
        sys.stdin.readline()
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + seconds + WAIT:
            while number < (now - begun) * kinds * ASKED and now < begun + seconds:
                id_, kind = number.to_bytes(2, "big"), ASKED_KINDS[number % kinds]
                name = f"n{number}-{begun:.0f}.example.test" if kind == "proven" else "plain.example.test"
                wire = question(name, 1, {"known": b"", "proven": opt(cookie), "left": opt(NSID)}[kind])
                sock.send(id_ + wire[2:])
                waiting[id_], number = (kind, now), number + 1
            while select.select([sock], [], [], 0.5 / ASKED)[0]:
                kind, at = waiting.pop(sock.recv(4096)[:2], ("", 0.0))
                if kind and time.monotonic() <= at + WAIT:
                    answered[kind] += 1
    return {kind: 100 * count / (number / kinds) for kind, count in answered.items()}


def _exchanged(sock: socket.socket, wire: bytes) -> bytes:
    sock.settimeout(WAIT)
    while True:
        sock.send(wire)
        with suppress(TimeoutError):
            return sock.recv(4096)


def request(seconds: float, token: str) -> dict[str, list[float]]:
    """Request from the API, REQUESTED times a second at most; milliseconds."""
    print("ready", flush=True)
    sys.stdin.readline()
    times, begun = list[float](), time.monotonic()
    connection = HTTPConnection("127.0.0.1", 8053, timeout=30)
    while time.monotonic() < begun + seconds:
        at = time.perf_counter()
        connection.request("GET", "/api/v1/clients", headers={"Authorization": f"Bearer {token}"})
        with connection.getresponse() as response:
            if response.status != 200:
                raise SystemExit(f"the API: {response.status}")
            response.read()
        times.append((time.perf_counter() - at) * 1000)
        time.sleep(max(begun + len(times) / REQUESTED - time.monotonic(), 0))
    return {"milliseconds": times}


def _mac(host: Host) -> str:
    return host.run("cat", "/sys/class/net/eth0/address").stdout.strip()


HEAD = ("beside", "packets/s", "known, %", "proven, %", "left, %", "API, median ms", "99th percentile")


def rows(found: Mapping[str, Beside]) -> Sequence[tuple[str, ...]]:
    """The rows of a table."""
    return [
        (
            kind,
            f"{each.rate:,.0f}",
            f"{each.known:.1f}",
            f"{each.proven:.1f}",
            f"{each.left:.1f}",
            f"{each.median:.1f}",
            f"{each.p99:.1f}",
        )
        for kind, each in found.items()
    ]


def main() -> None:
    """Measure and print; or ask, or request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=RATE, help="packets a second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of all kinds (%(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a window (%(default)s)")
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--request", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask or given.request:
        said = ask(given.seconds) if given.ask else request(given.seconds, given.request.read_text().strip())
        print(json.dumps(said))
        return
    for line in table(HEAD, rows(measure(given.rounds, given.rate, given.seconds, also_sockets=True))):
        print(line)


if __name__ == "__main__":
    main()
