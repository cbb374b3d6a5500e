"""One import of clients from its lines to its report, and one export: what a process does for the API.

Both read and write the store by connections of their own where they run in a process of their own; what they report are
lines of JSON, what they export are lines of clients.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import IO, Literal, TypeAlias

from dnsvip.admin.bulk import lines
from dnsvip.admin.http import bodies
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import LONGEST_PAGE
from dnsvip.admin.http.resource import name_of_thing
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

MOST_AT_ONCE = 20_000
"""Lines that a token which may not write every client stores all at once: others' changes wait for it."""

PROGRESS_EVERY = 10_000
"""Lines between two reports of progress."""

PAGES = 4
"""Pages of an export that a process reads at a time, of a thousand clients each."""

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
    """What became of an import. `errors` are at most the first 1000 and 256 KiB, `failed` counts all refused lines.
    `generation` is that from which on it holds, null where nothing was stored."""

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
        with suppress(OSError):  # what could not be written still cannot
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
            with bodies.on_disk():
                await asyncio.to_thread(self._keep, [line for line in some if isinstance(line, Line)])
        if self.total > MOST_AT_ONCE and not (self._wanted.per_line or self._wanted.rights.writes_any_client):
            most = f"This token stores at most {MOST_AT_ONCE} lines at once; import them with mode=per-line."
            raise Refusal("too-large", most)

    def _keep(self, good: Sequence[Line]) -> None:
        self._good.writelines(map(_packed, good))
        self._good.flush()

    @property
    def hopeless(self) -> bool:
        """Whether it is clear already that nothing will be stored."""
        return bool(self.tally.failed) and not self._wanted.per_line

    async def store(self) -> None:
        """Store the good lines; where nothing will be stored, find what else is wrong with them."""
        wanted = self._wanted
        self.generation = await self._store.objects.import_clients(
            self._batches,
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
        self._good.seek(0)
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


async def pages_apart(access: StoreAccess, wanted: Listing, form: Format) -> tuple[bytes, Listing | None]:
    """`pages` in a process of its own, some at a time: its place is free again while the reader takes them."""
    async with Store.joined(access) as store:
        return await pages(store, wanted, form, PAGES)


async def pages(store: Store, wanted: Listing, form: Format, most: int = 1) -> tuple[bytes, Listing | None]:
    """The lines of the clients on the next pages of a listing, each read in a transaction of its own, and the listing
    of those after them, None at the end."""
    text = bytearray()
    following: Listing | None = wanted
    for _ in range(most):
        if following is None:
            break
        page = await store.objects.places(following)
        text += (await asyncio.to_thread(_text, [c for c, _ in page if not isinstance(c, Unreadable)], form)).encode()
        if len(page) < LONGEST_PAGE:
            following = None
        else:
            client, place = page[-1]
            following = replace(following, after=(place, name_of_thing(client)))
    return bytes(text), following


def _text(clients: Sequence[SiteObject], form: Format) -> str:
    """The lines of clients."""
    if form == "csv":
        return "".join(lines.csv_line(dump(client)) for client in clients)
    return "".join(dump_text(client) + "\n" for client in clients)
