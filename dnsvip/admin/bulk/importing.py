"""One import of clients from its lines to its report, and one export: what a process does for the API.

Both read and write the store by connections of their own where they run in a process of their own; what they report are
lines of JSON, what they export are lines of clients.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import IO, Literal, TypeAlias

from dnsvip.admin.bulk import lines
from dnsvip.admin.http.collection import name_of_thing
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import LONGEST_PAGE
from dnsvip.admin.objects.clients import settled
from dnsvip.errors import Problem
from dnsvip.site.plain import JsonObject, SiteObject, dump, dump_text
from dnsvip.site.rights import Rights
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import Listing, Store
from dnsvip.store.objects.bulk import LINES, Line, LineProblem, Tally
from dnsvip.store.store import StoreAccess

STEP = 500
"""Lines checked at a time, so that a thread never holds the GIL for long."""

PROGRESS_EVERY = 10_000
"""Lines between two reports of progress."""

Format: TypeAlias = Literal["ndjson", "csv"]


@dataclass(frozen=True, slots=True)
class Import:
    """What is to be imported, by whom, with which rights, and at most how many lines."""

    format: Format
    per_line: bool
    dry_run: bool
    actor: str
    rights: Rights
    most_lines: int


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an import. `errors` are at most the first 1000, `failed` counts all of them. `generation` is that
    from which on it holds, null where nothing was stored."""

    applied: bool
    dry_run: bool
    lines: int
    made: int
    changed: int
    unchanged: int
    failed: int
    errors: list[LineProblem] = field(default_factory=list)
    generation: int | None = None


async def imported_apart(access: StoreAccess, wanted: Import, file: IO[bytes]) -> AsyncGenerator[bytes]:
    """`imported` in a process of its own."""
    async with Store.joined(access) as store, aclosing(imported(store, wanted, file)) as events:
        async for line in events:
            yield line


async def imported(store: Store, wanted: Import, file: IO[bytes]) -> AsyncGenerator[bytes]:
    """Import the lines of a file: lines of progress, then the report. Raises Refusal, and what the store raises."""
    job = _Job(store, wanted, file)
    try:
        await job.check()
        reported = 0
        yield _line({"progress": {"done": 0, "of": job.total}})
        storing = asyncio.ensure_future(job.store())
        try:
            while not storing.done():
                await asyncio.wait([storing], timeout=0.2)
                if job.tally.seen >= reported + PROGRESS_EVERY:
                    reported = job.tally.seen
                    yield _line({"progress": {"done": reported, "of": job.total}})
            await storing
        finally:
            storing.cancel()
            await asyncio.wait([storing])
        yield _line({"report": asdict(job.report())})
    finally:
        job.close()


def _line(document: JsonObject) -> bytes:
    return (json.dumps(document, ensure_ascii=False) + "\n").encode()


class _Job:
    """One import from its lines to its report."""

    def __init__(self, store: Store, wanted: Import, file: IO[bytes]) -> None:
        self._store, self._wanted, self._raw = store, wanted, file
        self.tally, self.total = Tally(rights=wanted.rights), 0
        self.generation: int | None = None
        self._good = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115 - closed by `close`

    def close(self) -> None:
        """Close what it has opened."""
        self._good.close()

    async def check(self) -> None:
        """Check every line by itself."""
        pairs = lines.FORMATS[self._wanted.format](self._raw)
        while some := await asyncio.to_thread(lines.checked, pairs, STEP):
            self.total += len(some)
            if self.total > self._wanted.most_lines:
                raise Refusal("too-large", f"At most {self._wanted.most_lines} lines are taken here.")
            for problems in (outcome for outcome in some if isinstance(outcome, tuple)):
                self.tally.fail(problems[0].line, [Problem(problem.where, problem.message) for problem in problems])
            await asyncio.to_thread(self._good.writelines, map(_packed, (e for e in some if isinstance(e, Line))))
        self._good.seek(0)

    @property
    def hopeless(self) -> bool:
        """Whether it is clear already that nothing will be stored."""
        return bool(self.tally.failed) and not self._wanted.per_line

    async def store(self) -> None:
        """Store the good lines; where nothing will be stored, find what else is wrong with them."""
        wanted = self._wanted
        self.generation = await self._store.objects.import_clients(
            self._batches(),
            wanted.actor,
            settled,
            wanted.rights,
            self.tally,
            per_line=wanted.per_line,
            dry_run=wanted.dry_run or self.hopeless,
        )

    def report(self) -> Report:
        """Its result."""
        tally = self.tally
        errors = sorted(tally.problems, key=lambda problem: problem.line)
        counts = tally.created, tally.changed, tally.unchanged, tally.failed
        applied = not self._wanted.dry_run and not self.hopeless
        return Report(applied, self._wanted.dry_run, self.total, *counts, errors, self.generation)

    async def _batches(self) -> AsyncIterator[Sequence[Line]]:
        while some := await asyncio.to_thread(_unpacked, self._good):
            yield some


def _packed(line: Line) -> str:
    return f"{line.number} {','.join(sorted(line.named))} {line.text}\n"


def _unpacked(file: IO[str]) -> list[Line]:
    parsed = []
    for packed in islice(file, LINES):
        number, named, text = packed.rstrip("\n").split(" ", 2)
        parsed.append(Line(int(number), text, frozenset(named.split(",")) - {""}))
    return parsed


async def exported_apart(access: StoreAccess, wanted: Listing, form: Format) -> AsyncGenerator[bytes]:
    """`exported` in a process of its own."""
    async with Store.joined(access) as store, aclosing(exported(store, wanted, form)) as pages:
        async for page in pages:
            yield page


async def exported(store: Store, wanted: Listing, form: Format) -> AsyncGenerator[bytes]:
    """The lines of every client that a listing has, page by page, each in a transaction of its own."""
    if form == "csv":
        yield lines.csv_header().encode()
    page = await store.objects.places(wanted)
    while page:
        yield _text([client for client, _ in page if not isinstance(client, Unreadable)], form).encode()
        if len(page) < LONGEST_PAGE:
            return
        client, place = page[-1]
        page = await store.objects.places(replace(wanted, after=(place, name_of_thing(client))))


def _text(clients: Sequence[SiteObject], form: Format) -> str:
    """The lines of clients."""
    if form == "csv":
        return "".join(lines.csv_line(dump(client)) for client in clients)
    return "".join(dump_text(client) + "\n" for client in clients)
