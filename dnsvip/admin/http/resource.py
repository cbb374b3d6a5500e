"""How a kind of object is served over HTTP, and how its objects are called.

What is special about a kind are the values of its `Resource`; the operations are the same for all (collection.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from aiohttp import web

from dnsvip.admin.http.limits import limits_of
from dnsvip.admin.http.operation import ROOT
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import PAGE_BYTES, PageQuery
from dnsvip.admin.http.shown import without_secrets
from dnsvip.errors import Problem
from dnsvip.site.plain import JsonObject, SiteObject, canonical_name
from dnsvip.site.registry import Kind
from dnsvip.site.unreadable import Unreadable
from dnsvip.store import Listing

Check: TypeAlias = Callable[[web.Request, str, JsonObject], Awaitable[None]]
Permit: TypeAlias = Callable[[web.Request, SiteObject | None, SiteObject | None], Awaitable[None]]
Remark: TypeAlias = Callable[[web.Request, SiteObject | None, SiteObject], Awaitable[Sequence[Problem]]]

Beside: TypeAlias = Callable[[web.Request, Sequence[SiteObject]], Awaitable[Sequence[JsonObject]]]
"""From the objects of a page to the computed fields of each."""


async def _unchecked(_request: web.Request, _name: str, _body: JsonObject) -> None:
    pass


async def _unremarked(_request: web.Request, _before: SiteObject | None, _after: SiteObject) -> Sequence[Problem]:
    return ()


async def _permitted(_request: web.Request, _before: SiteObject | None, _after: SiteObject | None) -> None:
    pass


def _as_wanted(_before: SiteObject | None, after: SiteObject) -> SiteObject:
    return after


async def alone(_request: web.Request, things: Sequence[SiteObject]) -> Sequence[JsonObject]:
    """No computed fields."""
    return [{}] * len(things)


def _nothing(_query: PageQuery) -> Sequence[tuple[str, str]]:
    return ()


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind of object is served.

    `shown` and `listed` are its forms in answers. `settled` gives the object to store for the requested one, or raises;
    `check` raises for a body whose examination takes long, `permit` where the caller's rights do not reach what the
    stored object is to become, None where it is to go. `remarks` gives warnings about a change beside those of the
    site's rules, for the answer. `beside` gives the computed fields that a list shows. `discloses` names the objects of
    other kinds, (kind, name), that the answer to a query tells about.
    `limit` names that of a body; a page of a list ends where its stored texts have `page_bytes`.
    With `reserved` no object can be called
    import or export.
    """

    kind: Kind
    shown: Callable[[SiteObject], JsonObject] = without_secrets
    listed: Callable[[SiteObject], JsonObject] = without_secrets
    settled: Callable[[SiteObject | None, SiteObject], SiteObject] = _as_wanted
    check: Check = _unchecked
    remarks: Remark = _unremarked
    permit: Permit = _permitted
    beside: Beside = alone
    discloses: Callable[[PageQuery], Sequence[tuple[str, str]]] = _nothing
    limit: str = "body_bytes"
    page_bytes: int = PAGE_BYTES
    reserved: bool = False

    @property
    def name(self) -> str:
        """The name of its kind."""
        return self.kind.name

    @property
    def path(self) -> str:
        """The path of its list."""
        return f"{ROOT}/{self.kind.plural}"

    def listing(self, query: PageQuery) -> Listing:
        """The store's listing that a list's query asks for; raises Refusal."""
        return query.listing(self.name)

    def most(self, request: web.Request) -> int:
        """Bytes in a body."""
        return int(getattr(limits_of(request), self.limit))

    def url(self, name: str) -> str:
        """The path of one object."""
        return f"{self.path}/{quote(name, safe='')}"


def name_of(resource: Resource, request: web.Request) -> str:
    """The name in a request's path, in the form that the kind is filed under."""
    return canonical_name(resource.name, request.match_info["name"])


def absent(resource: Resource, name: str) -> Refusal:
    """The refusal where there is no such object."""
    return Refusal("not-found", f"There is no {resource.name} {name!r}; GET {resource.path} lists them.")


def name_of_thing(thing: SiteObject | Unreadable) -> str:
    """An object's name, "" where its kind has no names."""
    return getattr(thing, "name", "")
