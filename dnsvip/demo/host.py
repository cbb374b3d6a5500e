"""One host of a small world: programs, addresses, routes and kernel settings of a network namespace.

A program that fails is reported with its command line and output. It makes and removes
no namespace: `netns` does.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dnsvip.errors import DnsvipError

STOP_SECONDS = 3.0
PATIENCE = 90.0
"""Seconds that a program may take on a busy machine."""
SET_SYSCTLS = 'for pair; do printf %s "${pair#*=}" > "/proc/sys/$(echo "${pair%%=*}" | tr . /)" || exit; done'
BIND_ETC = 'for f in "$1"/*; do mount --bind "$f" "/etc/${f##*/}" || exit; done; shift; exec "$@"'
"""Gives a host its own files in /etc; `ip netns exec` has already made the mounts private."""


class CommandFailed(DnsvipError):
    """A program in a host failed or took too long; the message has its command line and output."""


@dataclass(frozen=True)
class Host:
    """One network namespace. Paths in commands are the machine's own: files are shared."""

    name: str
    namespace: str
    prefix: tuple[str, ...] = field(repr=False)
    bridge: str | None = None
    etc: Path | None = None
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False, compare=False)

    def run(
        self,
        *argv: str | Path,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - the name subprocess.run uses
        timeout: float = PATIENCE,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end (`timeout` in seconds). With `check`, raises CommandFailed unless it exits 0."""
        command = self.command(*argv)
        try:
            done = subprocess.run(
                command,
                input=input,
                timeout=timeout,
                env=_environment(env),
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise CommandFailed(f"{self.name}$ {shown(argv)}\nstill running after {timeout} s") from late
        if check and done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise CommandFailed(f"{self.name}$ {shown(argv)}\nexit {done.returncode}: {said}")
        return done

    def start(
        self, *argv: str | Path, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program that is stopped with the world at the latest; its output goes to `log`."""
        with open(log or os.devnull, "ab") as output:
            process = subprocess.Popen(
                self.command(*argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(env),
                start_new_session=True,  # Ctrl-C is for us: we stop it in our own order
            )
        self.keep(process)
        return process

    def keep(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a process with the world at the latest."""
        self._started.append(process)

    def command(self, *argv: str | Path) -> list[str]:
        """The command line that runs `argv` in this host."""
        words = [str(word) for word in argv]
        if self.etc:
            words = ["sh", "-c", BIND_ETC, "sh", str(self.etc), *words]
        return [*self.prefix, "ip", "netns", "exec", self.namespace, *words]

    def ip(self, *words: str) -> str:
        """Run `ip` on this host's network."""
        return run_plain([*self.prefix, "ip", "-n", self.namespace, *words])

    def address(self, interface: str, *addresses: str) -> None:
        """Add addresses such as "2001:db8::1/64" to an interface; they are usable at once."""
        for address in addresses:
            self.ip("address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))

    def route(self, to: str, *words: str) -> None:
        """Add a route: `route("2001:db8::/32", "via", "fe80::1")`, `route("local 2001:db8::/64", "dev", "lo")`."""
        family = "-6" if ":" in f"{to} {' '.join(words)}" else "-4"
        self.ip(family, "route", "add", *to.split(), *words)

    def forwarding(self) -> None:
        """Make this host a router, IPv4 and IPv6."""
        self.sysctl({"net.ipv6.conf.all.forwarding": "1", "net.ipv4.ip_forward": "1"})

    def sysctl(self, settings: Mapping[str, str]) -> None:
        """Set kernel parameters of this host's network."""
        pairs = [f"{key}={value}" for key, value in settings.items()]
        self.run("sh", "-c", SET_SYSCTLS, "sh", *pairs)

    def stop(self) -> None:
        """Stop the programs started here, the newest first: SIGTERM, then SIGKILL."""
        for process in reversed(self._started):
            stop(process)
        self._started.clear()


def stop(process: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> int:
    """Stop a started program by its PID and return its exit status; killed after `seconds`."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def shown(argv: Sequence[str | Path]) -> str:
    """A command line as one would type it."""
    return shlex.join(str(word) for word in argv)


def run_plain(command: Sequence[str]) -> str:
    """Standard output of a command outside of all hosts; raises CommandFailed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode != 0:
        raise CommandFailed(f"{shown(command)}\nexit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return {**os.environ, **extra} if extra else None
