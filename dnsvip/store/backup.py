"""A whole site in one file and back: one consistent state, secrets wrapped as stored, sealed against change.

The file is JSON lines, the same for SQLite and PostgreSQL: a header, `[table, row]` for each row with bytes as base64,
and a last line with the number of rows and a seal, HMAC-SHA256 of all preceding lines under a key derived from the
key-encryption key. What nodes report, usage of clients included, the journals of zones, which updates have been
made, and who is signed in to the console, are left out.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import LargeBinary, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, Problem, StoreError
from dnsvip.site.io.safe_file import draft_of
from dnsvip.store.access.audit import AuditEntry, record
from dnsvip.store.backup_file import FORMAT, VERSION, Header, Progress, check, fields_of, lines_of
from dnsvip.store.database.damage import shown
from dnsvip.store.database.database import ROWS
from dnsvip.store.database.seal import seal_of
from dnsvip.store.database.session import Session
from dnsvip.store.database.state_index import without_state_index
from dnsvip.store.database.tables import (
    KINDS,
    SCHEMA,
    audit,
    client_authority,
    client_master,
    client_match,
    console_session,
    cookie_secret,
    deleted_client,
    dns_token_use,
    drained_node,
    epoch,
    key_slot,
    node,
    state,
    stored_columns,
    token,
    zone_change,
    zone_key,
    zone_refresh,
)
from dnsvip.store.keys.rewrap import SECRETS, rewrapped
from dnsvip.store.objects.deleted import recover
from dnsvip.store.objects.key_floor import floor_of, floor_of_history, highest, leave_room
from dnsvip.store.secrets.kek import CHECK_CONTEXT, CHECK_VALUE, KeyEncryptionKey

PARTS: tuple[Table, ...] = (
    *KINDS.values(), client_match, deleted_client, epoch, key_slot, client_master, cookie_secret, zone_key, token,
    client_authority, drained_node,
    audit,
)  # fmt: skip
"""The tables of a backup, parents first; `state` is in the header."""


class Output(Protocol):
    """What takes the lines of a backup."""

    def write(self, line: bytes, /) -> int:
        """Write a line, ended by a line feed."""


class Backups:
    """Backups of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def write(
        self,
        target: Path | Output,
        now: float,
        *,
        with_audit: bool = True,
        replacing: bool = False,
        progress: Progress = lambda _: None,
    ) -> tuple[Header, int]:
        """Write one state of the whole database to a new file, or to one that is open; its header and the number of
        rows. With `replacing` a file that exists is replaced when all is written.

        Raises StoreError where the file cannot be written, or exists already, and what an open one raises.
        """
        async with self._session.read() as connection:
            header = await _header_of(connection, now, with_audit=with_audit)
            if not isinstance(target, Path):
                return header, await _write_rows(connection, target, header, self._session.kek, progress)
            with draft_of(target, exclusive=not replacing) as draft:
                count = await _write_rows(connection, draft.file, header, self._session.kek, progress)
                draft.commit()
            return header, count

    async def restore(
        self,
        path: Path,
        actor: str,
        *,
        key: KeyEncryptionKey | None = None,
        replacing: bool = False,
        progress: Progress = lambda _: None,
    ) -> tuple[Header, int]:
        """Restore a backup into an empty database, or with `replacing` into any; its header and the number of rows.

        `key` wraps the backup's secrets, if it is not this store's. All or nothing, in one transaction. Raises
        StoreError for an unusable file, Conflict if the database is not empty.
        """
        old = key or self._session.kek
        header, longest = await asyncio.to_thread(check, path, old, progress)
        lines = lines_of(path, old, header, longest)
        async with self._session.database.write() as (connection, before):
            if before and not replacing:
                text = f"holds a site already (generation {before}), which a restore destroys"
                raise Conflict([Problem("database", text)])
            start, generation = time.monotonic(), max(before, header.generation) + 1
            floor = max(await floor_of(connection), await highest(connection) + 1)
            count = await _restore(connection, lines, header, old, self._session.kek, generation, progress)
            of_backup = header.key_floor if header.key_floor is not None else await floor_of_history(connection)
            await leave_room(connection, max(floor, of_backup))
            entry = AuditEntry("+", "backup", "restored", None, json.dumps({"at": header.at, "rows": count}))
            await record(connection, actor, self._session.now(), generation, [entry])
            await self._session.conclude(connection, generation, start)
        return header, count


