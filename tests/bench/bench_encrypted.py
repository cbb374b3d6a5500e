"""Encrypted DNS beside BIND: CPU a query over kept connections, CPU a new connection, memory of idle connections.

    python -m tests.bench.bench_encrypted [--quick] [--json FILE] [--record]

Both servers have one worker, the same zone and the same certificate (ECDSA P-256), and answer one question over and
over: what is measured is the transport. dnsperf keeps 100 connections; new ones are those of two `openssl s_time`, so
that the server always has one waiting. CPU is that of the server's process, by the scheduler. DNS over QUIC, which BIND
has not, is asked by `quic_load`. It takes three and a half minutes on an idle machine.
"""

from __future__ import annotations

import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.outcome import Result, conclude, parser_of, say
from tests.bench.processes import cpu_seconds, memory_bytes
from tests.bench.report import machine, table
from tests.dns.differential.peers import Bind
from tests.dns.io.tls_world import NAME, Authority
from tests.memory_tls import shaken
from tests.ports import free_port

PAGE = "encrypted.md"

CONNECTIONS, NEW = 100, 2
"""Connections that are kept, and clients that open others."""

IDLE, IDLE_OF_BIND = 10_000, 2_000
"""Idle connections: those that must be held, and enough of them to see what one takes."""

LONGEST = 20
"""Seconds after which a server does not answer at all."""

OPENERS = 4
"""Threads that open them: a handshake is the client's work as much as the server's."""

ZONE = "@ 300 SOA ns hostmaster 1 3600 600 86400 60\n@ 300 NS ns\nns 300 A 192.0.2.1\nwww 300 AAAA 2001:db8::1\n"
NODE = """database = "sqlite:///bench.db"
[[dns.listen]]
address = "tls://127.0.0.1:{dot}"
name = "dot"
[[dns.listen]]
address = "https://127.0.0.1:{doh}"
name = "doh"
http3 = false
[[dns.listen]]
address = "quic://127.0.0.1:{dot}"
name = "doq"
[dns.tls]
certificate = "{certificate}.pem"
key = "{certificate}.key"
[dns.tcp]
connections = 20000
per_source = 20000
idle_seconds = 600
"""
_RATE = re.compile(r"(\d+\.\d+): (\d+\.\d+)")
SITE = '[zone."bench.test"]\nfile = "bench.test.zone"\n'


@dataclass(frozen=True)
class Server:
    """A running server: its process and its ports."""

    name: str
    pid: int
    dot: int
    doh: int


