"""/clients/import and /clients/export: very many clients in and out, as NDJSON or CSV, in bounded memory.

What comes in is first written to a file without a name; the database is only taken when all of it is there, so that a
slow sender keeps nobody waiting. All but small ones are read, stored and written out in a process of their own
(importing.py), one at a time for a token, which ends where the caller goes away: nothing is imported then, but for the
batches of mode=per-line that are stored already. An export waits for its reader
between two jobs, in no process.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import IO, Any, ClassVar, Literal

import structlog
from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.bulk import lines
from dnsvip.admin.bulk.importing import Format, Import, Report, imported, imported_apart, pages, pages_apart
from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import ACTOR, CALLER
from dnsvip.admin.http.changing import GENERATION
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.problems import WARNING, Refusal, refusal_of, response, shown_warnings
from dnsvip.admin.http.queries import LONGEST_PAGE, Flag, page_query
from dnsvip.admin.http.work import run, turn
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.clients import CLIENT
from dnsvip.errors import DnsvipError, Problem
from dnsvip.jobs.jobs import TooLong
from dnsvip.jobs.process import Take
from dnsvip.site import STRICT
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import Action
from dnsvip.store import Listing

NDJSON = "application/x-ndjson"

SMALL_IMPORT, SMALL_EXPORT = 1 << 12, 1000
"""Bytes of an import and clients of the site that are worked on by a thread: a process would take longer to start.
However hostile so few bytes are, no step of it has the interpreter for more than some milliseconds."""

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


async def take(request: web.Request) -> web.StreamResponse:
    """Create or replace clients, one per line. With `Accept: application/x-ndjson` progress is streamed.

    Nothing is imported where the caller goes away before its end; with mode=per-line what is stored by then stays.
    """
    query, limits = query_of(request, ImportQuery), limits_of(request)
    wanted = Import(
        query.format,
        query.mode == "per-line",
        query.dry_run,
        request[ACTOR],
        replace(request[CALLER].rights, zones=()),  # not to be sent to a process: clients are in none
        limits.import_lines,
    )
    async with turn(request), bodies.spooled(request, limits.import_bytes) as (file, size):
        if NDJSON in request.headers.get("Accept", ""):
            return await _streamed(request, wanted, file, size)
        listener = _Listener(None)
        await _import(request, wanted, file, size, listener.take)
        return _answer(request, wanted, listener.report)


class _Listener:
    """Takes what an import reports: progress goes on to the caller who wants it, the report is kept."""

    def __init__(self, stream: web.StreamResponse | None) -> None:
        self._stream = stream
        self.report: JsonObject = {}

    async def take(self, line: bytes) -> None:
        """A line; a long one is read by a thread, as the node answers clients meanwhile."""
        read = json.loads(line) if len(line) <= bodies.AT_ONCE else await asyncio.to_thread(json.loads, line)
        self.report = read.get("report", {})
        if self._stream is not None:
            await self._stream.write(line)


async def _import(request: web.Request, wanted: Import, file: IO[bytes], size: int, take: Take) -> None:
    store = request.app[NODE].store()
    if size > SMALL_IMPORT:
        seconds = limits_of(request).transfer_seconds
        await run(request, imported_apart, store.access, wanted, seconds=seconds, files=(file,), take=take)
        return
    async with aclosing(imported(store, wanted, file)) as events:
        async for line in events:
            await take(line)


def _note(request: web.Request, report: JsonObject) -> None:
    log.info("clients imported", actor=request[ACTOR], generation=report["generation"], lines=report["lines"])


def _answer(request: web.Request, wanted: Import, report: JsonObject) -> web.Response:
    if report["failed"] and not wanted.per_line:
        errors = [
            Problem(f"line {error['line']}", f"{error['where']}: {error['message']}") for error in report["errors"]
        ]
        raise Refusal(
            "invalid", f"{report['failed']} of {report['lines']} lines are refused, so none is stored.", errors
        )
    _note(request, report)
    headers = {GENERATION: str(report["generation"])} if report["generation"] is not None else {}
    return bodies.answer(report, headers=headers)


async def _streamed(request: web.Request, wanted: Import, file: IO[bytes], size: int) -> web.StreamResponse:
    """Lines of progress, and the report or the problem as the last one: the status was sent before that was known."""
    stream = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
    await stream.prepare(request)
    listener = _Listener(stream)
    try:
        await _import(request, wanted, file, size, listener.take)
        _note(request, listener.report)
    except DnsvipError as error:
        refused = response(refusal_of(error, request))
        document = {"problem": json.loads(refused.text or "{}")}
        await stream.write((json.dumps(document, ensure_ascii=False) + "\n").encode())
    await stream.write_eof()
    return stream


async def give(request: web.Request) -> web.StreamResponse:
    """Every client that matches the query, one per line, in the form of an import. Clients that cannot be read are not
    among them: a header `Dnsvip-Warning` names each."""
    query = query_of(request, ExportQuery)
    visible = request[CALLER].rights.patterns(Action.READ, "client")
    wanted = replace(CLIENT.listing(query), limit=LONGEST_PAGE, visible=visible)
    await request.app[NODE].store().objects.places(replace(wanted, limit=1))  # an error now has a status of its own
    headers = {"Content-Type": f"{lines.MEDIA[query.format]}; charset=utf-8"}
    headers["Content-Disposition"] = f'attachment; filename="clients.{query.format}"'
    stream = web.StreamResponse(headers=headers)
    for text in shown_warnings(_left_out(request)):
        stream.headers.add(WARNING, text)
    async with turn(request):
        await stream.prepare(request)
        try:
            await _export(request, wanted, query.format, stream.write)
        except DnsvipError as error:
            # The status is sent: that the end is missing tells the caller, who would take a tidy one for all there is.
            log.error("an export was broken off", actor=request[ACTOR], error=str(error))
            if request.transport is not None:
                request.transport.close()
            return stream
    await stream.write_eof()
    return stream


def _left_out(request: web.Request) -> list[str]:
    """The clients that cannot be read, of those that the caller may see; whether they match the query is unknown."""
    rights = request[CALLER].rights
    broken = (problem for problem in request.app[NODE].snapshot().unreadable if problem.about)
    clients = [problem for problem in broken if problem.about and problem.about[0] == "client"]
    return [f"left out: {problem}" for problem in clients if rights.allow(Action.READ, "client", problem.about[1])]  # type: ignore[index]


async def _export(request: web.Request, wanted: Listing, form: Format, give: Take) -> None:
    """Give the pages of a listing, as fast as the reader takes them. Each is read in a job of its own: a slow reader
    holds no process, and one whose token is not good any more gets no further page."""
    node = request.app[NODE]
    following: Listing | None = wanted
    store, apart = node.store(), len(node.snapshot().site.clients) > SMALL_EXPORT
    if form == "csv":
        await give(lines.csv_header().encode())
    end = time.monotonic() + limits_of(request).transfer_seconds
    while following is not None:
        await store.tokens.check_warrant()
        left = end - time.monotonic()
        if left <= 0:
            raise TooLong(f"took longer than {limits_of(request).transfer_seconds:g} s and has been stopped")
        if apart:
            text, following = await run(request, pages_apart, store.access, following, form, seconds=left)
        else:
            text, following = await pages(store, following, form)
        await give(text)


_BODY: Any = {NDJSON: {"type": "string"}, "text/csv": {"type": "string"}}

ROUTES = [
    Operation("GET", f"{ROOT}/clients/export", give, "client", query=ExportQuery, media=_BODY),
    Operation("POST", f"{ROOT}/clients/import", take, "client", query=ImportQuery, body=_BODY, answer=Report),
]
