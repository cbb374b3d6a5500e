"""The operations of the API as values: each with its path, right, query and schemas.

From these the routes are made, callers are let in or not, unknown query parameters are refused, and
the OpenAPI document is written. A plain aiohttp route is an operation too: one without a query, that
reads where its method does and else writes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from aiohttp import web
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dnsvip.admin.http.problems import Handler, Refusal
from dnsvip.errors import Problem
from dnsvip.site import STRICT
from dnsvip.site.plain import problem_of
from dnsvip.site.rights import Action

ROOT = "/api/v1"
Handle: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUERY = web.RequestKey("query", object)
"""Key of a request's validated query."""

NOT_RESERVED = r":(?!(?:import|export)$)[^{}/]+"
"""What follows a part of a path that names an object, where `import` and `export` stand for something else."""

NUMBER = ":[0-9]{1,9}"
"""What follows a part of a path that is a number: words in its place are paths of their own, with their own methods."""

LONGEST_NAME = 253
"""Characters in the name of an object; that of a zone may be so long (RFC 1035 section 2.3.4)."""

READS = frozenset({"GET", "HEAD", "OPTIONS"})
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """The form of a page of a kind's objects."""

    kind: str


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The form of a list; `next` is the path of the page after it, None after the last. With `count` it says how many
    there are in all, exactly or (`at-least`) as far as was counted."""

    items: list[T]
    next: str | None
    total: int | None = None
    total_is: str | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """The form of a merge patch for a kind's object, or for a value of a type."""

    form: Any


@dataclass(frozen=True, slots=True)
class NoQuery:
    """The query of an operation that takes none."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `kind` is what scopes call the objects; `name` the part of the path that names one.

    `query`, `body` and `answer` are types (or JSON schemas) of what goes in and out; `does` what its right is
    called, by default that of its method. `open` ones need no token. `raw` leaves the query alone.
    """

    method: str
    path: str
    handle: Handle
    kind: str = ""
    name: str = "name"
    does: Action | None = None
    query: type = NoQuery
    body: Any = None
    answer: Any = None
    status: int = 200
    media: Mapping[str, Any] | None = None
    open: bool = False
    raw: bool = False

    @property
    def shown_path(self) -> str:
        """The path without the patterns of its parts."""
        return self.path.replace(NOT_RESERVED, "").replace(NUMBER, "")

    @property
    def action(self) -> Action:
        """The action that the caller needs the right to."""
        if self.does is not None:
            return self.does
        return Action.READ if self.method in READS else Action.DELETE if self.method == "DELETE" else Action.WRITE

    def target(self, request: web.Request) -> str | None:
        """The name of the object that a request is about; None where it is about all of a kind."""
        return request.match_info.get(self.name)


_ESCAPED = re.compile("=([0-9A-Fa-f]{2})")


@web.middleware
async def with_names(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the names that a path says with `=XX` for their first character into its parts, before anybody reads them.

    No name has a `=` in it. It is for names that a path cannot have as they are: browsers and proxies take a part away
    that is a dot (RFC 3986 section 5.2.4), so that what is meant for the root zone would be done to another; and a
    client may be called `import`. PowerDNS's API writes the root zone as `=2E`, too.
    """
    for key, part in request.match_info.items():
        if first := _ESCAPED.match(part):
            request.match_info[key] = chr(int(first[1], 16)) + part[first.end() :]
    return await handler(request)


MOST_PARAMETERS = 256
"""Parameters of a query: the longest list of them that is any use has a tenth."""


class Served:
    """An operation as aiohttp calls it."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.__doc__ = operation.handle.__doc__

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer, after the query has been read."""
        if any(len(part) > LONGEST_NAME for part in request.match_info.values()):
            raise Refusal("not-found", f"No name here has more than {LONGEST_NAME} characters.")
        if request.rel_url.raw_query_string.count("&") >= MOST_PARAMETERS:
            raise Refusal("bad-request", f"The query has more than {MOST_PARAMETERS} parameters.")
        if any("\0" in text for text in (*request.match_info.values(), *request.query.keys(), *request.query.values())):
            raise Refusal("bad-request", "No path and no query here has a character U+0000.")
        if not self.operation.raw:
            request[QUERY] = _read_query(request, self.operation.query)
        return await self.operation.handle(request)


def add(app: web.Application, routes: Iterable[Operation | web.RouteDef]) -> None:
    """Serve operations (and plain routes)."""
    for operation in routes:
        if isinstance(operation, Operation):
            app.router.add_route(operation.method, operation.path, _handler(operation))
            if operation.method == "GET":  # as aiohttp does for plain routes
                app.router.add_route("HEAD", operation.path, _handler(operation))
        else:
            operation.register(app.router)


def _handler(operation: Operation) -> Any:
    served = Served(operation)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await served(request)

    handler.operation = operation  # type: ignore[attr-defined]
    return handler


def operations(app: web.Application) -> list[Operation]:
    """Every operation that an application serves."""
    handlers = [getattr(route.handler, "operation", None) for route in app.router.routes() if route.method != "HEAD"]
    return [operation for operation in handlers if isinstance(operation, Operation)]


def operation_of(request: web.Request) -> Operation | None:
    """The operation that a request asks for; None where its route is a plain one, or there is none."""
    operation: Operation | None = getattr(request.match_info.handler, "operation", None)
    return operation


def query_of(request: web.Request, kind: type[T]) -> T:
    """The query of a request, which its operation says is of this type."""
    query = request[QUERY]
    assert isinstance(query, kind)  # noqa: S101 - the operation's own type
    return query


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The adapter of a type, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _read_query(request: web.Request, kind: type) -> object:
    given: dict[str, str] = {}
    for key, value in request.query.items():
        if key in given:
            raise Refusal("bad-request", f"{key}: stands more than once in the query.")
        given[key] = value
    known = [f.name for f in fields(kind)]
    take = f"known here: {', '.join(known)}" if known else "none is taken here"
    errors = [Problem(key, f"unknown query parameter; {take}") for key in given if key not in known]
    try:
        query: object = adapter(kind).validate_python({key: given[key] for key in given if key in known})
    except ValidationError as error:
        errors += [problem_of("", kind, item) for item in error.errors()]
    if errors:
        raise Refusal("bad-request", f"{errors[0]}.", errors)
    return query
