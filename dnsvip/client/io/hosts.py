"""A hosts file with the addresses of all services, proven where they are IPv6, for one program that does not support
proxies.

It is updated in place while its `async with` block lasts. A proof that is bound to a source port, or valid for a single
connection, cannot be written to a file, nor can the names of a wildcard. The file is in a folder that only its owner
may enter, so nobody else reads the proofs; in the program's namespace it is /etc/hosts, which every user there reads.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from dnsvip.client.io.agent import Agent
from dnsvip.client.io.resolved import Resolved
from dnsvip.errors import ClientError

RETRY_SECONDS = 1.0
SYSTEM_HOSTS = Path("/etc/hosts")
ADDRESS_LENGTH = 39
"""Of an IPv6 address in full; a shorter one is padded."""


class HostsFile:
    """Raises ClientError on entry where a service has no address, or its proofs cannot be written to a file."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._names = tuple(name for name in agent.services if not name.startswith("*."))
        self._path = Path()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> HostsFile:
        if not self._names:
            raise ClientError("--hosts needs an enrolment: there are no names to write into a hosts file")
        if self._agent.proves_per_connection:
            raise ClientError(
                "--hosts cannot serve this client: its proofs are made for one connection each; run without --hosts"
            )
        if (what := self._agent.needs_sockets) is not None:
            raise ClientError(f"--hosts cannot serve this client: no hosts file carries {what}; run without --hosts")
        resolved_names = await self._resolve()
        self._path = Path(mkdtemp(prefix="dnsvip-hosts-")) / "hosts"  # the folder has mode 0700
        self._path.touch()
        self._path.chmod(0o644)
        self._write(resolved_names)
        self._task = asyncio.create_task(self._keep(resolved_names))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        shutil.rmtree(self._path.parent, ignore_errors=True)

    @property
    def entrance(self) -> list[str]:
        """The command prefix that makes this file the command's /etc/hosts."""
        return [sys.executable, "-I", str(Path(__file__).with_name("enter.py")), str(self._path)]

    async def _resolve(self) -> dict[str, Resolved]:
        return {name: await self._agent.resolve(name) for name in self._names}

    async def _keep(self, resolved_names: Mapping[str, Resolved]) -> None:
        while True:
            due = min(resolved.valid_until for resolved in resolved_names.values())
            await asyncio.sleep(max(due - time.time(), RETRY_SECONDS))
            try:
                resolved_names = await self._resolve()
            except (ClientError, OSError):
                continue  # keep the old addresses: better refused than replaced by plain ones
            self._write(resolved_names)

    def _write(self, resolved_names: Mapping[str, Resolved]) -> None:
        """In one write and always of the same length, so that no reader sees half an address."""
        lines = [f"{resolved.address.exploded:<{ADDRESS_LENGTH}} {name}\n" for name, resolved in resolved_names.items()]
        text = "".join([*lines, *_other_lines(self._names)]).encode()
        with self._path.open("r+b", buffering=0) as file:
            file.write(text)
            file.truncate(len(text))


def _other_lines(names: tuple[str, ...]) -> list[str]:
    try:
        lines = SYSTEM_HOSTS.read_text(errors="replace").splitlines(keepends=True)
    except OSError:
        return []
    return [line for line in lines if not set(line.partition("#")[0].lower().split()[1:]) & set(names)]
