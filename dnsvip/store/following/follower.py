"""The snapshot feed of a node: the newest Snapshot available, from the database or from its own disk.

Promise: once started there is always a snapshot; an outage of the database or of the disk stops nothing; subscribers
get every new snapshot once, in order; the node reports a generation only after all its subscribers have taken it,
since key rotation waits for that.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeAlias

import structlog

from dnsvip import __version__
from dnsvip.errors import DnsvipError, SecretError, StoreError
from dnsvip.site import Cluster, Snapshot, epochs
from dnsvip.site.epochs import NodeReport
from dnsvip.site.node_file import NodeConfig
from dnsvip.store.following.disk import Disk
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.snapshots.snapshots import Followed
from dnsvip.store.store import Store

Callback: TypeAlias = Callable[[Snapshot], object]
Detail: TypeAlias = Callable[[], Mapping[str, Any]]

REPORT_SECONDS = 1.0
LEASE_SECONDS = 5.0
ADVANCE_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
REREAD_SECONDS = 2.0
"""How often the key source is reread while an announced key is missing."""

BACK_SECONDS = 86_400.0
"""How long a node reports that its database went back."""

SAVE_SHARE = 10
"""Saving uses at most one part in this many of the time, whatever the site's size and rate of change."""

log = structlog.get_logger(__name__)


