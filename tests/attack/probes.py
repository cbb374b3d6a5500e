"""How long others wait: probes of a node over UDP and of its API, sent on a schedule whatever comes back.

The node runs on one CPU and what loads it on another. Where the caller may, both are raised above other programs of the
machine, and answers over UDP are timed by the kernel as they arrive, so that a busy machine or a probe that has to wait
for its CPU is not taken for a slow node.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import platform
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import dns.message

from tests.node.serving import Node

SO_TIMESTAMPNS = 35
SCHED_SETATTR = 274 if platform.machine() == "aarch64" else 314
SLICE = 100_000
"""Nanoseconds, the shortest there is."""

LOST = 5.0
"""Seconds that stand for an answer which never came."""

PRIORITY, LOAD_PRIORITY = -20, -10
"""Nice values of the node and its probes, and of what loads it."""

QUERY_SECONDS, CALL_SECONDS = 0.003, 0.05
"""Between two probes over UDP, and of the API."""


def cpus() -> tuple[int, int]:
    """The CPU of the node, and that of all else."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def settle(pid: int, cpu: int, priority: int) -> None:
    """Put a process with all its threads, and all that they start, on one CPU, before other programs.

    It leads a session, which the kernel weighs against other sessions as a whole (sched(7), "The autogroup feature").
    A short slice lets it run as soon as it has something to do (sched_setattr(2), Linux 6.12).
    """
    with suppress(OSError):  # no such feature, or no right to it
        Path(f"/proc/{pid}/autogroup").write_text(str(priority))
    for thread in (int(name) for name in os.listdir(f"/proc/{pid}/task")):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {cpu})
            attributes = struct.pack("IIQiIQQQ", 48, os.SCHED_OTHER, 0, priority, 0, SLICE, 0, 0)
            ctypes.CDLL(None).syscall(SCHED_SETATTR, thread, attributes, 0)


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that the probes of one window took."""

    queries: Sequence[float]
    calls: Sequence[float]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The 99th percentiles of the median window, milliseconds."""

    udp: float
    api: float


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile in milliseconds."""
    return 1000 * sorted(seconds)[len(seconds) * 99 // 100]


def middle(windows: Sequence[Waits]) -> Percentiles:
    """The percentiles of the median window of each kind."""
    return Percentiles(median(p99(w.queries) for w in windows), median(p99(w.calls) for w in windows))


def window(node: Node, seconds: float, tls: ssl.SSLContext | None = None) -> Waits:
    """Probe a node for so long."""
    calls: list[float] = []
    end = time.monotonic() + seconds
    callers = [threading.Thread(target=_call, args=(node, end, at * CALL_SECONDS / 4, calls, tls)) for at in range(4)]
    for caller in callers:
        caller.start()
    queries = _query(node.dns, seconds)
    for caller in callers:
        caller.join()
    return Waits(queries, calls)


def _query(port: int, seconds: float) -> list[float]:
    """The waits of queries, each sent when it is due; the kernel notes when an answer has come."""
    query = dns.message.make_query("mail.example.test", "A").to_wire()
    number = int(seconds / QUERY_SECONDS)
    sent, waits = [0.0] * number, [LOST] * number
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, selectors.DefaultSelector() as selector:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
        begin, at = time.monotonic(), 0
        while at < number or (LOST in waits and time.monotonic() < begin + seconds + LOST):
            due = begin + at * QUERY_SECONDS
            while at < number and due <= time.monotonic():
                sent[at] = time.time()
                sock.send(struct.pack("!H", at) + query[2:])
                at, due = at + 1, due + QUERY_SECONDS
            if selector.select(max(0.0, min(due - time.monotonic(), 0.1))):
                with suppress(BlockingIOError):
                    while True:
                        answer, ancillary, _, _ = sock.recvmsg(512, 64)
                        came = struct.unpack("qq", ancillary[0][2][:16])
                        place = int.from_bytes(answer[:2], "big")
                        waits[place] = came[0] + came[1] / 1e9 - sent[place]
    return waits


def _call(node: Node, end: float, offset: float, waits: list[float], tls: ssl.SSLContext | None) -> None:
    """The waits of API requests, each by a connection of its own."""
    time.sleep(offset)
    while time.monotonic() < end:
        begin = time.monotonic()
        try:
            status = request(node, "GET", "clients/acme", tls=tls)
        except (OSError, http.client.HTTPException):
            status = 0
        waits.append(time.monotonic() - begin if status == 200 else LOST)
        time.sleep(max(0.0, begin + CALL_SECONDS - time.monotonic()))


def request(
    node: Node,
    method: str,
    path: str,
    body: bytes | None = None,
    kind: str = "application/json",
    *,
    token: str = "",
    tls: ssl.SSLContext | None = None,
    timeout: float = LOST,
) -> int:
    """The status of a request."""
    place = ("127.0.0.1", node.api)
    connection = (
        http.client.HTTPSConnection(*place, timeout=timeout, context=tls)
        if tls
        else http.client.HTTPConnection(*place, timeout=timeout)
    )
    try:
        headers = {"Authorization": f"Bearer {token or node.token}", "Content-Type": kind}
        connection.request(method, f"/api/v1/{path}", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
