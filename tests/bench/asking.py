"""Asks a server at the other end of a veth pair at a bounded rate, and says what that costs the whole machine.

A process in the client's namespace sends prepared frames from the kernel (`programs/flood.bpf.c`), BURST at a time, and
a program there drops the answers (`programs/swallow.bpf.c`). A second cable ends at a program that returns each frame
(`programs/turn.bpf.c`). What counts is the CPU time of the sender, in which the kernel handles the packets, of the
kernel's threads for these (ksoftirqd), and of the server's processes; less what the first two take for as many frames
by the second cable, in the same round. So sending, the cable and dropping the answers are nobody's; the network stack,
and what a server does while nobody asks, are the server's.

    python -m tests.bench.asking FILE COUNT     (the sender; each line on its input is an order, see `Sender`)
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple, Self

from dnsvip.demo.host import Host
from dnsvip.demo.netns import World
from dnsvip.xdp.build import compile_all
from dnsvip.xdp.libbpf import check, library
from dnsvip.xdp.link import Link, Mode
from dnsvip.xdp.structs import u32
from tests.bench.flooder import loaded, sending
from tests.bench.processes import PROC, cpu_seconds, prefer, task_seconds
from tests.bench.program import LEAST, PROGRAMS
from tests.network.test_dns_xdp import Pair

RATE, SECONDS, ROUNDS = 100_000, 1.0, 3
BURST = 32
"""Frames at a time: of more, a socket of the usual size loses some (each takes a page of 4 KiB of its buffer)."""
BESIDE = "eth1"
"""The cable whose frames return at once, at both ends."""
SPARE = "spare"
"""An interface of the client without packets."""
NOBODY = 1 << 30
"""No process has this number."""


class Turn(NamedTuple):
    """Questions that were sent and answers that came; seconds of CPU of the sender and ksoftirqd, of the server's
    processes, and of the whole machine by what its processors did not idle."""

    sent: int
    answered: int
    kernel: float
    server: float
    machine: float


class Cost(NamedTuple):
    """Microseconds of CPU an answer: beyond a cable's that returns frames, those of them in the server's processes; the
    first by the processors' idle time, which other work spoils; and the share that was answered."""

    all: float
    processes: float
    by_idle: float
    share: float


def cost_of(turn: Turn, bare: Turn) -> Cost:
    """What a turn costs beyond one of the bare cable with as many frames a second."""
    each, scale = 1e6 / max(turn.answered, 1), turn.sent / bare.sent
    return Cost(
        (turn.kernel + turn.server - bare.kernel * scale) * each,
        turn.server * each,
        (turn.machine - bare.machine * scale) * each,
        turn.answered / turn.sent,
    )


class Sender:
    """Sends frames by an interface of a host, those of a file in turn. Close it at the end."""

    def __init__(self, host: Host, file: Path, frames: Iterable[bytes], rate: int = RATE) -> None:
        self._host, self._rate = host, rate
        with file.open("wb") as out:
            count = sum(out.write(frame.ljust(LEAST, b"\0")) for frame in frames) // LEAST
        words = host.command(sys.executable, "-m", "tests.bench.asking", file, str(count))
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._said()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def turn(self, interface: str, pid: int) -> Turn:
        """Send for SECONDS while the server of a process answers."""
        assert self._process.stdin
        received, server, threads, busy = self._received(interface), cpu_seconds(pid), _ksoftirqd(), _busy()
        self._process.stdin.write(json.dumps([interface, self._rate, SECONDS]) + "\n")
        self._process.stdin.flush()
        sent, own = self._said()
        time.sleep(0.05)  # what is under way
        return Turn(
            round(sent),
            self._received(interface) - received,
            own + _ksoftirqd() - threads,
            cpu_seconds(pid) - server,
            _busy() - busy,
        )

    def cost(self, interface: str, pid: int) -> Cost:
        """The medians of ROUNDS turns, each beside one of the bare cable. What else runs comes after both."""
        for process in (os.getpid(), pid):
            prefer(process)
        costs = [cost_of(self.turn(interface, pid), self.turn(BESIDE, NOBODY)) for _ in range(ROUNDS)]
        return Cost(*(median(values) for values in zip(*costs, strict=True)))

    def _said(self) -> tuple[float, float]:
        assert self._process.stdout
        sent, own = json.loads(self._process.stdout.readline())
        return sent, own

    def _received(self, interface: str) -> int:
        return int(self._host.run("cat", f"/sys/class/net/{interface}/statistics/rx_packets").stdout)