class SnapshotFollower:
    """Keeps `snapshot` up to date. `start`, then `run` until cancelled, then `close`; all in one event loop."""

    def __init__(self, config: NodeConfig, roles: Iterable[str], environ: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._roles = frozenset(roles)
        self._environ = environ
        self._instance = secrets.token_hex(8)
        self._callbacks: list[Callback] = []
        self._kek: KeyEncryptionKey | None = None
        self._snapshot: Snapshot | None = None
        self._taken: Snapshot | None = None
        self._taken_at = self._started_at = time.time()
        self._from_database = False
        self._disk = Disk(config.state_dir)
        self._next_key: str | None = None
        self._connected_since: float | None = None
        self._report_now = asyncio.Event()
        self._save_now = asyncio.Event()
        self._detail: Detail = dict
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
        """Whether the database answers, as far as the node knows."""
        return self._connected_since is not None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` with every new snapshot from now on (not the current one); the result unsubscribes.

        A coroutine function is awaited. If a callback raises, the generation is not reported as taken.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def describe(self, detail: Detail) -> None:
        """Report the result of `detail` (JSON-ready) with this node in lists of nodes."""
        self._detail = detail

    async def start(self) -> None:
        """Get the first snapshot, from the database or, if that is unreachable, from the disk.

        Raises StoreError if there is neither, SecretError for a wrong key, InvalidSite never.
        """
        self._kek = await asyncio.to_thread(KeyEncryptionKey.of, self._config, self._environ)
        self._disk.recall()
        try:
            await self._connect()
        except StoreError as error:
            try:
                self._snapshot = await self._disk.snapshot(self._kek)
            except StoreError as missing:
                raise StoreError(f"{error}; and there is no snapshot to start from ({missing})") from error
            log.warning(
                "database is down, starting from the last good snapshot",
                error=str(error),
                generation=self._snapshot.generation,
            )
        self._taken = self.snapshot

    async def run(self) -> None:
        """Follow the database, save and report, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for work in (self._follow, self._report, self._save, self._advance, self._expect_key):
                group.create_task(work())

    async def close(self) -> None:
        """Save what is not saved, sign off and close the database."""
        await self._save_once(at_once=True)
        if self.store is not None:
            with suppress(StoreError):
                async with asyncio.timeout(LONGEST_PAUSE):
                    await self.store.nodes.leave(self._own_report())
            await self.store.close()
            self.store = None

    async def _connect(self) -> None:
        """Open the database if it is not open, and load whole if that has not been done."""
        assert self._kek is not None  # noqa: S101 - set by start
        if self.store is None:
            self.store = await Store.open(self._config.database, self._kek)
        if not self._from_database:
            followed = await self.store.snapshots.follow(None, self._disk.memory.mark)
            self._from_database, self.heard_at = True, time.time()
            await self._accept(followed)
        self._connected_since = self._connected_since or time.time()

    async def _follow(self) -> None:
        pause, said = FIRST_PAUSE, ""
        while True:
            try:
                async with aclosing(self._snapshots()) as snapshots:
                    async for followed in snapshots:
                        pause, said = FIRST_PAUSE, ""
                        await self._accept(followed)
            except DnsvipError as error:
                self._connected_since = None
                if str(error) != said:  # log it once, however often it is tried
                    said = str(error)
                    log.warning("cannot follow the database, going on with what there is", error=said)
                if isinstance(error, SecretError):
                    await self._reread_key()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that not all nodes come at once
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _snapshots(self) -> AsyncGenerator[Followed]:
        await self._connect()
        assert self.store is not None  # noqa: S101 - set by _connect
        async with aclosing(self.store.watch()) as generations:
            async for _ in generations:
                yield await self.store.snapshots.follow(self.snapshot, self._disk.memory.mark)
                self._connected_since = self._connected_since or time.time()

    async def _accept(self, followed: Followed) -> None:
        """Take a state of the database; note whether it went back, and whether its key is about to change."""
        self._disk.note(followed)
        self._next_key = followed.next_key_id
        await self._take(followed.snapshot)

    async def _expect_key(self) -> None:
        """Load an announced key-encryption key before anything is wrapped with it."""
        while True:
            if self._kek is not None and self._next_key is not None and self._next_key not in self._kek.ids:
                await self._reread_key()
            await asyncio.sleep(REREAD_SECONDS)

    async def _reread_key(self) -> None:
        assert self._kek is not None  # noqa: S101 - set by start
        try:
            await asyncio.to_thread(self._kek.reread)
        except SecretError as error:
            log.warning("cannot read the key-encryption key again, going on with the one there is", error=str(error))
        self._report_now.set()

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
            # The subscriber keeps the previous snapshot; this node must not claim to hold the new one.
            log.exception("a generation could not be taken", generation=snapshot.generation)
            return
        self._taken, self._taken_at = snapshot, time.time()
        self._report_now.set()

    def _own_report(self) -> NodeReport:
        taken, now = self._taken or Snapshot(-1), time.time()
        held = (epoch.key_id for keyring in taken.keyrings.values() for epoch in keyring.epochs)
        memory = self._disk.memory
        warnings = {"warnings": [memory.back]} if memory.back and now < memory.back_at + BACK_SECONDS else {}
        return NodeReport(
            self.name,
            self._roles,
            taken.generation,
            __version__,
            now,
            LEASE_SECONDS,
            self._instance,
            self._started_at,
            self._taken_at,
            frozenset(held),
            self._kek.ids if self._kek else frozenset(),
            {**self._detail(), **warnings},
        )

    async def _report(self) -> None:
        while True:
            self._report_now.clear()
            if self.store is not None:
                try:
                    async with asyncio.timeout(None if self.store.is_sqlite else LEASE_SECONDS):
                        await self.store.nodes.report(self._own_report())
                        await self._tell_lost()
                    self.heard_at = time.time()
                    if self._from_database:
                        self._connected_since = self._connected_since or time.time()
                except (StoreError, TimeoutError) as error:
                    self._connected_since = None
                    log.debug("cannot report", error=str(error))
            await _wait(self._report_now, REPORT_SECONDS)

    async def _tell_lost(self) -> None:
        """Reserve the slots of keys that the database has lost."""
        lost = self._disk.memory.lost
        if lost and self.store is not None:
            await self.store.keys.reserve(lost, f"node {self.name}", time.time())
            left = tuple(each for each in self._disk.memory.lost if each not in lost)
            self._disk.memory = replace(self._disk.memory, lost=left)
            self._save_now.set()

    async def _advance(self) -> None:
        """Advance key epochs. Any node may; a node that only dispatches leaves it to the others."""
        while self._roles != {epochs.DISPATCH}:
            await asyncio.sleep(ADVANCE_SECONDS)
            if self.store is None or self._connected_since is None or not self._epochs_wait():
                continue
            try:
                for step in await self.store.keys.advance(time.time(), self._connected_since):
                    log.info("key epoch moved", step=step)
            except DnsvipError as error:
                log.debug("cannot advance key epochs", error=str(error))

    def _epochs_wait(self) -> bool:
        now, clusters = time.time(), self.snapshot.site.clusters
        return any(
            epochs.is_step_near(cluster, keyring.epochs, now)
            for name, keyring in self.snapshot.keyrings.items()
            if isinstance(cluster := clusters[name], Cluster)
        )

    async def _save(self) -> None:
        while True:
            await self._save_now.wait()
            self._save_now.clear()
            start = time.monotonic()
            await self._save_once()
            await asyncio.sleep(SAVE_SHARE * (time.monotonic() - start))

    async def _save_once(self, *, at_once: bool = False) -> None:
        if self._snapshot is not None and self.store is not None and self._kek is not None:
            await self._disk.save(self._snapshot, self.store.identity, self._kek, at_once=at_once)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
