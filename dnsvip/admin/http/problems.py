"""Every way a request can fail, as application/problem+json (RFC 9457), in one table.

Promise: each answer with an error status has this form, and none shows a traceback, a token or a
stored secret. What went wrong inside is logged here, once.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import structlog
from aiohttp import web

from dnsvip.errors import (
    ConfigError,
    Conflict,
    DatabaseBusy,
    DiskFull,
    DnsvipError,
    InvalidSite,
    OwnRequests,
    Problem,
    RevokedError,
    SecretError,
    StoreError,
    UncertainCommit,
    UnreadableError,
    cut,
)
from dnsvip.jobs.jobs import Busy, OwnTurn, TooLong

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:problem-type:dnsvip:"

PROBLEMS: Mapping[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be read"),
    "unauthorized": (401, "A bearer token is needed"),
    "forbidden": (403, "This is not allowed"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This cannot be done here"),
    "timeout": (408, "The request took too long"),
    "conflict": (409, "This collides with what is stored"),
    "in-use": (409, "It is still referred to"),
    "unreadable": (409, "What is stored of it cannot be read"),
    "precondition-failed": (412, "It is not in the state that you expect"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is of a type that is not taken here"),
    "expectation-failed": (417, "This is not done here"),
    "invalid": (422, "It breaks rules of the site"),
    "gone": (499, "The caller has gone"),
    "too-many-attempts": (429, "Too many requests without a good token"),
    "rate-limited": (429, "Too many requests with this token"),
    "internal": (500, "The server failed"),
    "not-implemented": (501, "This node does not do that"),
    "busy": (503, "The node has too much of this to do"),
    "disk-full": (507, "A disk is full"),
    "unavailable": (503, "The database cannot be used now"),
    "uncertain": (503, "The change may have been made"),
}
"""The last part of a problem's `type` -> its status and title."""

SHOWN: web.RequestKey[Callable[[Problem], Problem]] = web.RequestKey("shown")
"""Key of what makes a problem one that the caller of a request may read."""

WARNINGS: web.RequestKey[list[str]] = web.RequestKey("warnings")
"""Key of what is allowed but probably a mistake; an answer has a header `Dnsvip-Warning` for each, a JSON string:
readers that join headers of one name with commas can tell them apart."""

LONGEST_DETAIL = 1000
"""Characters of a problem's detail, which may echo what was sent."""

WARNING = "Dnsvip-Warning"
"""The header that has a warning, as a JSON string."""

MOST_WARNINGS = 50
"""Warnings in an answer: programs that read it take a hundred headers, or some kilobytes of them."""

log = structlog.get_logger(__name__)


