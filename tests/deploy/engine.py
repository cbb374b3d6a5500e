"""A rootless podman for tests: its own storage, in namespaces of network, mounts and processes that end with it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.node.serving import within

FIRST = Path(__file__).parent / "container" / "rootless.sh"
USER = 65534
"""Whom the engine runs as: nobody has a number on every machine, and owns nothing."""

MEMORY, ROOM = "/dev/shm", 4 << 30
"""A file system in memory, and the bytes that must be free in it."""

CONTAINERS = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
compat_api_enforce_docker_hub = false
[network]
network_backend = "netavark"
"""
"""Limits that a user may set, and what works where a machine mixes versions of cgroups; locks beside all else."""

STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run/storage"\n'


class Engine:
    """Runs podman and docker-compose as an unprivileged user, in the namespaces of `process`."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._process = process
        within(10, lambda: self._children() != [])
        self._first = self._children()[0]
        within(30, self._serves)

    def _children(self) -> list[str]:
        return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()

    def _serves(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return self.call("test", "-S", f"{self.folder}/run/api.sock").returncode == 0

    def call(
        self, *argv: str | Path, cwd: Path | None = None, seconds: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as the engine's user."""
        enter = ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", f"--wd={cwd or self.folder}"]
        who = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        environment = {**_environment(self.folder), **variables}
        return subprocess.run(
            [*enter, *who, *argv], env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )

    def run(self, *argv: str | Path, cwd: Path | None = None, seconds: float = 120, **variables: str) -> str:
        """What a program prints; it must exit 0."""
        done = self.call(*argv, cwd=cwd, seconds=seconds, **variables)
        assert done.returncode == 0, f"{argv}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def import_image(self, archive: Path, name: str) -> None:
        """Make an image of one layer of the archive of a file system."""
        self.run("podman", "import", "--quiet", archive, name)

    def build(self, context: Path, file: Path, name: str, *options: str) -> None:
        """Build an image without a network, and without a layer for each step."""
        build = ("podman", "build", "--quiet", "--network=none", "--layers=false", f"--file={file}", f"--tag={name}")
        self.run(*build, *options, context, seconds=300)


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine without images, whose containers end and whose files go with it."""
    folder = Path(tempfile.mkdtemp(prefix="dnsvip-podman-", dir=where()))
    folder.chmod(0o755)
    for name in ("home", "storage", "run"):
        (folder / name).mkdir(mode=0o700)
        os.chown(folder / name, USER, USER)
    files = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    (folder / "containers.conf").write_text(CONTAINERS.format(files=files))
    (folder / "storage.conf").write_text(STORAGE.format(folder=folder))
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    bound = ["setpriv", "--pdeathsig=KILL"]  # ends with the tests, however they end
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*bound, *apart, FIRST, folder],
            env=_environment(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Engine(folder, process)
    finally:
        process.kill()
        process.wait()
        _remove(folder)


def where() -> str:
    """Memory, where there is enough, and its files can be layers of a user (attributes, since Linux 6.6)."""
    version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    fits = Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    return MEMORY if fits and version >= (6, 6) else "/tmp"


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "DISABLE_HC_SYSTEMD": "true",  # `podman healthcheck run` instead of systemd's timers
        "DOCKER_HOST": f"unix://{folder}/run/api.sock",
    }


def _remove(folder: Path) -> None:
    """The namespaces go a moment after their first process, and what is mounted in them with them."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(folder)
