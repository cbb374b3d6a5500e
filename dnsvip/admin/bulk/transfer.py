"""/clients/import and /clients/export: very many clients in and out, as NDJSON or CSV, in bounded memory.

What comes in is first written to a file without a name and looked at line by line; the database is only
taken when all of it is there, so that a slow sender keeps nobody waiting. What goes out is read page by
page, each in a transaction of its own: a slow reader holds neither the database nor more than a page.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import IO, Any, ClassVar, Literal

import structlog
from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.bulk import lines
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.collection import GENERATION, name_of_thing
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.problems import Refusal, refusal_of, response
from dnsvip.admin.http.queries import LONGEST_PAGE, Flag, page_query
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.clients import CLIENT, settled
from dnsvip.errors import DnsvipError, Problem
from dnsvip.site import STRICT
from dnsvip.site.plain import JsonObject, SiteObject, dump, dump_text
from dnsvip.site.rights import Action
from dnsvip.store.objects.bulk import LINES, Line, LineProblem, Tally

LIMIT = 2 << 30
"""Bytes in an import."""

STEP = 500
"""Lines checked at a time, so that a thread never holds the GIL for long."""

PROGRESS_EVERY = 10_000
"""Lines between two reports of progress."""

NDJSON = "application/x-ndjson"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ImportQuery:
    """The `format` of the body; whether one bad line fails all (`mode`); whether to check only (`dry_run`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    format: Literal["ndjson", "csv"] = "ndjson"
    mode: Literal["all-or-nothing", "per-line"] = "all-or-nothing"
    dry_run: Flag = False


@dataclass(frozen=True, slots=True)
class ExportQuery(page_query("client")):  # type: ignore[misc]  # made from the declaration
    """Which clients, as for a list, and the `format`."""

    format: Literal["ndjson", "csv"] = "ndjson"


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


class _Job:
    """One import from its first byte to its report."""

    def __init__(self, request: web.Request, query: ImportQuery, folder: str | None = None) -> None:
        self._request, self._query = request, query
        self.tally, self.total = Tally(rights=request[CALLER].rights), 0
        self.generation: int | None = None
        self._raw = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._good = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder, newline="\n")  # noqa: SIM115

    def close(self) -> None:
        """Close the files."""
        self._raw.close()
        self._good.close()

    async def receive(self) -> None:
        """Receive the body; raises Refusal where it is too large."""
        async for chunk in bodies.chunks(self._request, LIMIT):
            await asyncio.to_thread(self._raw.write, chunk)
        self._raw.seek(0)

    async def check(self) -> None:
        """Check every line by itself."""
        pairs = lines.FORMATS[self._query.format](self._raw)
        while some := await asyncio.to_thread(lines.checked, pairs, STEP):
            self.total += len(some)
            for problems in (each for each in some if isinstance(each, tuple)):
                self.tally.fail(problems[0].line, [Problem(each.where, each.message) for each in problems])
            await asyncio.to_thread(self._good.writelines, map(_packed, (e for e in some if isinstance(e, Line))))
        self._good.seek(0)

    @property
    def hopeless(self) -> bool:
        """Whether it is clear already that nothing will be stored."""
        return bool(self.tally.failed) and self._query.mode == "all-or-nothing"

    async def store(self, progress: Any = lambda: None) -> None:
        """Store the good lines; where nothing will be stored, find what else is wrong with them."""
        request, rights = self._request, self._request[CALLER].rights
        per_line = self._query.mode == "per-line"
        objects = request.app[NODE].store().objects
        self.generation = await objects.import_clients(
            self._batches(),
            request[ACTOR],
            settled,
            rights,
            self.tally,
            progress,
            per_line=per_line,
            dry_run=self._query.dry_run or self.hopeless,
        )
        log.info("clients imported", actor=request[ACTOR], generation=self.generation, lines=self.total)

    def report(self) -> Report:
        """Its result."""
        tally = self.tally
        errors = sorted(tally.problems, key=lambda problem: problem.line)
        counts = tally.created, tally.changed, tally.unchanged, tally.failed
        applied = not self._query.dry_run and not self.hopeless
        return Report(applied, self._query.dry_run, self.total, *counts, errors, self.generation)

    async def _batches(self) -> AsyncIterator[Sequence[Line]]:
        while some := await asyncio.to_thread(_unpacked, self._good):
            yield some


