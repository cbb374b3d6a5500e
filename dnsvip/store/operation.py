"""What operating a site needs of its database: key epochs, the key-encryption key, nodes, backup and restore."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import update

from dnsvip.address.keyring import Epoch
from dnsvip.errors import Conflict, Problem
from dnsvip.site.epochs import NodeReport, Reserved
from dnsvip.store import backup, keys, loading, registry
from dnsvip.store.access.audit import AuditEntry, record
from dnsvip.store.backup import Header, Progress
from dnsvip.store.cookies import COOKIE_KIND, roll_cookie_secrets
from dnsvip.store.database.tables import state
from dnsvip.store.opened import Opened, Undone
from dnsvip.store.rewrap import KEK_KIND, rewrap
from dnsvip.store.secrets.kek import KeyEncryptionKey


class Operated(Opened):
    """The part of `Store` that operators and nodes use."""

    async def epochs(self, cluster: str | None = None) -> Mapping[str, tuple[Epoch, ...]]:
        """The key epochs by IPv6 cluster, of one cluster where it is named; empty for one that does not exist."""
        async with self._database.read() as connection:
            return await loading.load_epochs(connection, self._kek, cluster)

    async def rotate(self, cluster: str, actor: str, now: float) -> Epoch:
        """Publish a new key epoch of a cluster; `advance` makes it active once dispatchers hold it.

        Raises InvalidSite for an unknown cluster, Conflict where no key slot is free.
        """
        async with self._change() as (connection, generation, _):
            nodes = await registry.all_reports(connection)
            # may free a slot
            _, entries = await keys.advance(connection, self._kek, nodes, now, now, generation, scheduled=False)
            epoch, made = await keys.rotate(connection, self._kek, cluster, now, generation)
            await record(connection, actor, now, generation, [*entries, *made])
        return epoch

    async def announce_key(self, key_id: str, actor: str) -> None:
        """Have nodes read their key source again, as secrets are about to be wrapped with the key of this id."""
        async with self._change() as (connection, generation, now):
            await connection.execute(update(state).values(next_key_id=key_id))
            await record(connection, actor, now, generation, [AuditEntry("+", KEK_KIND, key_id)])

    async def rewrap(self, new: KeyEncryptionKey, actor: str) -> int:
        """Wrap every secret with another key, in one transaction; how many there are. Who does not hold that key
        afterwards goes on with its last snapshot."""
        async with self._change() as (connection, generation, now):
            count = await rewrap(connection, self._kek, new)
            await record(connection, actor, now, generation, [AuditEntry("~", KEK_KIND, new.active_id)])
        return count

    async def rotate_at_once(self, cluster: str, actor: str, now: float) -> Epoch:
        """Reject every address of a cluster given out so far, and use a new key from now on; nothing is waited for.

        Raises InvalidSite for an unknown cluster.
        """
        async with self._change() as (connection, generation, _):
            epoch, entries = await keys.replace_at_once(connection, self._kek, cluster, now, generation)
            await record(connection, actor, now, generation, entries)
        return epoch

    async def reserve(self, lost: Sequence[Reserved], actor: str, now: float) -> list[Reserved]:
        """Keep key slots empty, as a database that went back does not know by itself that it must; the new ones."""
        try:
            async with self._change() as (connection, generation, _):
                if not (new := await keys.reserve(connection, lost, now)):
                    raise Undone
                names = [f"{each.cluster}/{each.slot}" for each in new]
                entries = [AuditEntry("+", "key slot", name) for name in dict.fromkeys(names)]
                await record(connection, actor, now, generation, entries)
        except Undone:
            return []
        return new

    async def reserved(self) -> list[Reserved]:
        """The key slots that are kept empty."""
        async with self._database.read() as connection:
            return await keys.load_reserved(connection)

    async def roll_cookies(self, actor: str) -> int:
        """Have DNS cookies made with the next secret, at once, and still taken from the one before; the generation."""
        async with self._change() as (connection, generation, now):
            await roll_cookie_secrets(connection, self._kek)
            await record(connection, actor, now, generation, [AuditEntry("~", COOKIE_KIND, "secrets")])
        return generation

    async def advance(self, now: float, watched_since: float = 0.0) -> list[str]:
        """Take every step of key epochs that is due; what happened, in words. Safe from several nodes at once.

        `watched_since`: see `epochs.advance`.
        """
        async with self._database.read() as connection:
            nodes = await registry.all_reports(connection)
            if not await keys.is_due(connection, self._kek, nodes, now, watched_since):
                return []
        try:
            async with self._change() as (connection, generation, _):
                nodes = await registry.all_reports(connection)
                events, entries = await keys.advance(connection, self._kek, nodes, now, watched_since, generation)
                await record(connection, "epochs", now, generation, entries)
                if not entries:
                    raise Undone  # another node was quicker
        except Undone:
            return []
        return events

    async def report(self, report: NodeReport) -> None:
        """Note that a node lives and which generation it works with; makes no generation."""
        async with self._database.write_unordered() as connection:
            await registry.put_report(connection, report)

    async def leave(self, report: NodeReport) -> None:
        """Forget a node that stops, so that nothing waits for its lease."""
        async with self._database.write_unordered() as connection:
            await registry.remove_report(connection, report)

    async def nodes(self) -> list[NodeReport]:
        """Every node's last report, lapsed ones (`not is_live(now)`) included for an hour."""
        async with self._database.read() as connection:
            return await registry.all_reports(connection)

    async def lagging_since(self, generations: set[int]) -> Mapping[int, float]:
        """For generations that nodes work with: the unix second at which the next one was made, where there is one."""
        async with self._database.read() as connection:
            return await registry.lagging_since(connection, generations)

    async def forget_node(self, name: str, now: float) -> int:
        """Take a node's processes that are silent off the list; how many there were."""
        async with self._database.write_unordered() as connection:
            return await registry.forget(connection, name, now)

    async def backup(
        self, path: Path, now: float, *, with_audit: bool = True, progress: Progress = lambda _: None
    ) -> tuple[Header, int]:
        """Write one state of the whole database to a new file; what the file says of itself, and the number of rows.

        Raises StoreError where it cannot be written, or is there already.
        """
        async with self._database.read() as connection:
            return await backup.write(connection, path, self._kek, now, with_audit=with_audit, progress=progress)

    async def restore(
        self,
        path: Path,
        actor: str,
        *,
        key: KeyEncryptionKey | None = None,
        replacing: bool = False,
        progress: Progress = lambda _: None,
    ) -> tuple[Header, int]:
        """Put a backup in place of an empty database, or with `replacing` of any; the header and the number of rows.

        `key` is the one that the backup's secrets are under, where that is not this store's. All or nothing, in one
        transaction. Raises StoreError for a file that cannot be used, Conflict where the database holds anything.
        """
        old = key or self._kek
        header, _ = await asyncio.to_thread(backup.check, path, old, progress)
        async with self._database.write() as (connection, before):
            if before and not replacing:
                text = f"holds a site already (generation {before}); a restore would destroy it"
                raise Conflict([Problem("database", text)])
            start, generation = time.monotonic(), max(before, header.generation) + 1
            count = await backup.restore(connection, path, old, self._kek, generation, progress)
            entry = AuditEntry("+", "backup", "restored", None, json.dumps({"at": header.at, "rows": count}))
            await record(connection, actor, time.time(), generation, [entry])
            await self._conclude(connection, generation, start)
        return header, count
