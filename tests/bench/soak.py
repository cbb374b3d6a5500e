"""A node at full load while its site changes every second: nothing lost, nothing wrong, no memory growth.

    python -m tests.bench.soak [--seconds 600]

dnsperf keeps the one worker busy with plain queries and with ECS of known and of new prefixes. Meanwhile the API
changes a client's tier every second, and a prober queries as that client and decodes the tier of each address. An
answer is wrong if it has the old tier half a second after the change was acknowledged. The exit code is 1 if
anything was lost or wrong or if memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from random import Random

import dns.edns
import dns.message
import dns.query
import dns.rdatatype

from dnsvip.address.suffix import SuffixCodec
from dnsvip.store import KeyEncryptionKey, Store
from tests.bench import questions
from tests.bench.load import write_questions
from tests.bench.processes import memory_bytes
from tests.node.serving import Node

TIERS = {"gold": 1, "standard": 2}
EFFECT_SECONDS = 0.5
WARM_SECONDS = 10.0
MAY_GROW = 16 << 20
CLIENT = dns.edns.ECSOption("198.51.100.0", 24)
"""In the example site this prefix is acme's."""


@dataclass
class Findings:
    """The result; `slowest` is the longest time, in seconds, from an acknowledged change to its first answer."""

    asked: int = 0
    lost: int = 0
    wrong: int = 0
    changes: int = 0
    slowest: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def grown(self) -> int:
        """Bytes of memory growth after the warm-up."""
        return self.memory[-1] - self.memory[0] if self.memory else 0


def main() -> None:
    """Run the soak test and print its findings; exit 1 unless they are clean."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=600)
    seconds = options.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        findings, load = soak(Path(folder), seconds)
    print(f"load        {load}")
    print(f"prober      {findings.asked} questions, {findings.lost} lost, {findings.wrong} wrong")
    print(f"changes     {findings.changes}, the slowest in effect after {findings.slowest * 1000:.0f} ms")
    print(f"memory      {findings.memory[0] >> 20} MiB after warming up, {findings.memory[-1] >> 20} MiB at the end")
    clean = not (findings.lost or findings.wrong) and findings.grown < MAY_GROW and "lost 0," in load
    sys.exit(0 if clean else 1)


def soak(folder: Path, seconds: float) -> tuple[Findings, str]:
    """Serve the example site in `folder` under load; return the findings, and dnsperf's summary in one line."""
    node = Node(folder)
    node.apply()
    node.start("--token-file", "token")
    try:
        codec = asyncio.run(_codec(folder))
        findings = Findings()
        stop = threading.Event()
        threads = [threading.Thread(target=work, args=(node, codec, findings, stop)) for work in (_probe, _watch)]
        load = _start_load(node, folder, seconds)
        for thread in threads:
            thread.start()
        said, _ = load.communicate()
        stop.set()
        for thread in threads:
            thread.join()
        return findings, _summary(said)
    finally:
        node.stop()


def _probe(node: Node, codec: SuffixCodec, findings: Findings, stop: threading.Event) -> None:
    """Change the tier every second; between changes query and check each answer."""
    names, wanted, changed = list(TIERS), "gold", 0.0
    while not stop.is_set():
        wanted = names[findings.changes % 2]
        _change(node, wanted)
        findings.changes += 1
        changed, seen = time.monotonic(), False
        while time.monotonic() < changed + 1 and not stop.is_set():
            tier, asked_at = _tier(node, codec), time.monotonic()
            findings.asked += 1
            if tier is None:
                findings.lost += 1
            elif tier != TIERS[wanted] and (seen or asked_at > changed + EFFECT_SECONDS):
                findings.wrong += 1
            elif tier == TIERS[wanted] and not seen:
                seen, findings.slowest = True, max(findings.slowest, asked_at - changed)
            time.sleep(0.005)


def _watch(node: Node, _codec: SuffixCodec, findings: Findings, stop: threading.Event) -> None:
    """Record the server's memory after the warm-up."""
    assert node.process is not None
    stop.wait(WARM_SECONDS)
    while True:
        findings.memory.append(memory_bytes(node.process.pid))
        if stop.wait(5):
            findings.memory.append(memory_bytes(node.process.pid))
            return


def _tier(node: Node, codec: SuffixCodec) -> int | None:
    """The tier in the address for acme's prefix; None without an answer."""
    query = dns.message.make_query("www.example.test", "AAAA", use_edns=0, options=[CLIENT])
    try:
        answer = dns.query.udp(query, "127.0.0.1", port=node.dns, timeout=2)
    except (dns.exception.Timeout, OSError):
        return None
    (record,) = answer.answer[0]
    address = int(IPv6Address(record.address))
    return codec.decode(address)["tier"] if codec.authentic(address) else -1


def _change(node: Node, tier: str) -> None:
    body = json.dumps({"tier": tier}).encode()
    headers = {"Authorization": f"Bearer {node.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{node.url}/clients/acme", body, headers, method="PATCH")  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
        response.read()


async def _codec(folder: Path) -> SuffixCodec:
    """The codec of the example cluster's active epoch."""
    store = await Store.open(f"sqlite:///{folder}/dnsvip.db", KeyEncryptionKey.load(folder / "dnsvip.key", os.environ))
    try:
        active = (await store.snapshots.load()).keyrings["web"].active
    finally:
        await store.close()
    assert active is not None
    return active[1]


def _start_load(node: Node, folder: Path, seconds: float) -> subprocess.Popen[str]:
    mixed = [questions.plain()] * 1000 + questions.known(1000, Random(1)) + questions.new(1000)
    Random(2).shuffle(mixed)
    path = write_questions(folder / "questions", mixed)
    argv = ["dnsperf", "-B", "-s", "127.0.0.1", "-p", str(node.dns), "-d", str(path), "-l", str(seconds), "-t", "5"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _summary(said: str) -> str:
    asked, lost = (int(re.search(rf"Queries {what}: +(\d+)", said)[1]) for what in ("sent", "lost"))  # type: ignore[index]
    codes = re.search(r"Response codes: +(.*)", said)
    return f"asked {asked}, lost {lost}, {codes[1] if codes else 'no answers'}"


if __name__ == "__main__":
    main()