class EncryptedBind(Bind):
    """BIND with listeners for DoT and DoH."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        self.certificate, self.dot, self.doh = certificate, free_port(), free_port()
        super().__init__(folder, {"bench.test": f"$ORIGIN bench.test.\n{ZONE}"})

    def configuration(self) -> str:
        own = f'tls own {{ cert-file "{self.certificate}.pem"; key-file "{self.certificate}.key"; }};\n'
        more = f"  listen-on port {self.dot} tls own {{ 127.0.0.1; }};\n"
        more += f"  listen-on port {self.doh} tls own http default {{ 127.0.0.1; }};\n"
        more += (
            "  tcp-clients 20000; tcp-idle-timeout 1200; tcp-keepalive-timeout 1200;\n  http-listener-clients 20000;\n"
        )
        text = super().configuration()
        return own + text.replace("  recursion no;", f"{more}  recursion no;", 1)


@contextmanager
def bind(folder: Path, certificate: Path) -> Iterator[Server]:
    with EncryptedBind(folder / "bind", certificate) as running:
        yield Server("bind", running.process.pid, running.dot, running.doh)  # type: ignore[attr-defined]


@contextmanager
def ours(folder: Path, certificate: Path) -> Iterator[Server]:
    own, dot, doh = folder / "dnsvip", free_port(), free_port()
    own.mkdir()
    (own / "node.toml").write_text(NODE.format(dot=dot, doh=doh, certificate=certificate))
    (own / "site.toml").write_text(SITE)
    (own / "bench.test.zone").write_text(ZONE)
    program = [sys.executable, "-m", "dnsvip"]
    subprocess.run(
        [*program, "apply", own / "site.toml", "--config", own / "node.toml"], check=True, capture_output=True
    )
    with (
        (own / "log").open("w") as log,
        subprocess.Popen([*program, "serve", own / "node.toml"], stderr=log) as process,
    ):
        try:
            until = time.monotonic() + 30
            while " ready " not in (own / "log").read_text():
                assert time.monotonic() < until, (own / "log").read_text()
                time.sleep(0.1)
            yield Server("dnsvip", process.pid, dot, doh)
        finally:
            process.terminate()
            process.wait(10)


def query_us(server: Server, mode: str, folder: Path, seconds: float) -> float:
    """CPU of one query over kept connections, in microseconds, from when all are open: dnsperf says twice a second how
    many queries a second there were."""
    questions = folder / "questions"
    questions.write_text("www.bench.test AAAA\n")
    port = server.dot if mode == "dot" else server.doh
    argv = ["dnsperf", "-m", mode[:3], "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-c", str(CONNECTIONS)]
    argv += ["-O", "doh-method=POST"] if mode == "doh post" else []
    seen: list[tuple[float, float, float]] = []  # when, queries since the time before, CPU until then
    with subprocess.Popen(
        [*argv, "-l", str(seconds), "-q", "200", "-S", "0.5"], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        for line in run.stdout:
            if rate := _RATE.fullmatch(line.strip()):
                at = float(rate[1])
                asked = float(rate[2]) * (at - seen[-1][0]) if seen else 0.0
                if not asked and len(seen) < 2:
                    seen = []  # connections are still being opened
                seen.append((at, asked, cpu_seconds(server.pid)))
    answered = sum(asked for _, asked, _ in seen[2:])
    if not answered and seconds < LONGEST:  # the machine has other things to do
        return query_us(server, mode, folder, 2 * seconds)
    return (seen[-1][2] - seen[1][2]) / answered * 1e6


def handshake_us(server: Server, seconds: int) -> float:
    """CPU of one new connection, in microseconds."""
    argv = ["openssl", "s_time", "-connect", f"127.0.0.1:{server.dot}", "-new", "-time", str(seconds)]
    before = cpu_seconds(server.pid)
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(NEW)]
    texts = [client.communicate()[0] for client in clients]
    used = cpu_seconds(server.pid) - before
    numbers = [re.search(r"(\d+) connections in \d+ real seconds", text) for text in texts]
    assert all(numbers), texts
    return used / sum(int(number[1]) for number in numbers if number) * 1e6


def quic_us(server: Server, *load: str) -> float:
    """CPU of one query over kept QUIC connections, or of a new connection, in microseconds."""
    argv = [sys.executable, "-m", "tests.bench.quic_load", load[0], str(server.dot), *load[1:]]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        before = cpu_seconds(server.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        number = int(process.stdout.readline())
        return (cpu_seconds(server.pid) - before) / number * 1e6


def idle_kib(server: Server, authority: Authority, number: int) -> float:
    """Memory of an idle connection, in KiB; fails where one of so many is not held."""
    context, before = authority.context(), memory_bytes(server.pid)
    with ThreadPoolExecutor(OPENERS) as pool:
        open_ = list(pool.map(lambda _: _asked_once(server.dot, context), range(number)))
    time.sleep(1)
    after = memory_bytes(server.pid)
    held = sum(_is_open(sock) for sock in open_)
    for sock in open_:
        sock.close()
    assert held == number, f"{server.name} holds {held} of {number}"
    return (after - before) / number / 1024


def _asked_once(port: int, context: ssl.SSLContext) -> socket.socket:
    """The socket of a new connection that has asked a question; what is known of its TLS is forgotten."""
    question = b"\0\x20\0\1\0\0\0\1\0\0\0\0\0\0\3www\5bench\4test\0\0\x1c\0\1"
    sock = socket.create_connection(("127.0.0.1", port), 10)
    tls, _, outgoing = shaken(sock, context, NAME)
    tls.write(question)
    sock.sendall(outgoing.read())
    sock.recv(1 << 16)
    return sock


def _is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        while sock.recv(1 << 16):
            pass
    except BlockingIOError:
        return True
    return False


def main() -> int:
    """Measure both, in turns, and compare."""
    options = parser_of(__doc__, "encrypted").parse_args()
    where = machine()
    rounds, seconds, numbers = (1, 1, (100, 100)) if options.quick else (3, 3, (IDLE, IDLE_OF_BIND))
    if missing := [program for program in ("named", "dnsperf", "openssl") if shutil.which(program) is None]:
        print(f"bench encrypted: missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="dnsvip-") as name, ExitStack() as stack:
        folder = Path(name)
        authority = Authority(folder)
        authority.server()
        certificate = folder / NAME
        servers = [stack.enter_context(start(folder, certificate)) for start in (ours, bind)]
        seen: dict[str, list[float]] = {}
        for number in range(rounds):
            for server in servers:
                say(f"round {number + 1} of {rounds}, {server.name}")
                for mode in ("dot", "doh", "doh post"):
                    seen.setdefault(f"{mode} {server.name}", []).append(query_us(server, mode, folder, seconds))
                seen.setdefault(f"handshake {server.name}", []).append(handshake_us(server, seconds))
            for what, load in (("doq", ("queries", str(CONNECTIONS))), ("doq handshake", ("handshakes",))):
                seen.setdefault(f"{what} dnsvip", []).append(quic_us(servers[0], *load, str(seconds)))
        figures = {what: statistics.median(values) for what, values in seen.items()}
        for server, number in zip(servers, numbers, strict=True):
            say(f"{number} idle connections, {server.name}")
            figures[f"idle {server.name}, KiB"] = idle_kib(server, authority, number)
    for what in ("dot", "doh", "doh post", "handshake"):
        figures[f"{what} / bind"] = figures[f"{what} dnsvip"] / figures[f"{what} bind"]
    rows = [(what, f"{figure:.2f}") for what, figure in sorted(figures.items())]
    text = f"{where}.\n\n" + "\n".join(table(("what", "us, KiB or ratio"), rows))
    return conclude(
        Result("encrypted", text, figures, page=PAGE, machine=where),
        options.json,
        quick=options.quick,
        record=options.record,
    )


if __name__ == "__main__":
    raise SystemExit(main())
