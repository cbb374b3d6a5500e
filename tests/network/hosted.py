"""`dnsvip` on the hosts of a small world, started without importing it once more where that is possible."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dnsvip.demo.host import PATIENCE, CommandFailed, Host
from tests import preloaded

DNSVIP = (sys.executable, "-m", "dnsvip")


def run_on(
    host: Host, *argv: str | Path, check: bool = True, timeout: float = PATIENCE, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`host.run` of a `dnsvip`."""
    if not _is_plain(host):
        return host.run(*DNSVIP, *argv, check=check, timeout=timeout, env=env)
    done = preloaded.run(*argv, env=os.environ | (env or {}), timeout=timeout, namespace=host.namespace)
    if check and done.returncode != 0:
        raise CommandFailed(f"{host.name}$ dnsvip {argv}\nexit {done.returncode}: {done.stderr or done.stdout}")
    return done


def start_on(
    host: Host, *argv: str | Path, log: Path, env: Mapping[str, str] | None = None
) -> preloaded.Process | subprocess.Popen[bytes]:
    """`host.start` of a `dnsvip`."""
    if not _is_plain(host):
        return host.start(*DNSVIP, *argv, log=log, env=env)
    with log.open("ab") as output:
        process = preloaded.start(
            *argv, out=output, error=output, env=os.environ | (env or {}), new_session=True, namespace=host.namespace
        )
    host.keep(process)
    return process


def _is_plain(host: Host) -> bool:
    """Whether nothing but `ip netns exec` leads to it."""
    return not (host.prefix or host.etc)