class Refusal(DnsvipError):
    """A request that is answered with a problem; `kind` is a key of PROBLEMS."""

    def __init__(
        self, kind: str, detail: str, errors: Sequence[Problem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(cut(detail, LONGEST_DETAIL))
        self.kind = kind
        self.errors = errors
        self.headers = headers or {}

    def __reduce__(self) -> tuple[type[Refusal], tuple[object, ...]]:
        return type(self), (self.kind, str(self), self.errors, self.headers)


def response(refusal: Refusal) -> web.Response:
    """The answer for a refusal."""
    status, title = PROBLEMS[refusal.kind]
    body = {"type": TYPE_PREFIX + refusal.kind, "title": title, "status": status, "detail": str(refusal)}
    if refusal.errors:
        body["errors"] = [{"where": problem.where, "message": problem.message} for problem in refusal.errors]
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(status=status, text=text, content_type=MEDIA_TYPE, headers=refusal.headers)


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every exception of a handler with its problem."""
    try:
        refused = request.match_info.http_exception
        if refused is not None and refused.status not in (404, 405):
            raise refused  # for its head, whoever sends it; what there is here is told to who is known
        answer = await handler(request)
        for text in shown_warnings(request.get(WARNINGS, [])):
            answer.headers.add(WARNING, text)
        return answer
    except web.HTTPException as error:
        return response(_of_http(error, request))
    except DnsvipError as error:
        return response(refusal_of(error, request))
    except ConnectionError:  # nobody is there to read it
        return response(Refusal("gone", "The caller has gone."))
    except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the client gets a problem and the log the rest
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            return response(Refusal("bad-request", "The connection broke off within the body."))  # nobody reads it
        log.error("request failed", method=request.method, error=type(error).__name__, traceback=traceback.format_exc())
        return response(Refusal("internal", "An unexpected error; the node's log has more."))


def shown_warnings(warnings: Sequence[str]) -> list[str]:
    """The values of headers WARNING for these warnings, of very many the first."""
    more = [f"{len(warnings) - MOST_WARNINGS} more warnings"] if len(warnings) > MOST_WARNINGS else []
    return [json.dumps(text) for text in (*warnings[:MOST_WARNINGS], *more)]


def refusal_of(error: DnsvipError, request: web.Request) -> Refusal:
    """The refusal for a DnsvipError, without the names of objects that the caller of the request may not see."""
    match error:
        case Refusal():
            return error
        case InvalidSite():
            shown = request.get(SHOWN, _as_it_is)
            problems = list(dict.fromkeys(shown(problem) for problem in error.problems))
            return Refusal("conflict" if isinstance(error, Conflict) else "invalid", _said(problems), problems)
        case ConfigError() | TooLong():
            return Refusal("invalid", f"It {error}." if isinstance(error, TooLong) else str(error))
        case OwnTurn():
            return Refusal("rate-limited", f"{error}.", headers={"Retry-After": "30"})
        case Busy():
            return Refusal("busy", str(error), headers={"Retry-After": "5"})
        case RevokedError():
            headers = {"WWW-Authenticate": 'Bearer realm="dnsvip", error="invalid_token"'}
            return Refusal("unauthorized", f"This token {error} meanwhile, so this is not done.", headers=headers)
        case StoreError() | SecretError():
            return _of_store(error)
    log.error("request failed", error=str(error))
    return Refusal("internal", str(error))


def _of_store(error: StoreError | SecretError) -> Refusal:
    match error:
        case OwnRequests():
            return Refusal("rate-limited", f"{error}.", headers={"Retry-After": "5"})
        case DatabaseBusy():
            return Refusal("busy", f"{error}.", headers={"Retry-After": "5"})
        case DiskFull():
            log.warning("a disk is full", error=str(error))
            return Refusal("disk-full", str(error))
        case UncertainCommit():
            log.warning("the database was lost during a commit", error=str(error))
            return Refusal("uncertain", UNCERTAIN)
        case UnreadableError():
            return Refusal("unreadable", f"{error}; PUT replaces it, DELETE removes it.")
    return _unavailable(error)  # it cannot be reached, or its key was changed without this node


def _unavailable(error: DnsvipError) -> Refusal:
    """The answer without the database, to callers who need not know where it is: the log says why, now and then."""
    now, text = time.monotonic(), str(error)
    if now >= _told.get(text, 0.0):
        _told.clear()
        _told[text] = now + TOLD_SECONDS
        log.warning("the database cannot be used", error=text)
    key = isinstance(error, SecretError)
    why = "Its key-encryption key is not the one of this node" if key else "The database cannot be used"
    return Refusal("unavailable", f"{why}; the node's log has more.", headers={"Retry-After": "2"})


UNCERTAIN = (
    "The database was lost while it stored this: all of it has been stored, or nothing. Read it again, then repeat "
    "what is missing, with If-Match (If-None-Match: * for what is new)."
)

TOLD_SECONDS = 10.0
"""Between two log lines of the same failure of the database."""

_told: dict[str, float] = {}


def _as_it_is(problem: Problem) -> Problem:
    return problem


def _said(problems: Sequence[Problem]) -> str:
    first, *more = problems
    return f"{first} (and {len(more)} more)" if more else str(first)


def _of_http(error: web.HTTPException, request: web.Request) -> Refusal:
    match error:
        case web.HTTPNotFound():
            return Refusal("not-found", f"{request.path}: no such path; the API is under /api/v1.")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Refusal(
                "method-not-allowed", f"{request.method} is not one of {allowed}.", headers={"Allow": allowed}
            )
        case web.HTTPRequestEntityTooLarge():
            return Refusal("too-large", error.reason)
        case web.HTTPExpectationFailed():
            return Refusal("expectation-failed", error.reason)
        case web.HTTPUnsupportedMediaType():
            return Refusal("unsupported-media-type", error.reason, headers={"Accept-Encoding": "identity"})
    return Refusal("bad-request" if error.status < 500 else "internal", error.reason)
