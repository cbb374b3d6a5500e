"""Unbound, a real resolver, in front of a server of ours."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query


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