async def take(request: web.Request) -> web.StreamResponse:
    """Create or replace clients, one per line. With `Accept: application/x-ndjson` progress is streamed."""
    job = _Job(request, query_of(request, ImportQuery))
    try:
        await job.receive()
        await job.check()
        if NDJSON in request.headers.get("Accept", ""):
            return await _tell(request, job)
        await job.store()
        return _answer(job)
    finally:
        job.close()


def _answer(job: _Job) -> web.Response:
    report = job.report()
    if job.hopeless:
        errors = [Problem(f"line {each.line}", f"{each.where}: {each.message}") for each in report.errors]
        raise Refusal("invalid", f"{report.failed} of {report.lines} lines are refused, so none is stored.", errors)
    headers = {GENERATION: str(report.generation)} if report.generation is not None else {}
    return bodies.answer(asdict(report), headers=headers)


async def _tell(request: web.Request, job: _Job) -> web.StreamResponse:
    """Lines of progress, and the report or the problem as the last one: the status was sent before that was known."""
    stream = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
    await stream.prepare(request)
    storing = asyncio.ensure_future(job.store())
    reported = -1
    while not storing.done():
        if job.tally.seen >= reported + PROGRESS_EVERY or reported < 0:
            reported = job.tally.seen
            await _say(stream, {"progress": {"done": reported, "of": job.total}})
        await asyncio.wait([storing], timeout=0.2)
    try:
        await storing
        await _say(stream, {"report": asdict(job.report())})
    except DnsvipError as error:
        refused = response(refusal_of(error, request))
        await _say(stream, {"problem": json.loads(refused.text or "{}")})
    await stream.write_eof()
    return stream


async def _say(stream: web.StreamResponse, line: JsonObject) -> None:
    try:
        await stream.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
    except (ConnectionError, RuntimeError):  # nobody listens any more; what is begun is ended all the same
        return


def _packed(line: Line) -> str:
    return f"{line.number} {','.join(sorted(line.named))} {line.text}\n"


def _unpacked(file: IO[str]) -> list[Line]:
    parsed = []
    for packed in _some(file):
        number, named, text = packed.rstrip("\n").split(" ", 2)
        parsed.append(Line(int(number), text, frozenset(named.split(",")) - {""}))
    return parsed


def _some(file: IO[str]) -> Iterator[str]:
    for _ in range(LINES):
        line = file.readline()
        if not line:
            return
        yield line


async def give(request: web.Request) -> web.StreamResponse:
    """Every client that matches the query, one per line, in the form of an import."""
    query = query_of(request, ExportQuery)
    visible = request[CALLER].rights.patterns(Action.READ, "client")
    wanted = replace(CLIENT.listing(query), limit=LONGEST_PAGE, visible=visible)
    page = await request.app[NODE].store().objects.places(wanted)
    headers = {"Content-Type": f"{lines.MEDIA[query.format]}; charset=utf-8"}
    headers["Content-Disposition"] = f'attachment; filename="clients.{query.format}"'
    stream = web.StreamResponse(headers=headers)
    await stream.prepare(request)
    if query.format == "csv":
        await stream.write(lines.csv_header().encode())
    try:
        while page:
            await stream.write(_text([client for client, _ in page], query.format).encode())
            if len(page) < LONGEST_PAGE:
                break
            client, place = page[-1]
            page = await request.app[NODE].store().objects.places(replace(wanted, after=(place, name_of_thing(client))))
    except DnsvipError as error:
        # The status is sent: that the end is missing tells the caller, who would take a tidy one for all there is.
        log.error("an export was broken off", actor=request[ACTOR], error=str(error))
        if request.transport is not None:
            request.transport.close()
        return stream
    await stream.write_eof()
    return stream


def _text(clients: Sequence[SiteObject], form: str) -> str:
    """The lines of clients."""
    if form == "csv":
        return "".join(lines.csv_line(dump(client)) for client in clients)
    return "".join(dump_text(client) + "\n" for client in clients)


_BODY = {NDJSON: {"type": "string"}, "text/csv": {"type": "string"}}

ROUTES = [
    Operation("GET", f"{ROOT}/clients/export", give, "client", query=ExportQuery, media=_BODY),
    Operation("POST", f"{ROOT}/clients/import", take, "client", query=ImportQuery, body=_BODY, answer=Report),
]
