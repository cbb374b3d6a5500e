"""Three database machines with etcd, Patroni and PostgreSQL, by the files of deploy/patroni.

Each has a loopback address. Everything runs as PostgreSQL's user. A fault is a signal to the processes of one machine.
"""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.postgres import newest_bin

DEPLOY = Path(__file__).parent.parent / "deploy" / "patroni"
QUICK: Mapping[str, int] = {"ttl": 6, "loop_wait": 1, "retry_timeout": 2}
"""Settings of Patroni that make a test short; the page has those for use."""

START_SECONDS = 120.0
PASSWORD = "correct-horse"


@dataclass
class Machine:
    """One machine: its name, its address, and the processes that it runs."""

    name: str
    address: str
    etcd: subprocess.Popen[bytes] | None = None
    patroni: subprocess.Popen[bytes] | None = None


@dataclass
class Databases:
    """The three machines."""

    folder: Path
    machines: list[Machine]
    _bin: Path = field(default_factory=newest_bin)

    @property
    def authority(self) -> Path:
        """The certificate that dnsvip nodes trust."""
        return self.folder / "made" / "ca.crt"

    @property
    def url(self) -> str:
        """The database for a node file: all machines, with verified TLS."""
        hosts = ",".join(f"{machine.address}:5432" for machine in self.machines)
        return f"postgresql://dnsvip:{PASSWORD}@{hosts}/dnsvip?sslmode=verify-full&sslrootcert={self.authority}"

    def start(self) -> None:
        """Write the configuration, start everything, and wait until a leader has a synchronous standby."""
        place = {"PLACE": "made/@NAME@", "SOCKETS": "made/@NAME@", "DATA": "data-@NAME@", "ETCD_DATA": "etcd-@NAME@"}
        environ = {name: f"{self.folder}/{path}" for name, path in place.items()}
        self._run(
            str(DEPLOY / "configure.sh"), str(self.folder / "made"), *(machine.address for machine in self.machines),
            environ={**environ, "BIN": str(self._bin)},
        )  # fmt: skip
        for machine in self.machines:
            self.start_etcd(machine)
        for machine in self.machines:
            self.start_patroni(machine)
        wait_until(lambda: self.leader() is not None, START_SECONDS)
        self.configure(QUICK)
        wait_until(self.is_whole, START_SECONDS)

    def start_etcd(self, machine: Machine) -> None:
        """Start etcd on a machine, from its file of variables."""
        lines = (self.folder / "made" / machine.name / "etcd.env").read_text().splitlines()
        variables = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        machine.etcd = self._start(f"{machine.name}.etcd", "etcd", environ=variables)

    def start_patroni(self, machine: Machine) -> None:
        """Start Patroni on a machine, which starts PostgreSQL."""
        machine.patroni = self._start(
            f"{machine.name}.patroni", "patroni", f"{self.folder}/made/{machine.name}/patroni.yml"
        )

    def stop(self) -> None:
        """End every process that was started, and what these have started."""
        for machine in self.machines:  # all at once, so that nobody takes over
            for pid in self.pids(machine):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for machine in self.machines:
            self.send(machine, signal.SIGKILL)
            self.send_etcd(machine, signal.SIGKILL)

    def send(self, machine: Machine, number: signal.Signals) -> None:
        """Send a signal to Patroni and to each process of PostgreSQL of a machine."""
        pids = self.pids(machine)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if number is signal.SIGKILL and machine.patroni is not None:
            machine.patroni.wait(20)
            machine.patroni = None
            wait_until(lambda: not any(map(is_running, pids)), 20)
            # Where nobody collects orphans the dead process keeps its number, and would be taken for a living one.
            (self.folder / f"data-{machine.name}" / "postmaster.pid").unlink(missing_ok=True)

    def send_etcd(self, machine: Machine, number: signal.Signals) -> None:
        """Send a signal to etcd of a machine."""
        if machine.etcd is not None:
            machine.etcd.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                machine.etcd.wait(20)
                machine.etcd = None

    def pids(self, machine: Machine) -> list[int]:
        """Patroni and the processes of PostgreSQL of a machine."""
        data = self.folder / f"data-{machine.name}"
        first = [machine.patroni.pid] if machine.patroni is not None else []
        with suppress(OSError, ValueError):
            postmaster = int((data / "postmaster.pid").read_text().split()[0])
            first += [postmaster, *children(postmaster)]
        return first

    def leader(self) -> Machine | None:
        """The machine that leads, as the machines that answer say; None where none does."""
        for member in self.members():
            if member.get("role") == "leader" and member.get("state") == "running":
                return next(machine for machine in self.machines if machine.name == member["name"])
        return None

    def members(self) -> list[dict[str, Any]]:
        """What the first machine that answers says of all."""
        for machine in self.machines:
            with suppress(OSError, ValueError):
                found: list[dict[str, Any]] = json.loads(self._ask(machine, "cluster"))["members"]
                return found
        return []

    def etcd_leader(self) -> Machine:
        """The machine whose etcd leads."""
        own = self.folder / "made" / self.machines[0].name
        asked = [machine for machine in self.machines if machine.etcd is not None]
        hosts = ",".join(f"https://{machine.address}:2379" for machine in asked)
        said = self._said(
            "etcdctl", f"--endpoints={hosts}", f"--cacert={own}/ca.crt", f"--cert={own}/patroni.crt",
            f"--key={own}/patroni.key", "endpoint", "status", "--write-out=json",
        )  # fmt: skip
        for machine, each in zip(asked, json.loads(said), strict=True):
            status = each["Status"]
            if status["header"]["member_id"] == status["leader"]:
                return machine
        raise AssertionError(said)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Change the settings that all machines share."""
        leader = self.leader()
        assert leader is not None
        self._ask(leader, "config", settings)

    def sql(self, *statements: str, database: str = "postgres") -> str:
        """Run statements on the leader, each by itself, as the administrator; what they give."""
        leader = self.leader()
        assert leader is not None
        return self.sql_at(leader, *statements, database=database)

    def sql_at(self, machine: Machine, *statements: str, database: str = "postgres") -> str:
        """The same on one machine."""
        text = (self.folder / "made" / machine.name / "patroni.yml").read_text()
        password = text.partition("username: postgres\n")[2].partition('"')[2].partition('"')[0]
        words = [word for statement in statements for word in ("--command", statement)]
        place = f"host={machine.address} user=postgres dbname={database}"
        place += f" sslmode=verify-full sslrootcert={self.authority}"
        return self._said("psql", "-qAt", "--set=ON_ERROR_STOP=1", *words, place, environ={"PGPASSWORD": password})

    def is_whole(self) -> bool:
        """Whether both standbys follow the leader, one of them synchronously: two machines may be lost one by one."""
        leader = self.leader()
        if leader is None or [member["role"] for member in self.members()].count("sync_standby") != 1:
            return False
        try:
            states = self.sql_at(leader, "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'").split()
        except AssertionError:  # it leads no more
            return False
        return len(states) == 2 and "sync" in states

    def _ask(self, machine: Machine, path: str, patch: Mapping[str, Any] | None = None) -> bytes:
        own = self.folder / "made" / machine.name
        context = ssl.create_default_context(cafile=str(self.authority))
        context.load_cert_chain(own / "patroni.crt", own / "patroni.key")
        body = None if patch is None else json.dumps(patch).encode()
        request = Request(f"https://{machine.address}:8008/{path}", body, method="PATCH" if body else "GET")
        with urlopen(request, timeout=2, context=context) as answer:  # noqa: S310 - a URL of this test
            text: bytes = answer.read()
            return text

    def _run(self, *argv: str, environ: Mapping[str, str] | None = None) -> None:
        self._said(*argv, environ=environ)

    def _said(self, *argv: str, environ: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            as_postgres(*argv), cwd=self.folder, env=self._environ(environ), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _start(self, log: str, *argv: str, environ: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as said:
            return subprocess.Popen(
                as_postgres(*argv), cwd=self.folder, env=self._environ(environ), stdin=subprocess.DEVNULL,
                stdout=said, stderr=said,
            )  # fmt: skip

    def _environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"}
        return {**own, **(more or {})}


@contextmanager
def databases() -> Iterator[Databases]:
    """Three machines that run, ended and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dnsvip-ha-", dir="/tmp"))
    net = f"127.{random.randrange(64, 250)}.{random.randrange(1, 250)}"
    made = Databases(folder, [Machine(f"db{number}", f"{net}.{number}") for number in (1, 2, 3)])
    try:
        folder.chmod(0o755)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        made.start()
        made.sql(f"CREATE ROLE dnsvip LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE dnsvip OWNER dnsvip")
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def as_postgres(*argv: str) -> list[str]:
    """A command line of PostgreSQL's user: it refuses to run as root."""
    who = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return [*who, *argv]


def wait_until(true: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition, or fail; how long it took, in seconds."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, f"not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - start


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def is_running(pid: int) -> bool:
    """Whether there is such a process and it is not dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
