"""Audit rows: who changed what, in which generation. Followers read removals from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import RowMapping, ScalarSelect, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site.plain import JsonObject
from dnsvip.store.access.audit_pruning import TRANSFER, prune
from dnsvip.store.access.audit_search import AuditSearch, VisibleKinds
from dnsvip.store.access.paging import beginning_within, size
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import readable, shown
from dnsvip.store.database.session import Session, Transaction
from dnsvip.store.database.tables import audit

ENROLMENT = "enrolment"
"""The kind of rows about what a client was given to prove its identity by; their name is the client's."""

LARGE = 8192
"""Characters of objects that are shortened by a thread."""

LONGEST_FORM = 4096
"""Characters of an object in an audit row that are kept whole; of a longer one the long texts are told by a digest."""

LONGEST_ROW = 16_384
"""Characters of a form with its long texts told so; of a longer one the largest lists and tables are digests too."""

LONGEST_SOURCE = 64
"""Characters of an address; one of IPv6 has 39, and up to 16 more for its zone."""

LONGEST_TEXT = 128
"""Characters of a text that stays in a longer form."""


def shortened(form: str | None, whole_until: int = LONGEST_FORM) -> str | None:
    """The JSON of an object as an audit row keeps it: in one of more than `whole_until` characters each long text is
    its digest and its length, and so is each list and table that is still too large."""
    if form is None or len(form) <= whole_until:
        return form
    whole = json.loads(form)
    short = _short(whole)
    sizes = {name: len(_json(value)) for name, value in short.items()}
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sum(sizes.values()) <= LONGEST_ROW:
            break
        if isinstance(whole[name], dict | list):
            text = _json(whole[name])
            short[name] = f"{_digest(text)} ({len(whole[name])} items, {len(text)} characters)"
            sizes[name] = len(short[name])
    return _json(short)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {_short(key): _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{_digest(value)} ({len(value)} characters)"
    return value


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change to record; `before` and `after` are JSON without secrets."""

    action: str
    kind: str
    name: str
    before: str | None = None
    after: str | None = None


def enrolled(client: str, key_generation: int, **what: Any) -> AuditEntry:
    """That a client was given its keys, or a certificate: what is told of them, without secrets."""
    return AuditEntry("+", ENROLMENT, client, None, json.dumps({"key_generation": key_generation, **what}))


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One recorded change. `at` is in unix seconds; `id` rises with time and is the key of pages. `source` is the
    address that the call came from (`unix`: by the Unix socket); None where a node or a command did it by itself."""

    id: int
    generation: int
    at: float
    actor: str
    action: str
    kind: str
    name: str
    before: JsonObject | None
    after: JsonObject | None
    source: str | None = None


class Audit:
    """The audit rows of a store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def rows(
        self,
        limit: int = 100,
        before: int | None = None,
        about: Mapping[str, str] | None = None,
        since: float = 0.0,
        visible: VisibleKinds | None = None,
    ) -> list[AuditRow]:
        """The newest rows first, none older than `since` (unix seconds).

        `before` is the id of the last row of the previous page. `about` maps columns (kind, name, actor, action,
        source) to the values to match. `visible` narrows them to the objects that a caller may see.
        """
        search = AuditSearch(about or {}, before, since, visible=visible)
        return [audit_row(row) for row in await self._found(search, limit)]

    async def page_within(self, most: int, limit: int, search: AuditSearch) -> tuple[list[AuditRow], bool]:
        """The newest rows searched for first, those that begin within `most` characters of their objects, and whether
        there is more."""
        found = await self._found(search, limit + 1)
        sizes = [size(row["before"], row["after"]) for row in found]
        kept = found[: min(limit, beginning_within(sizes, most))]
        large = size(*(text for row in kept for text in (row["before"], row["after"]))) > LARGE
        return await aside(large, lambda: list(map(audit_row, kept))), len(found) > len(kept)

    async def _found(self, search: AuditSearch, limit: int) -> Sequence[RowMapping]:
        async with self._session.read() as connection:
            conditions = await search.conditions(connection)
            if conditions is None:
                return ()
            query = select(audit).where(*conditions).order_by(audit.c.id.desc()).limit(limit)
            return (await connection.execute(query)).mappings().all()

    async def note(self, actor: str, entry: AuditEntry) -> None:
        """Record what changes no object, such as keys that were given out; raises RevokedError as a change does."""
        async with self._session.change() as change:
            await record_change(change, actor, [entry])

    async def prune(self, now: float, keep_rows: int, keep_seconds: float) -> int:
        """Delete old rows (audit_pruning.py) at `now` (unix seconds); their number."""
        return await prune(self._session, now, keep_rows, keep_seconds)


async def record(
    connection: AsyncConnection,
    actor: str,
    at: float,
    generation: int,
    entries: Sequence[AuditEntry],
    source: str | None = None,
) -> None:
    """Write the entries of the change that makes `generation`, which an address asks for."""
    if entries:
        head = {"actor": actor, "at": at, "generation": generation, "source": bounded(source)}
        large = sum(size(entry.before, entry.after) for entry in entries) > LARGE
        # What a primary sent is its own, and it may send other zones without end.
        whole_until = LONGEST_TEXT if actor.startswith(TRANSFER) else LONGEST_FORM
        rows = await aside(large, lambda: [head | _row(entry, whole_until) for entry in entries])
        await connection.execute(insert(audit), rows)


async def record_change(
    change: Transaction, actor: str, entries: Sequence[AuditEntry], at: float | None = None
) -> None:
    """Write the entries of a change, made at its beginning or `at` (unix seconds)."""
    at = change.at if at is None else at
    await record(change.connection, actor, at, change.generation, entries, change.source)


def bounded(source: str | None) -> str | None:
    """An address as a row keeps it: what a listener calls its peer may be longer than any."""
    return None if source is None else source[:LONGEST_SOURCE]


def _row(entry: AuditEntry, whole_until: int) -> dict[str, Any]:
    before, after = (shortened(form, whole_until) for form in (entry.before, entry.after))
    return asdict(entry) | {"before": before, "after": after}


def stamp_of(generation: Any) -> ScalarSelect[Any]:
    """A query for when a generation was made, by its audit rows: for `read_stamp`."""
    return select(audit.c.at).where(audit.c.generation == generation).limit(1).scalar_subquery()


def read_stamp(at: Any) -> float | None:
    """A stamp in unix seconds; None where a generation has none."""
    return at if isinstance(at, float) else None


def audit_row(row: Mapping[Any, Any]) -> AuditRow:
    """A row; of a damaged one what can be read, `unreadable` in the place of an object that is none, and 0 in that of
    a number."""
    generation, at = row["generation"], row["at"]
    return AuditRow(
        row["id"],
        generation if isinstance(generation, int) else 0,
        at if isinstance(at, float) else 0.0,
        shown(row["actor"]),
        shown(row["action"]),
        shown(row["kind"]),
        shown(row["name"]),
        _parsed(row["before"]),
        _parsed(row["after"]),
        None if row["source"] is None else shown(row["source"])[:LONGEST_TEXT],
    )


def _parsed(text: Any) -> JsonObject | None:
    if text is None:
        return None
    try:
        form = json.loads(readable(text))
    except (ValueError, RecursionError):
        form = None
    return form if isinstance(form, dict) else {"unreadable": "what is stored of it cannot be read"}
