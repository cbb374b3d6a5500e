"""The feed of a node: the newest Snapshot it can have, from the database or from its own disk.

Promise: once started there is always a snapshot; an outage of the database or of the disk stops
nothing; subscribers get every new snapshot once, in order; the node reports a generation only after
all its subscribers have taken it, since key rotation waits for that.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import TypeAlias

import structlog

from dnsvip import __version__, epochs
from dnsvip.codec.keyring import EpochState
from dnsvip.config import NodeConfig
from dnsvip.epochs import NodeReport
from dnsvip.errors import DnsvipError, StoreError
from dnsvip.model import Snapshot
from dnsvip.store import lastgood
from dnsvip.store.repository import Store
from dnsvip.store.secrets import KeyEncryptionKey

Callback: TypeAlias = Callable[[Snapshot], object]

REPORT_SECONDS = 1.0
LEASE_SECONDS = 5.0
ADVANCE_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
SAVE_SHARE = 10
"""Saving takes at most one part in this many of the time, however large the site and busy its operators."""

log = structlog.get_logger(__name__)


class Feed:
    """Keeps `snapshot` up to date. `start`, then `run` until cancelled, then `close`; all in one event loop."""

    def __init__(self, config: NodeConfig, roles: Iterable[str], environ: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._roles = frozenset(roles)
        self._environ = environ
        self._instance = secrets.token_hex(8)
        self._callbacks: list[Callback] = []
        self._kek: KeyEncryptionKey | None = None
        self._snapshot: Snapshot | None = None
        self._taken = -1
        self._from_database = False
        self._connected_since: float | None = None
        self._report_now = asyncio.Event()
        self._save_now = asyncio.Event()
        self._saved: Snapshot | None = None
        self.store: Store | None = None
        self.heard_at = time.time()
        """When the database answered last, else when this was made, in unix seconds."""
        self.name = config.node or socket.gethostname()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; raises StoreError before `start`."""
        if self._snapshot is None:
            raise StoreError("the feed has not been started")
        return self._snapshot

    @property
    def connected(self) -> bool:
        """Whether the database answers, as far as is known."""
        return self._connected_since is not None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Have every new snapshot handed over from now on (not the present one); call the result to stop it.

        A callback may be a coroutine function, and is then awaited. Where one raises, the generation is not
        reported as taken.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def start(self) -> None:
        """Get the first snapshot: from the database, or from the disk where that cannot be reached.

        Raises StoreError where there is neither, SecretError for a wrong key, InvalidSite never.
        """
        self._kek = KeyEncryptionKey.load(self._config.key_file, self._environ)
        try:
            await self._connect()
        except StoreError as error:
            try:
                self._snapshot = await asyncio.to_thread(lastgood.load, self._config.state_dir, self._kek)
            except StoreError as missing:
                raise StoreError(f"{error}; and there is no snapshot to start from ({missing})") from error
            log.warning(
                "database is down, starting from the last good snapshot",
                error=str(error),
                generation=self._snapshot.generation,
            )
        self._taken = self.snapshot.generation

    async def run(self) -> None:
        """Follow the database, save and report, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (self._follow, self._report, self._save, self._advance):
                group.create_task(work())

    async def close(self) -> None:
        """Save what is not saved, sign off and close the database."""
        await self._save_once()
        if self.store is not None:
            with suppress(StoreError):
                async with asyncio.timeout(LONGEST_PAUSE):
                    await self.store.leave(self._own_report())
            await self.store.close()
            self.store = None

    async def _connect(self) -> None:
        """Open the database where it is not, and load whole where that has not been done."""
        assert self._kek is not None  # noqa: S101 - set by start
        if self.store is None:
            self.store = await Store.open(self._config.database, self._kek)
        if not self._from_database:
            snapshot = await self.store.snapshot()
            self._from_database, self.heard_at = True, time.time()
            await self._take(snapshot)
        self._connected_since = self._connected_since or time.time()

    async def _follow(self) -> None:
        pause, said = FIRST_PAUSE, ""
        while True:
            try:
                async with aclosing(self._snapshots()) as snapshots:
                    async for snapshot in snapshots:
                        pause, said = FIRST_PAUSE, ""
                        await self._take(snapshot)
            except DnsvipError as error:
                self._connected_since = None
                if str(error) != said:  # once, however often it is tried
                    said = str(error)
                    log.warning("cannot follow the database, going on with what there is", error=said)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _snapshots(self) -> AsyncGenerator[Snapshot]:
        await self._connect()
        assert self.store is not None  # noqa: S101 - set by _connect
        async with aclosing(self.store.watch()) as generations:
            async for _ in generations:
                yield await self.store.refresh(self.snapshot)
                self._connected_since = self._connected_since or time.time()

    async def _take(self, snapshot: Snapshot) -> None:
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        self._save_now.set()
        try:
            for callback in tuple(self._callbacks):
                if isinstance(waiting := callback(snapshot), Awaitable):
                    await waiting
        except Exception:
            # The subscriber goes on with the snapshot before; this node must not claim to hold the new one.
            log.exception("a generation could not be taken", generation=snapshot.generation)
            return
        self._taken = snapshot.generation
        self._report_now.set()

    def _own_report(self) -> NodeReport:
        return NodeReport(self.name, self._roles, self._taken, __version__, time.time(), LEASE_SECONDS, self._instance)

    async def _report(self) -> None:
        while True:
            self._report_now.clear()
            if self.store is not None:
                try:
                    async with asyncio.timeout(None if self.store.is_sqlite else LEASE_SECONDS):
                        await self.store.report(self._own_report())
                    self.heard_at = time.time()
                    if self._from_database:
                        self._connected_since = self._connected_since or time.time()
                except (StoreError, TimeoutError) as error:
                    self._connected_since = None
                    log.debug("cannot report", error=str(error))
            await _wait(self._report_now, REPORT_SECONDS)

    async def _advance(self) -> None:
        """Move key epochs on. Any node may; a node that only dispatches leaves it to the others."""
        while self._roles != {epochs.DISPATCH}:
            await asyncio.sleep(ADVANCE_SECONDS)
            if self.store is None or self._connected_since is None or not self._epochs_wait():
                continue
            try:
                for step in await self.store.advance(time.time(), self._connected_since):
                    log.info("key epoch moved", step=step)
            except DnsvipError as error:
                log.debug("cannot advance key epochs", error=str(error))

    def _epochs_wait(self) -> bool:
        now = time.time()
        held = (epoch for keyring in self.snapshot.keyrings.values() for epoch in keyring.epochs)
        return any(
            epoch.state is EpochState.PUBLISHED
            or (epoch.state is EpochState.RETIRING and now >= epochs.retires_at(epoch))
            for epoch in held
        )

    async def _save(self) -> None:
        while True:
            await self._save_now.wait()
            self._save_now.clear()
            start = time.monotonic()
            await self._save_once()
            await asyncio.sleep(SAVE_SHARE * (time.monotonic() - start))

    async def _save_once(self) -> None:
        snapshot = self._snapshot
        if snapshot is self._saved or snapshot is None or self.store is None or self._kek is None:
            return
        try:
            await asyncio.to_thread(lastgood.save, self._config.state_dir, snapshot, self.store.identity, self._kek)
            self._saved = snapshot
        except OSError as error:
            log.warning(
                "cannot save the last good snapshot, going on without; a restart needs the database",
                folder=str(self._config.state_dir),
                error=error.strerror,
            )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
