"""Follows the site: keeps a node's newest Snapshot, from the database or from the node's own disk.

Promise: once started, a follower always has a snapshot, through outages of the database and of the disk. Subscribers
get each new snapshot once, in order. The node reports a generation only after every subscriber has applied it, because
key rotation relies on these reports.
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
from dnsvip.site.zone_changes import ZoneDiffer
from dnsvip.site.zone_keys import is_zone_step_near
from dnsvip.store.database.damage import shown
from dnsvip.store.following.denials import LASTING, Denials
from dnsvip.store.following.disk import Disk
from dnsvip.store.following.resting import resting
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.snapshots.snapshots import Followed
from dnsvip.store.store import Store

Callback: TypeAlias = Callable[[Snapshot], object]
Detail: TypeAlias = Callable[[], Mapping[str, Any]]

REPORT_SECONDS = 1.0
LEASE_SECONDS = 5.0
ADVANCE_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
REPORT, ADVANCE, PRUNE = "cannot report", "cannot advance key epochs", "cannot delete old audit rows"
REREAD_SECONDS = 2.0
"""Interval between reads of the key source while an announced key is missing from it."""

BACK_SECONDS = 86_400.0
"""How long a node warns that its database went back."""

PRUNE_SECONDS = 3600.0
SAVE_SHARE = 10
"""Saving takes at most 1/SAVE_SHARE of the time, however large the site and however frequent its changes."""

MOST_NAMED = 100
"""How many objects that cannot be read a report names."""

log = structlog.get_logger(__name__)


class SnapshotFollower:
    """Keeps `snapshot` up to date. `start`, then `run` until cancelled, then `close`; all in one event loop."""

    def __init__(
        self,
        config: NodeConfig,
        roles: Iterable[str],
        environ: Mapping[str, str] = os.environ,
        differ: ZoneDiffer | None = None,
    ) -> None:
        self._config, self._differ = config, differ
        self._roles = frozenset(roles)
        self._environ = environ
        self._instance = secrets.token_hex(8)
        self._callbacks: list[Callback] = []
        self._kek: KeyEncryptionKey | None = None
        self._snapshot: Snapshot | None = None
        self._applied: Snapshot | None = None
        self._applied_at = self._started_at = time.time()
        self._from_database = False
        self._disk = Disk(config.state_dir)
        self._next_key: str | None = None
        self._connected_since: float | None = None
        self._report_now = asyncio.Event()
        self._save_now = asyncio.Event()
        self._detail: Detail = dict
        self._failures: tuple[str, ...] = ()
        self._stuck = ""
        self._denied = Denials()
        self.store: Store | None = None
        """The open database, for the node's own duties: whatever callers of the API ask, these have connections."""
        self.for_callers: Store | None = None
        """The same for callers of the API; None without one."""
        self.heard_at = time.time()
        """When the database last answered, initially when this follower was created; unix seconds."""
        self.name = config.node or socket.gethostname()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; raises StoreError before `start`."""
        if self._snapshot is None:
            raise StoreError("the follower has not been started")
        return self._snapshot

    @property
    def instance(self) -> str:
        """What tells this process apart from others with the same name."""
        return self._instance

    def now(self) -> float:
        """The time that all nodes share, in unix seconds; before the database is open that of this machine."""
        return time.time() if self.store is None else self.store.clock.now()

    @property
    def connected(self) -> bool:
        """Whether the database answered the last request."""
        return self._connected_since is not None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` with every new snapshot, not with the current one; returns a function that unsubscribes.

        A coroutine function is awaited. If a callback raises, the others are still called, the generation is not
        reported as applied, and the node reports the error as a warning.
        """
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def describe(self, detail: Detail) -> None:
        """Add the result of `detail`, called for each report and JSON-serializable, to the node's reports; texts under
        "warnings" are added to the node's own."""
        self._detail = detail

    async def start(self) -> None:
        """Load the first snapshot from the database, or from the disk if the database is unreachable.

        Raises StoreError if neither has one, SecretError for a wrong key.
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
        self._applied = self.snapshot

    async def run(self) -> None:
        """Follow the database, save snapshots and report, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for loop in (self._follow, self._report, self._save, self._advance, self._await_key, self._prune):
                group.create_task(loop())

    async def close(self) -> None:
        """Save the snapshot if it is not saved, withdraw the node's report and close the database."""
        await self._save_once(at_once=True)
        if self.store is not None:
            with suppress(StoreError, TimeoutError):  # a database that is away or busy holds no node up at its end
                async with asyncio.timeout(LONGEST_PAUSE):
                    await self.store.nodes.leave(self._own_report())
            await self.store.close()
            self.store = self.for_callers = None

    async def _connect(self) -> None:
        """Open the database if it is not open, and load the whole site if that has not happened yet."""
        assert self._kek is not None  # noqa: S101 - set by start
        if self.store is None:
            self.store = await Store.open(
                self._config.database, self._kek, listen=self._config.database_listen, differ=self._differ
            )
            if self._config.admin is not None:
                limits = self._config.admin.limits
                self.for_callers = self.store.for_callers(
                    limits.database_requests, limits.database_per_token, limits.turn_seconds
                )
        if not self._from_database:
            followed = await self._read(self.store, None)
            self._from_database, self.heard_at = True, self.now()
            await self._accept(followed)
        self._connected_since = self._connected_since or self.now()

    async def _read(self, store: Store, old: Snapshot | None) -> Followed:
        """The state of the database. Where this program fails at it, StoreError: the node serves what it has."""
        try:
            followed = await store.snapshots.follow(old, self._disk.memory.mark)
            self._disk.note(followed)
        except DnsvipError:
            raise
        except Exception as error:
            self._stuck = _once(self._stuck, "the site of the database cannot be loaded, a fault of the program", error)
            raise StoreError(f"the site of the database cannot be loaded: {self._stuck}") from error
        self._stuck = ""
        return followed

    async def _follow(self) -> None:
        pause, logged = FIRST_PAUSE, ""
        while True:
            try:
                async with aclosing(self._snapshots()) as snapshots:
                    async for followed in snapshots:
                        pause, logged = FIRST_PAUSE, ""
                        await self._accept(followed)
            except DnsvipError as error:
                self._connected_since = None
                if str(error) != logged:  # log an error once, not at every attempt
                    logged = str(error)
                    log.warning("cannot follow the database, serving the last snapshot", error=logged)
                if isinstance(error, SecretError):
                    await self._reread_key()
            except Exception as error:  # noqa: BLE001 - the node goes on, and names it
                logged = _once(logged, "cannot follow the database, serving the last snapshot", error)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter between nodes, nothing secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _snapshots(self) -> AsyncGenerator[Followed]:
        await self._connect()
        assert self.store is not None  # noqa: S101 - set by _connect
        async with aclosing(self.store.watch()) as generations:
            async for _ in generations:
                async with resting():
                    yield await self._read(self.store, self.snapshot)
                    self._connected_since = self._connected_since or self.now()

    async def _accept(self, followed: Followed) -> None:
        """Apply a state of the database; note whether it went back, and the next key-encryption key announced."""
        known = self._snapshot.unreadable if self._snapshot else ()
        for problem in followed.snapshot.unreadable:
            if problem not in known:
                log.error("an object is left out", where=problem.where, problem=problem.message)
        self._next_key = followed.next_key_id
        await self._apply(followed.snapshot)

    async def _await_key(self) -> None:
        """Reread the key source until it holds an announced key, before anything is wrapped with that key."""
        while True:
            if self._kek is not None and self._next_key is not None and self._next_key not in self._kek.ids:
                await self._reread_key()
            await asyncio.sleep(REREAD_SECONDS)

    async def _reread_key(self) -> None:
        assert self._kek is not None  # noqa: S101 - set by start
        try:
            await asyncio.to_thread(self._kek.reread)
        except SecretError as error:
            log.warning("cannot reread the key-encryption key, keeping the current one", error=str(error))
        self._report_now.set()

    async def _apply(self, snapshot: Snapshot) -> None:
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        self._save_now.set()
        failures = []
        for callback in tuple(self._callbacks):
            try:
                if isinstance(pending := callback(snapshot), Awaitable):
                    await pending
            except Exception as error:
                # The subscriber keeps the previous snapshot, so this node must not report the new one.
                log.exception("a generation could not be applied", generation=snapshot.generation)
                text = f"generation {snapshot.generation} could not be applied: {type(error).__name__}: {error}"
                failures.append(text)
        self._failures = tuple(failures)
        if not failures:
            self._applied, self._applied_at = snapshot, self.now()
        if epochs.DISPATCH in self._roles:  # keys wait for it; of others a report a second is enough, and they are many
            self._report_now.set()

    def _own_report(self) -> NodeReport:
        applied, now = self._applied or Snapshot(-1), self.now()
        held = (epoch.key_id for keyring in applied.keyrings.values() for epoch in keyring.epochs)
        memory = self._disk.memory
        back = [memory.back] if memory.back and now < memory.back_at + BACK_SECONDS else []
        detail = dict(self._detail())
        unreadable = self._snapshot.unreadable if self._snapshot else ()
        if unreadable:
            names = [problem.where for problem in unreadable]
            detail["broken_objects"] = [*names, *detail.get("broken_objects", ())][:MOST_NAMED]
        left_out = [f"{problem.where} is left out: {problem.message}" for problem in unreadable[:MOST_NAMED]]
        own = [
            *self._failures,
            *([f"the site of the database cannot be loaded: {self._stuck}"] if self._stuck else []),
            *self._denied.texts(but=REPORT),
            *back,
            *([self.store.clock.complaint] if self.store and not self.store.clock.agrees else []),
        ]
        warnings = [*own, *left_out, *detail.pop("warnings", ())]
        left_out_about = [problem.where.split(".", 1) for problem in unreadable[:MOST_NAMED]]
        about = [*[""] * len(own), *left_out_about, *detail.pop("about", ())]
        return NodeReport(
            self.name,
            self._roles,
            applied.generation,
            __version__,
            now,
            LEASE_SECONDS,
            self._instance,
            self._started_at,
            self._applied_at,
            frozenset(held),
            self._kek.ids if self._kek else frozenset(),
            {**detail, "warnings": warnings, "about": about} if warnings else detail,
        )

    async def _report(self) -> None:
        logged = ""
        while True:
            self._report_now.clear()
            if self.store is not None:
                try:
                    async with asyncio.timeout(None if self.store.is_sqlite else LEASE_SECONDS):
                        await self.store.nodes.report(self._own_report())
                        await self._reserve_lost()
                    self.heard_at = self.now()
                    self._denied.end(REPORT)
                    if self._from_database:
                        self._connected_since = self._connected_since or self.now()
                except (StoreError, TimeoutError) as error:
                    if not isinstance(error, LASTING):
                        self._connected_since = None
                    self._denied.note(REPORT, error)
                except Exception as error:  # noqa: BLE001 - the node goes on, and names it
                    logged = _once(logged, "cannot report, a fault of the program", error)
            await _wait(self._report_now, REPORT_SECONDS)

    async def _reserve_lost(self) -> None:
        """Reserve the slots whose keys the database has lost, so that no new key fills them."""
        lost = self._disk.memory.lost
        if lost and self.store is not None:
            await self.store.keys.reserve(lost, f"node {self.name}", self.now())
            left = tuple(slot for slot in self._disk.memory.lost if slot not in lost)
            self._disk.memory = replace(self._disk.memory, lost=left)
            self._save_now.set()

    async def _advance(self) -> None:
        """Advance key epochs. Any node may; a node that only dispatches leaves it to the others."""
        logged = ""
        while self._roles != {epochs.DISPATCH}:
            await asyncio.sleep(LONGEST_PAUSE if ADVANCE in self._denied else ADVANCE_SECONDS)
            if self.store is None or self._connected_since is None or not self.store.clock.tells_age:
                continue
            try:
                if self._is_step_near():
                    for step in await self.store.keys.advance(self.now(), self._connected_since):
                        log.info("key epoch advanced", step=step)
                self._denied.end(ADVANCE)
                logged = ""
            except DnsvipError as error:
                self._denied.note(ADVANCE, error)
            except Exception as error:  # noqa: BLE001 - the node goes on, and names it
                logged = _once(logged, "cannot advance key epochs, a fault of the program", error)

    async def _prune(self) -> None:
        """Delete old audit rows, on nodes with an API."""
        while self._config.admin is not None:
            await asyncio.sleep(PRUNE_SECONDS)
            keep = self._config.admin.audit
            try:
                if self.store is not None and self.store.clock.tells_age:
                    count = await self.store.audit.prune(self.now(), keep.keep_rows, keep.keep_days * 86_400.0)
                    log.debug("old audit rows deleted", rows=count)
                    self._denied.end(PRUNE)
            except DnsvipError as error:
                self._denied.note(PRUNE, error)
            except Exception:
                log.exception("cannot delete old audit rows, a fault of the program")

    def _is_step_near(self) -> bool:
        now, clusters = self.now(), self.snapshot.site.clusters
        return any(
            epochs.is_step_near(cluster, keyring.epochs, now)
            for name, keyring in self.snapshot.keyrings.items()
            if isinstance(cluster := clusters[name], Cluster)
        ) or any(is_zone_step_near(keys, now) for keys in self.snapshot.zone_keys.values())

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


def _once(logged: str, what: str, error: Exception) -> str:
    """Log an error unless it was the last one; its text."""
    text = shown(f"{type(error).__name__}: {error}")
    if text != logged:
        log.error(what, error=text, exc_info=error)
    return text


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