def lay_cable(world: World, pair: Pair) -> None:
    """The second cable of a pair, and the programs at its ends and where answers come to. Answers to all who ask go to
    the client."""
    world.link(pair.client, pair.server, a_name=BESIDE, b_name=BESIDE)
    world.link(pair.client, pair.client, a_name=SPARE, b_name=f"{SPARE}-end")
    folder = pair.folder / "programs"
    compile_all(PROGRAMS, folder)
    for host, interface, name in (
        (pair.client, "eth0", "swallow"),
        (pair.client, BESIDE, "swallow"),
        (pair.server, BESIDE, "turn"),
    ):
        host.run("ethtool", "-K", interface, "tx", "off")
        host.ip("-force", "link", "set", "dev", interface, "xdp", "obj", str(folder / f"{name}.bpf.o"), "sec", "xdp")
    pair.server.run("ethtool", "-K", "eth0", "gro", "on")  # else a veth without a program takes no frames
    pair.server.ip("route", "add", "198.18.0.0/15", "via", "192.0.2.7")
    pair.server.ip("neigh", "replace", "192.0.2.7", "dev", "eth0", "lladdr", mac_of(pair.client))


def mac_of(host: Host) -> str:
    """The Ethernet address of a host's first interface, in words."""
    return host.run("cat", "/sys/class/net/eth0/address").stdout.strip()


def ethernet(pair: Pair) -> bytes:
    """The Ethernet header of IPv4 packets from the client to the server."""
    return bytes.fromhex((mac_of(pair.server) + mac_of(pair.client)).replace(":", "")) + b"\x08\0"


def _ksoftirqd() -> float:
    """Seconds that the kernel's threads for packets have run."""
    return sum(map(task_seconds, _softirq_threads()))


def _softirq_threads() -> list[Path]:
    return [each.parent for each in PROC.glob("[0-9]*/comm") if _text(each).startswith("ksoftirqd/")]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _busy() -> float:
    """Seconds that the processors have not been idle; from some moment on."""
    words = (PROC / "stat").read_text().split("\n", 1)[0].split()
    processors = os.cpu_count() or 1
    return time.monotonic() * processors - (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")


def _serve(file: Path, count: int) -> None:
    """Send as each line of the input says, and say how many it was and what CPU this process took for it."""
    heads = file.read_bytes()
    program, orders = loaded(heads)
    frame = ctypes.create_string_buffer(heads[:LEAST], LEAST)
    where, send = ctypes.byref(sending(frame, BURST)), library().bpf_prog_test_run_opts
    # The kernel waits for all processors before and after a run of a program that is attached nowhere.
    held = Link.attach(program, socket.if_nametoindex(SPARE), Mode.GENERIC)
    following: dict[str, bytes] = {}
    print("[0, 0]", flush=True)
    for line in sys.stdin:
        interface, rate, seconds = json.loads(line)
        number = following.get(interface, u32(0))
        orders.put(u32(0), number + b"".join(map(u32, (count, 0, socket.if_nametoindex(interface)))))
        began, before, sent = time.monotonic(), time.process_time(), 0
        while time.monotonic() < began + seconds:
            check(send(program.fd, where), "sending")
            sent += BURST
            time.sleep(max(began + sent / rate - time.monotonic(), 0))
        spent = time.process_time() - before
        following[interface] = (orders.get(u32(0)) or b"")[:4]
        print(json.dumps([sent, spent]), flush=True)
    held.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
