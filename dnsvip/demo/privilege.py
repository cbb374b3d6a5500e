"""The privilege to create network namespaces: as root, or as any user inside a user namespace of our own.

It provides an `Entrance` through which `ip netns` works, or one line that says what this machine
lacks and how to get it. It knows nothing of hosts and links.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dnsvip.errors import PlatformError

TUN = Path("/dev/net/tun")
PROC_SYS = Path("/proc/sys")

AS_ROOT = ("unshare", "--mount", "--net")
AS_ANYBODY = ("unshare", "--user", "--map-root-user", "--mount", "--net")

PRIVATE_RUN = """
mount -t tmpfs tmpfs /run && mkdir /run/netns || exit
resolv=$(readlink -m /etc/resolv.conf)
case "$resolv" in /run/*) mkdir -p "$(dirname "$resolv")" && : > "$resolv" ;; esac
"""
"""`ip netns` keeps its names under /run, which is not ours to write in a user namespace. A resolv.conf
that was a link into the old /run stays a file that can be mounted over."""

SYSCTLS = {
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}
"""Sysctls that forbid user namespaces, with the forbidding value."""

PROGRAMS = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "mount": "mount"}
"""Required programs, and the Debian package of each."""


class Entrance:
    """Holds a user namespace open where we are not root. `prefix` precedes every command."""

    def __init__(self) -> None:
        self.prefix: tuple[str, ...] = ()
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Entrance:
        if reason := missing():
            raise PlatformError(reason)
        if not _works(AS_ROOT):
            self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._holder is not None:
            self._holder.communicate()

    def _open(self) -> None:
        """Start the holder: it ends when its standard input closes, so even our sudden death closes the namespace."""
        script = f"{PRIVATE_RUN}\necho ready; exec cat"
        self._holder = subprocess.Popen(
            [*AS_ANYBODY, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        if self._holder.stdout.readline() != "ready\n":
            raise PlatformError("a user namespace opened, but /run could not be mounted in it; run as root")
        target = ("--target", str(self._holder.pid), "--user", "--mount", "--net")
        self.prefix = ("nsenter", *target, "--preserve-credentials", f"--wd={Path.cwd()}")


@dataclass(frozen=True, slots=True)
class _Attempt:
    worked: bool
    message: str


def missing(*, tun: bool = False) -> str | None:
    """What prevents network namespaces (and a TUN device in them), None where nothing does."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"no program `{program}`; as root: apt-get install {package}"
    if not _works(AS_ROOT) and not (attempt := _attempt((*AS_ANYBODY, "sh", "-c", PRIVATE_RUN))).worked:
        return _forbidden(attempt.message)
    return _tun_missing() if tun else None


def _works(argv: Sequence[str]) -> bool:
    return _attempt((*argv, "true")).worked


def _attempt(argv: Sequence[str]) -> _Attempt:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return _Attempt(done.returncode == 0, done.stderr.strip().replace("\n", "; "))


def _forbidden(message: str) -> str:
    for name, value in SYSCTLS.items():
        path = PROC_SYS / name
        if path.exists() and path.read_text().strip() == value:
            key = name.replace("/", ".")
            return f"network namespaces need root, or user namespaces, which sysctl {key}={value} forbids here"
    return f"network namespaces need root, or user namespaces, which this host refuses ({message})"


def _tun_missing() -> str | None:
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except FileNotFoundError:
        return f"no {TUN}, which the dispatcher reads packets from; as root: modprobe tun"
    except PermissionError:
        mode = TUN.stat().st_mode & 0o777
        return (
            f"{TUN} has mode {mode:04o}, so that only its owner may use it, and a user namespace does not"
            f" change that; run as root, or as root: chmod 0666 {TUN}"
        )
    except OSError as error:
        return f"{TUN} cannot be opened ({error.strerror}); as root: modprobe tun"
    return None
