"""`dnsvip client exec`: run a program whose connections to enrolled names go through the agent.

Two ways: a proxy named in the program's environment, or an /etc/hosts that only the program sees. We exit with the
program's status and forward signals to it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from dnsvip.client.io.agent import Agent
from dnsvip.client.io.hosts import HostsFile
from dnsvip.client.io.proxy import Proxy
from dnsvip.errors import ClientError

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""The terminal sends these to the program too, which is in our process group."""


class CannotRun(ClientError):
    """The program cannot be started; the exit codes are a shell's: 127 not found, 126 not allowed."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(f"{program}: {error.strerror}")
        self.exit_code = 127 if isinstance(error, FileNotFoundError) else 126


async def run_with_proxy(agent: Agent, argv: Sequence[str]) -> int:
    """Run `argv` with the proxy in its environment; its exit status, 128 + N where signal N ended it."""
    async with Proxy(lambda name, port, claims: agent.connect(name, port, claims=claims)) as proxy:
        return await _run(argv, {**os.environ, **proxy.environment})


async def run_with_hosts(agent: Agent, argv: Sequence[str]) -> int:
    """Run `argv` in a mount namespace whose /etc/hosts holds the proven addresses, renewed while it runs."""
    async with HostsFile(agent) as hosts:
        return await _run([*hosts.entrance, *argv], os.environ)


async def _run(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    with _signals() as arrived:
        try:
            process = await asyncio.create_subprocess_exec(*argv, env=environment)
        except OSError as error:
            raise CannotRun(argv[0], error) from None
        forwarding = asyncio.create_task(_forward(arrived, process))
        status = await process.wait()
        forwarding.cancel()
    return status if status >= 0 else 128 - status


@contextmanager
def _signals() -> Iterator[asyncio.Queue[signal.Signals]]:
    """A queue of the signals we receive instead of acting on them; opened before the program starts, to miss none."""
    arrived: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in FORWARDED + FROM_TERMINAL:
        loop.add_signal_handler(number, arrived.put_nowait, number)
    try:
        yield arrived
    finally:
        for number in FORWARDED + FROM_TERMINAL:
            loop.remove_signal_handler(number)


async def _forward(arrived: asyncio.Queue[signal.Signals], process: Process) -> None:
    while True:
        number = await arrived.get()
        if number not in FROM_TERMINAL or not _in_foreground():
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _in_foreground() -> bool:
    """Whether our process group is the terminal's foreground group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
