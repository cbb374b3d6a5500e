"""A real `dnsvip serve` on loopback for tests: start it, query it with dig and curl, kill it."""

from __future__ import annotations

import atexit
import contextlib
import filecmp
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from dnsvip.cli import main
from tests import preloaded
from tests.ports import free_port
from tests.preloaded import DNSVIP

EXAMPLES = Path(__file__).parents[2] / "examples"
READY_SECONDS = 60.0
"""Far more than a start takes, for a machine that is busy with other things."""

NAME = ("AAAA", "www.example.test")
PLAIN = "2001:db8:a:1::1"
"""What dig queries, and the example site's answer for unknown requesters."""

PROPAGATION = 0.5
"""Seconds until a change is in every answer."""

DATABASE = 'database = "sqlite:///dnsvip.db"\n'
NODE = (
    DATABASE
    + """\
[[dns.listen]]
name = "public"
address = "127.0.0.1:{dns}"
[[dns.listen]]
name = "privileged"
address = "[::1]:{dns}"
[admin]
listen = "127.0.0.1:{api}"
[log]
format = "json"
"""
)


@dataclass
class Node:
    """A folder with a site file and a node file, and the process that serves it."""

    folder: Path
    dns: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    process: preloaded.Process | subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("site.toml", "example.test.zone"):
            shutil.copy(EXAMPLES / name, self.folder / name)
        self.write_node()

    def write_node(self, text: str = NODE) -> None:
        """Write the node file."""
        (self.folder / "node.toml").write_text(text.format(dns=self.dns, api=self.api))

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://127.0.0.1:{self.api}/api/v1"

    @property
    def token(self) -> str:
        """The first token."""
        return (self.folder / "token").read_text().strip()

    @property
    def log(self) -> str:
        """The log of the process so far."""
        return (self.folder / "log").read_text()

    def dnsvip(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run dnsvip in the folder."""
        return preloaded.run(*argv, folder=self.folder, env={**os.environ, **(env or {})})

    def noun(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run one of the API's commands with URL and token, in the folder and in this process, which has it loaded."""
        return self._here(argv, {"DNSVIP_API": f"127.0.0.1:{self.api}", "DNSVIP_TOKEN": self.token})

    def _here(self, argv: tuple[str, ...], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        code = 0
        with contextlib.chdir(self.folder), CliRunner(env=env).isolation() as (out, err, *_):
            try:
                main(list(argv))
            except SystemExit as ended:
                code = int(ended.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
        return subprocess.CompletedProcess(argv, code, out.getvalue().decode(), err.getvalue().decode())

    def apply(self) -> None:
        """Apply the example site; the first time to SQLite by a copy of a database and key that `apply` has made."""
        files = ("site.toml", "example.test.zone")
        fresh = DATABASE in (self.folder / "node.toml").read_text() and not (self.folder / "dnsvip.db").exists()
        if fresh and not filecmp.cmpfiles(self.folder, EXAMPLES, files, shallow=False)[1]:
            for name in ("dnsvip.db", "dnsvip.key"):
                shutil.copy(_applied() / name, self.folder / name)
        else:
            self._apply()

    def _apply(self) -> None:
        """In a thread, as it has an event loop of its own and the test may have one too."""
        with ThreadPoolExecutor(1) as beside:
            done = beside.submit(self._here, ("apply", "site.toml", "--config", "node.toml"), {}).result(60)
        assert done.returncode == 0, done.stderr

    def start(self, *options: str, new_session: bool = False, descriptors: int | None = None) -> None:
        """Start serving and wait for the ready line; in a session of its own, with so many descriptors at most."""
        with (self.folder / "log").open("wb") as log, (self.folder / "out").open("wb") as out:
            argv = ("serve", "node.toml", *options)
            if descriptors is None:
                self.process = preloaded.start(*argv, folder=self.folder, out=out, error=log, new_session=new_session)
            else:
                limited = ["prlimit", f"--nofile={descriptors}", DNSVIP, *argv]
                self.process = subprocess.Popen(limited, cwd=self.folder, stdout=out, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while '"event": "ready"' not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the process with a signal and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    def events(self) -> list[dict[str, Any]]:
        """The parsed log lines."""
        return [json.loads(line) for line in self.log.splitlines()]

    def dig(self, *words: str) -> str:
        """The output of `dig +short` against the IPv4 listener."""
        done = subprocess.run(
            ["dig", "@127.0.0.1", "-p", str(self.dns), "+short", "+tries=2", "+time=2", *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout.strip()

    def curl(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Status and JSON of an API request made with curl."""
        bearer = self.token if token is None else token
        argv = ["curl", "-sS", "-X", method, "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {bearer}"]
        if body is not None:
            argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        argv.append(f"{self.url}/{path}")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text) if text.strip() else None


@functools.cache
def _applied() -> Path:
    """A folder of this process with the example site applied once."""
    folder = Path(tempfile.mkdtemp(prefix="dnsvip-applied-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Node(folder)._apply()
    return folder


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Node]:
    """A node whose process is stopped at the end in any case."""
    made = Node(folder)
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def within(seconds: float, true: Any) -> float:
    """Wait for a condition; return how long it took, in seconds. The longer it takes, the less often it is looked at:
    looking often runs a program."""
    start = time.monotonic()
    while not true():
        waited = time.monotonic() - start
        assert waited < seconds, f"not within {seconds} s"
        time.sleep(min(max(0.01, waited / 10), 0.3))
    return time.monotonic() - start
