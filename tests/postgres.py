"""A real PostgreSQL for tests: its own cluster in a temporary folder, on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

MEMORY, ROOM = "/dev/shm", 2 << 30
"""A file system in memory, and the bytes that must be free in it."""


class Postgres:
    """One server. `database` makes an empty database and gives its URL, `drop` ends it; `stop`, `kill` and `start` are
    outages."""

    def __init__(self, folder: Path, primary: Postgres | None = None) -> None:
        self.folder = folder
        self.lives = False
        self._old: list[str] = []
        self._bin = newest_bin()
        self._data = folder / "data"
        self._settings = f"-c unix_socket_directories={folder} -c listen_addresses= -c fsync=off -c max_wal_size=128MB"
        if primary is None:
            self._run("initdb", "--pgdata", str(self._data), "--auth", "trust", "--username", "dnsvip", "--no-sync")
        else:
            copy = ["--pgdata", str(self._data), "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"]
            self._run("pg_basebackup", "--host", str(primary.folder), "--username", "dnsvip", *copy)
            self._settings += " -c wal_retrieve_retry_interval=200ms"

    @property
    def pid(self) -> int:
        """The server's first process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        log = str(self.folder / "log")
        start = ["start", "--pgdata", str(self._data), "--wait", "--log", log, "--options", self._settings]
        for _ in range(50):  # what a killed one has left goes within moments
            if self._runs("pg_ctl", *start):
                self.lives = True
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        """Stop the server at once, as a crash does."""
        self.lives = False
        self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", "immediate", "--wait")

    def kill(self) -> None:
        """Kill the server's first process with SIGKILL; the others follow it by themselves."""
        self.lives = False
        first, *others = self._pids()
        os.kill(first, signal.SIGKILL)
        while any(_stat(pid)[:1] not in ([], ["Z"]) for pid in (first, *others)):
            time.sleep(0.01)
        # Where nobody collects orphans the dead process keeps its number, and would be taken for a living one.
        for lock in (self._data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")):
            lock.unlink(missing_ok=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All processes stand still meanwhile; what is sent to them is not answered."""
        pids = self._pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """The server's processes, the first one first."""
        first = self.pid
        return [first, *(pid for pid in _processes() if _stat(pid)[1:2] == [str(first)])]

    def promote(self) -> None:
        """Have a standby take writes from now on."""
        self._run("pg_ctl", "promote", "--pgdata", str(self._data), "--wait")

    def listen(self, port: int) -> Path:
        """Take connections on 127.0.0.1 too, by TLS and with a password only; the certificate to trust."""
        key, certificate = self._data / "server.key", self.folder / "server.crt"
        self._run(
            "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate),
        )  # fmt: skip
        with (self._data / "pg_hba.conf").open("w") as rules:
            rules.write("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        self.stop()
        tls = f"-c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}"
        listening = self._settings.replace("listen_addresses=", "listen_addresses=127.0.0.1")
        self._settings = f"{listening} -c port={port} {tls}"
        self.start()
        return certificate

    def sql(self, *statements: str) -> None:
        """Run statements, each by itself, as the administrator."""
        words = [word for statement in statements for word in ("--command", statement)]
        where = ("--host", str(self.folder), "--username", "dnsvip", "postgres")
        self._run("psql", "--set=ON_ERROR_STOP=1", *words, *where)

    def database(self) -> str:
        """The URL of a new database."""
        name = f"t{uuid4().hex}"
        self.sql(*(f"DROP DATABASE {old} WITH (FORCE)" for old in self._old), f"CREATE DATABASE {name}")
        self._old.clear()
        return f"postgresql://dnsvip@/{name}?host={self.folder}"

    def drop(self, url: str) -> None:
        """Nobody needs this database any more: it goes when the next one is made, by the same call of a program."""
        self._old.append(_name(url))

    def dump(self, url: str) -> bytes:
        """All rows of a database, bytes escaped as hex and, for comparing, in clear."""
        argv = [str(self._bin / "pg_dump"), "--host", str(self.folder), "--username", "dnsvip", _name(url)]
        text = subprocess.run(argv, check=True, capture_output=True).stdout
        return text + b"".join(bytes.fromhex(found.decode()) for found in re.findall(rb"\\\\x([0-9a-f]+)", text))

    def _run(self, program: str, *arguments: str) -> None:
        assert self._runs(program, *arguments), program

    def _runs(self, program: str, *arguments: str) -> bool:
        own = self._bin / program
        argv = [str(own) if own.exists() else program, *arguments]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]
        with (self.folder / "said").open("ab") as said:
            done = subprocess.run(
                argv, cwd=self.folder, check=False, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        return done.returncode == 0


@contextmanager
def running() -> Iterator[Postgres]:
    """A started server, stopped and removed afterwards."""
    with _folder() as folder, _started(Postgres(folder)) as server:
        yield server


@contextmanager
def replicated() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary and its standby: what the primary has acknowledged, the standby has."""
    with running() as primary, _folder() as folder, _started(Postgres(folder, primary)) as standby:
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        yield primary, standby


@contextmanager
def _started(server: Postgres) -> Iterator[Postgres]:
    server.start()
    try:
        yield server
    finally:
        if server.lives:
            server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dnsvip-pg-", dir=_where()))
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder)


def _name(url: str) -> str:
    """The name of a database of its URL."""
    return url.partition("@/")[2].partition("?")[0]


def _where() -> str:
    """Memory, where there is enough: a new database is 300 files, which cost a disk's file system five times as much.
    Both names are short, as those of sockets must be."""
    return MEMORY if Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free > ROOM else "/tmp"


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """State and parent of a process, and more; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def newest_bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "PostgreSQL is missing: apt install postgresql"
    return found[-1]
