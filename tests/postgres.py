"""A real PostgreSQL for tests: its own cluster in a temporary folder, on a Unix socket only."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


class Postgres:
    """One server. `database` makes an empty database and gives its URL; `stop` and `start` are outages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = _newest_bin()
        self._data = folder / "data"
        self._run("initdb", "--pgdata", str(self._data), "--auth", "trust", "--username", "dnsvip", "--no-sync")
        self._settings = f"-c unix_socket_directories={folder} -c listen_addresses= -c fsync=off"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "--pgdata", str(self._data), "--wait", "--log", log, "--options", self._settings)

    def stop(self) -> None:
        """Kill the server at once, as a crash does."""
        self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", "immediate", "--wait")

    def database(self) -> str:
        """The URL of a new database."""
        name = f"t{uuid4().hex}"
        self._run("createdb", "--host", str(self._folder), "--username", "dnsvip", name)
        return f"postgresql://dnsvip@/{name}?host={self._folder}"

    def dump(self, url: str) -> bytes:
        """All rows of a database, bytes escaped as hex and, for comparing, in clear."""
        name = url.partition("@/")[2].partition("?")[0]
        argv = [str(self._bin / "pg_dump"), "--host", str(self._folder), "--username", "dnsvip", name]
        text = subprocess.run(argv, check=True, capture_output=True).stdout
        return text + b"".join(bytes.fromhex(found.decode()) for found in re.findall(rb"\\\\x([0-9a-f]+)", text))

    def _run(self, program: str, *arguments: str) -> None:
        argv = [str(self._bin / program), *arguments]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]
        done = subprocess.run(
            argv, cwd=self._folder, check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"


@contextmanager
def running() -> Iterator[Postgres]:
    """A started server, stopped and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dnsvip-pg-", dir="/tmp"))  # socket paths must be short
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                server.stop()
    finally:
        shutil.rmtree(folder)


def _newest_bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "PostgreSQL is missing: apt install postgresql"
    return found[-1]
