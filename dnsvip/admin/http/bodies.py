"""Bodies of requests and answers: reading JSON strictly and within a limit, merging, entity tags.

It knows HTTP and JSON, and nothing of what the objects mean.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any

from aiohttp import web

from dnsvip.admin.http.json_objects import parse_large, parse_object
from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.work import worked
from dnsvip.errors import DiskFull
from dnsvip.site.io.safe_file import FREE
from dnsvip.site.long_json import dumped
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import KINDS

TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
"""An entity tag (RFC 9110 section 8.8.3)."""

JSON_TYPES = ("application/json", "application/merge-patch+json")
AT_ONCE, SMALL = 1 << 13, 1 << 16
"""Bytes of JSON that are read on the event loop, in a millisecond, and by a thread; more are read in a process."""


async def read_object(request: web.Request, limit: int | None = None) -> JsonObject:
    """The JSON object in a request's body; raises Refusal."""
    if request.content_type not in JSON_TYPES:
        raise Refusal("unsupported-media-type", f"Content-Type must be {JSON_TYPES[0]} (it is {request.content_type}).")
    body = await read_bytes(request, limit)
    if len(body) <= AT_ONCE:
        return parse_object(body)
    return await worked(request, parse_large, body, small=len(body) <= SMALL)


async def read_bytes(request: web.Request, limit: int | None = None) -> bytes:
    """The body, at most `limit` bytes of it, by default `body_bytes`; raises Refusal."""
    body = bytearray()
    async for chunk in chunks(request, limit or limits_of(request).body_bytes):
        body += chunk
    return bytes(body)


async def chunks(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """The body piece by piece, at most `limit` bytes, in `body_seconds` and as much longer as `body_rate` takes; raises
    Refusal."""
    limits, size, begun = limits_of(request), 0, time.monotonic()
    pieces = aiter(request.content.iter_any())
    while True:
        left = begun + limits.body_seconds + size / limits.body_rate - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                chunk = await anext(pieces, b"")
        except TimeoutError:
            raise Refusal("timeout", "The body took too long.", headers={"Connection": "close"}) from None
        if not chunk:
            return
        size += len(chunk)
        if size > limit:
            raise Refusal("too-large", f"At most {limit} bytes are taken here.", headers={"Connection": "close"})
        yield chunk


@asynccontextmanager
async def spooled(request: web.Request, limit: int) -> AsyncIterator[tuple[IO[bytes], int]]:
    """The body in a temporary file that stands at its start, and its size in bytes; raises Refusal as `chunks` does,
    and DiskFull."""
    with tempfile.TemporaryFile(buffering=0) as file:
        async for chunk in chunks(request, limit):
            with on_disk():
                await asyncio.to_thread(_write, file, chunk)
        size = file.tell()
        file.seek(0)
        yield file, size


def _write(file: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


@contextmanager
def on_disk() -> Iterator[None]:
    """Writing to a temporary file: raises DiskFull, which names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder = tempfile.gettempdir()
        raise DiskFull(f"the disk of {folder} is full, where an import waits; nothing is stored; {FREE}") from None


def written(data: Any) -> str:
    """JSON text; it ends in a newline, for people with curl."""
    return (dumped(data) if isinstance(data, dict) else json.dumps(data, ensure_ascii=False)) + "\n"


def answer(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(text=written(data), status=status, headers=headers, content_type="application/json")


def with_runtime(kind: str, before: JsonObject, body: JsonObject) -> JsonObject:
    """A whole new body with what it leaves out of the fields set while the site runs taken from the old one.

    So replacing a revoked client does not enable it, and replacing a pool does not bring a drained server back.
    """
    kept = dict(body)
    for path in KINDS[kind].runtime:
        head, _, field = path.partition(".")
        if not field:
            kept.setdefault(head, before[head])
        elif isinstance(kept.get(head), list):
            known = {item["name"]: item[field] for item in before[head]}
            kept[head] = [_with_field(item, field, known) for item in kept[head]]
    return kept


def etag(shown: JsonObject) -> str:
    """The entity tag of an object as it is shown (RFC 9110 section 8.8.3)."""
    canonical = dumped(shown, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    return f'"{hashlib.sha256(canonical).hexdigest()[:32]}"'


def check_conditions(request: web.Request, current: Callable[[], JsonObject | None]) -> None:
    """Raise Refusal where If-Match or If-None-Match does not hold for the object as `current` shows it now."""
    wanted, unwanted = _tags(request, "If-Match"), _tags(request, "If-None-Match")
    if not wanted and not unwanted:
        return
    shown = current()
    tag = None if shown is None else etag(shown)
    if wanted and (tag is None or not {"*", tag} & wanted):
        now = "does not exist" if tag is None else "has changed meanwhile"
        raise Refusal("precondition-failed", f"It {now}; look at it again.")
    if tag is not None and {"*", tag} & unwanted:
        raise Refusal("precondition-failed", "It exists already.")


def is_fresh(request: web.Request, tag: str) -> bool:
    """Whether the caller has the representation with this entity tag already (If-None-Match of a GET)."""
    return bool({"*", tag} & _tags(request, "If-None-Match"))


def _tags(request: web.Request, header: str) -> set[str]:
    if header not in request.headers:
        return set()
    listed = [tag.strip() for tag in ",".join(request.headers.getall(header)).split(",")]
    if listed != ["*"] and not all(map(TAG.fullmatch, listed)):
        raise Refusal("bad-request", f'{header}: must be * or entity tags in quotes, such as "0123abcd".')
    return {tag.removeprefix("W/") for tag in listed}


def _with_field(item: Any, field: str, known: Mapping[str, Any]) -> Any:
    name = item.get("name") if isinstance(item, dict) else None
    return {field: known[name], **item} if isinstance(name, str) and name in known else item
