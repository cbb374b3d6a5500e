"""The queries of lists: their parameters, bounds, and the store's listing for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from dnsvip.admin.http import bodies
from dnsvip.admin.http.operation import adapter, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import STRICT
from dnsvip.site.plain import JsonObject, merged, problem_of
from dnsvip.site.registry import KINDS
from dnsvip.store import Listing

PAGE, LONGEST_PAGE = 100, 1000
PAGE_BYTES = 1 << 19
"""Stored characters at which a page ends, more than 1,000 usual objects have: what it takes of everybody's time is
bounded."""
BIGGEST = (1 << 63) - 1
T = TypeVar("T")


def number(least: int, most: int) -> tuple[BeforeValidator, WithJsonSchema]:
    """Annotations of a whole number in a query: ASCII digits, within bounds."""

    def check(value: Any) -> int:
        text = str(value)
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        raise ValueError(f"must be a number from {least} to {most}")

    return BeforeValidator(check), WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


def _flag(value: Any) -> bool:
    if value in (True, False):
        return bool(value)
    if value in ("1", "true", "yes"):
        return True
    if value in ("0", "false", "no"):
        return False
    raise ValueError("must be true or false")


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("must be text without U+0000")
    return value


Limit: TypeAlias = Annotated[int, *number(1, LONGEST_PAGE)]
Id: TypeAlias = Annotated[int, *number(1, BIGGEST)]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
Text: TypeAlias = Annotated[str, BeforeValidator(_text), Field(max_length=254)]
After = Annotated[
    str, BeforeValidator(_text), Field(max_length=600), WithJsonSchema({"type": "string", "maxLength": 600})
]


def _address(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be an IPv6 or IPv4 address")
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError("must be an IPv6 or IPv4 address") from None


def _port(value: Any) -> int:
    text = str(value)
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= 65535:
        return int(text)
    raise ValueError("must be a port, 0 to 65535")


AddressText = Annotated[
    IPv4Address | IPv6Address,
    BeforeValidator(_address),
    WithJsonSchema(
        {"type": "string", "examples": ["2001:db8:77::1"], "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
    ),
]
FlowLabel: TypeAlias = Annotated[int, *number(0, (1 << 20) - 1)]
"""20 bits (RFC 8200 section 3)."""
Port = Annotated[int, BeforeValidator(_port), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 65535})]


async def read_body(request: web.Request, where: str, kind: type[T]) -> T:
    """The JSON object of a request as a value of a type; raises Refusal, and InvalidSite with every problem."""
    return _read(await bodies.read_object(request), where, kind)


def _read(body: JsonObject, where: str, kind: type[T]) -> T:
    known = [parameter.name for parameter in fields(kind)]  # type: ignore[arg-type]  # dataclasses all
    problems = [
        Problem(f"{where}.{key}", f"unknown key; known here: {', '.join(known)}") for key in body if key not in known
    ]
    try:
        read: T = adapter(kind).validate_python({key: body[key] for key in body if key in known})
    except ValidationError as error:
        problems += [problem_of(where, kind, item) for item in error.errors()]
    if problems:
        raise InvalidSite(problems)
    return read


async def read_patch(request: web.Request, where: str, kind: type[T], before: JsonObject) -> tuple[T, frozenset[str]]:
    """`before` with the merge patch of a request on it, as a value of a type, and the keys that the patch names."""
    body = await bodies.read_object(request)
    return _read(merged(before, body), where, kind), frozenset(body)


@dataclass(frozen=True, slots=True)
class ShortQuery:
    """The query of a short list: at most `limit` items after the name `after`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Limit = LONGEST_PAGE
    after: After | None = None


def short_page(request: web.Request, items: Sequence[JsonObject], key: str = "name") -> web.Response:
    """The page of a list, whose items come sorted by `key`, that a ShortQuery asks for."""
    query = query_of(request, ShortQuery)
    rest = [item for item in items if query.after is None or item[key] > query.after]
    page = rest[: query.limit]
    more = {**request.query, "limit": query.limit, "after": page[-1][key]} if len(rest) > len(page) else None
    return bodies.answer({"items": page, "next": f"{request.path}?{urlencode(more)}" if more else None})


@dataclass(frozen=True, slots=True)
class PageQuery:
    """The query of every list: at most `limit` objects after the position `after`, in the order `sort` (a leading `-`
    reverses it), whose name starts with `q` or has `contains` in it; with `count`, how many there are."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Limit = PAGE
    after: After | None = None
    sort: str = "name"
    q: Text | None = None
    contains: Text | None = None
    count: Flag = False

    def listing(self, kind: str) -> Listing:
        """The store's listing that it asks for; raises Refusal."""
        sort = self.sort.removeprefix("-")
        given = {name: getattr(self, name) for name in KINDS[kind].list_filters}
        filters = {name: _filter_text(value) for name, value in given.items() if value is not None}
        place = _place(sort, self.after)
        return Listing(kind, self.limit, sort, self.sort.startswith("-"), place, self.q, self.contains, filters)


@cache
def page_query(kind: str) -> type[PageQuery]:
    """The query of a kind's lists: that of every list, with the orders and filters that the kind declares."""
    declared = KINDS[kind]
    order = Annotated[str, Field(pattern=rf"^-?({'|'.join(declared.sorts)})$")]
    own: list[tuple[str, Any, Any]] = [("sort", order, field(default="name"))]
    for name, about in declared.list_filters.items():
        own.append((name, Annotated[_filter_type(kind, name) | None, about], field(default=None)))
    namespace = {"__doc__": PageQuery.__doc__, "__module__": __name__}
    name = f"{declared.collection.title().replace('_', '')}Query"
    return make_dataclass(name, own, bases=(PageQuery,), namespace=namespace, frozen=True, slots=True)


def _filter_type(kind: str, name: str) -> Any:
    """What a filter takes: one of the field's choices, a flag, a whole number, or text."""
    declared = KINDS[kind].fields.get(name)
    if declared is None or declared.many:
        return Text
    if declared.choices:
        return type(declared.choices[0])
    return {bool: Flag, int: Annotated[int, *number(0, BIGGEST)]}.get(declared.plain_type, Text)


def _filter_text(value: object) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)


def _place(sort: str, after: str | None) -> tuple[str | int, str] | None:
    """Where a page starts: `NAME`, or `VALUE,NAME` in another order than by name."""
    if after is None:
        return None
    if sort == "name":
        return after, after
    value, comma, name = after.partition(",")
    if not comma or (sort in ("id", "changed") and not (value.isascii() and value.isdigit() and len(value) < 19)):
        raise Refusal("bad-request", f"after={after}: must be that of the link `next`, VALUE,NAME.")
    return (int(value) if sort in ("id", "changed") else value), name
