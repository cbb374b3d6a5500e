"""`dnsvip` started without importing it once more, which takes longer than most of what the tests then do with it.

A server that has it loaded, one for each process of tests, forks for each start: a process of its own with the
arguments, folder, environment, standard files and session that it is given, and with signals and exit status as ever.
It does not outlive the tests, however they end.
What is about the start itself (a terminal, limits, a name in a list of processes) starts the installed script.

    python -m tests.preloaded dnsvip DESCRIPTOR       the server; DESCRIPTOR is its end of a pair of sockets
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from dnsvip import cli

ROOT = Path(__file__).parents[1]
DNSVIP = Path(sys.executable).with_name("dnsvip")
"""The installed script."""
MODULES = (
    "dnsvip.node.serve",
    "dnsvip.node.dispatch",
    *(f"dnsvip.cli.{module}" for module, _ in cli.COMMANDS.values()),
)
"""What the server has loaded: the commands, and of those that load more when they run, the long ones."""
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWNET, MNT_DETACH, MS_REC, MS_SLAVE = 1 << 17, 1 << 30, 2, 1 << 14, 1 << 19
"""<linux/sched.h>, <linux/mount.h>."""
MESSAGE_BYTES = 1 << 17
"""More than arguments and an environment together take."""


class Process:
    """A started `dnsvip`, with what `subprocess.Popen` offers for it."""

    def __init__(self, pid: int, answer: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._answer = answer

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status, for `timeout` seconds at most; raises TimeoutExpired after them."""
        if self.returncode is None:
            self._answer.settimeout(timeout)
            try:
                self.returncode = int(self._answer.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(DNSVIP), timeout or 0) from None
            self._answer.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def start(
    *argv: str | Path,
    out: IO[bytes],
    error: IO[bytes],
    folder: Path = Path(),
    env: Mapping[str, str] = os.environ,
    new_session: bool = False,
    namespace: str = "",
) -> Process:
    """Start `dnsvip ARGV` in a folder, without input; with `new_session` as the leader of a session of its own, with
    `namespace` as `ip netns exec` does (for root)."""
    request = {
        "argv": [str(DNSVIP), *map(str, argv)],
        "folder": str(folder.absolute()),
        "env": dict(env),
        "session": new_session,
        "namespace": namespace,
    }
    answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, open(os.devnull) as nothing:
        descriptors = [file.fileno() for file in (nothing, out, error, theirs)]
        socket.send_fds(_server(), [json.dumps(request).encode()], descriptors)
    return Process(int(answer.recv(64)), answer)


def run(*argv: str | Path, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `dnsvip ARGV` to its end, with the options of `start`, as `subprocess.run` that captures text does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        process = start(*argv, out=out, error=error, **options)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
        for file in (out, error):
            file.seek(0)
        return subprocess.CompletedProcess(argv, status, out.read().decode(), error.read().decode())


@functools.cache
def _server() -> socket.socket:
    """The way to the server, which ends when this process closes it, at its own end at the latest."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv, null = [sys.executable, "-m", __name__, "dnsvip", str(theirs.fileno())], subprocess.DEVNULL
    with theirs:
        server = subprocess.Popen(
            argv, cwd=ROOT, stdin=null, stdout=null, pass_fds=[theirs.fileno()], start_new_session=True
        )
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


def _serve(door: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until nobody can make one: then what still runs is ended, and None returned. In the new
    process returns the request, with its standard files, and all else closed."""
    with ExitStack() as ours:
        selector = ours.enter_context(selectors.DefaultSelector())
        selector.register(ours.enter_context(door), selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data:
                    selector.unregister(key.fileobj)
                    _tell_status(*key.data)
                    continue
                message, files, *_ = socket.recv_fds(door, MESSAGE_BYTES, 4)
                if not message:
                    for one in selector.get_map().values():
                        if one.data:
                            os.kill(one.data[1], signal.SIGKILL)
                    return None
                *standard, theirs = files
                answer = ours.enter_context(socket.socket(fileno=theirs))
                if not (pid := os.fork()):
                    return {"files": standard, **json.loads(message)}
                for file in standard:
                    os.close(file)
                answer.send(str(pid).encode())
                ended = ours.enter_context(open(os.pidfd_open(pid), "rb", buffering=0))
                selector.register(ended, selectors.EVENT_READ, (ended, pid, answer))


def _tell_status(ended: IO[bytes], pid: int, answer: socket.socket) -> None:
    with ended, answer, suppress(OSError):  # where nobody waits for it any more
        answer.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _enter(namespace: str) -> None:
    """Into the network, with mounts of its own and /sys as that network has it."""
    with open(f"/run/netns/{namespace}") as network:
        _call("setns", network.fileno(), CLONE_NEWNET)
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"", b"/", b"none", MS_SLAVE | MS_REC, None)
    _call("umount2", b"/sys", MNT_DETACH)
    _call("mount", namespace.encode(), b"/sys", b"sysfs", 0, None)


def _call(name: str, *words: Any) -> None:
    if getattr(LIBC, name)(*words):
        raise OSError(ctypes.get_errno(), name)


def main(door: int) -> None:
    """Be the server, and then `dnsvip` in each process that is forked."""
    for module in MODULES:
        import_module(module)
    gc.freeze()
    if request := _serve(socket.socket(fileno=door)):
        for number, file in enumerate(request["files"]):
            os.dup2(file, number)
            os.close(file)
        if request["session"]:
            os.setsid()
        if request["namespace"]:
            _enter(request["namespace"])
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        sys.argv = request["argv"]
        sys.exit(cli.main())


if __name__ == "__main__":
    main(int(sys.argv[2]))