async def _header_of(connection: AsyncConnection, now: float, *, with_audit: bool) -> Header:
    """The header of a backup of what a read transaction sees."""
    row = (await connection.execute(select(state))).mappings().one()
    floor = await floor_of(connection)
    return Header(row["generation"], row["identity"], SCHEMA, now, row["key_check"], with_audit, floor)


async def _write_rows(
    connection: AsyncConnection, file: Output, header: Header, kek: KeyEncryptionKey, progress: Progress
) -> int:
    salt = secrets.token_bytes(16)
    sealing = kek.sealing(header.key_check, CHECK_CONTEXT, salt)
    count = 0

    def put(value: Any) -> None:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        sealing.update(line)
        file.write(line)

    put({"format": FORMAT, "version": VERSION, "salt": salt.hex(), **_armoured(fields_of(header))})
    for table in PARTS:
        if table is audit and not header.audit:
            continue
        rows = await connection.stream(select(*stored_columns(table)).order_by(*table.primary_key.columns))
        async for some in rows.mappings().partitions(ROWS):
            for row in some:
                put([table.name, _armoured(dict(row))])
            count += len(some)
            progress(count)
    file.write(json.dumps({"rows": count, "seal": sealing.hexdigest()}).encode() + b"\n")
    return count


async def _restore(
    connection: AsyncConnection, lines: Iterator[bytes], header: Header, old: KeyEncryptionKey, new: KeyEncryptionKey,
    generation: int, progress: Progress,
) -> int:  # fmt: skip
    """Replace everything in the database with the rows of a backup, secrets rewrapped with `new`; the number of rows.
    Raises StoreError where its seal does not hold any more. The database gets a new identity, so that nodes load it
    whole."""
    async with without_state_index(connection):
        for table in (*reversed(PARTS), zone_change, zone_refresh, dns_token_use, console_session, node):
            await connection.execute(delete(table))
    count = 0
    async for table, rows in _batches(lines):
        for row in rows if table is token else ():
            row.setdefault("seal", seal_of(row))  # those of earlier versions
        for row in rows if table.name in SECRETS else ():
            row["secret"] = rewrapped(table.name, row, old, new)
        await connection.execute(insert(table), rows)
        count += len(rows)
        progress(count)
    await recover(connection)
    changed = {
        "generation": generation,
        "identity": secrets.token_hex(16),
        "key_check": new.wrap(CHECK_VALUE, CHECK_CONTEXT),
        "next_key_id": None,
    }
    await connection.execute(update(state).values(changed))
    return count


async def _batches(lines: Iterable[bytes]) -> AsyncIterator[tuple[Table, list[dict[str, Any]]]]:
    """Rows of one table at a time, in the order of the file. Audit rows are renumbered in that order."""
    for name, rows in _grouped(lines):
        table = TABLES[name]
        known = {column.name for column in stored_columns(table)} - ({"id"} if table is audit else set())
        binary = [column.name for column in table.columns if isinstance(column.type, LargeBinary)]
        try:
            for row in rows:
                row.update({column: base64.b64decode(row[column]) for column in binary})
        except (KeyError, TypeError, ValueError):
            raise _no_row() from None
        yield table, [{key: value for key, value in row.items() if key in known} for row in rows]


TABLES: Mapping[str, Table] = {table.name: table for table in PARTS}


def _grouped(lines: Iterable[bytes]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    name = ""
    rows: list[dict[str, Any]] = []
    for line in lines:
        table, row = _row_of(line)
        if rows and (table != name or len(rows) == ROWS):
            yield name, rows
            rows = []
        name = table
        rows.append(row)
    if rows:
        yield name, rows


def _row_of(line: bytes) -> tuple[str, dict[str, Any]]:
    """The table and the row of a line; raises StoreError: its seal is verified once more when all are read."""
    try:
        table, row = json.loads(line)
        if table in TABLES and isinstance(row, dict):
            return table, row
    except (ValueError, TypeError, RecursionError):
        pass
    raise _no_row()


def _no_row() -> StoreError:
    return StoreError("the backup has a line that is no row of a table, and nothing of it is used")


def _armoured(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return shown(value) if isinstance(value, str) else value
