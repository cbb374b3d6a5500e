"""Objects as answers show them: without secrets, with entity tags, and large ones made in a thread."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from aiohttp import web

from dnsvip.admin.http import bodies
from dnsvip.admin.http.work import aside
from dnsvip.site.plain import JsonObject, SiteObject, dump
from dnsvip.site.registry import secrets_of
from dnsvip.site.size import is_large


def without_secrets(thing: SiteObject) -> JsonObject:
    """An object as answers show it."""
    secrets = secrets_of(type(thing))
    return {key: value for key, value in dump(thing).items() if key not in secrets}


def shown_response(shown: JsonObject, headers: dict[str, str] | None = None, *, status: int = 200) -> web.Response:
    """One object as it is shown, with its entity tag."""
    return bodies.answer(shown, status=status, headers={"ETag": bodies.etag(shown), **(headers or {})})


async def large_response(
    request: web.Request,
    show: Callable[[SiteObject], JsonObject],
    thing: SiteObject,
    headers: dict[str, str],
    *,
    status: int = 200,
) -> web.Response:
    """One object as it is shown, whatever its size."""

    def made() -> web.Response:
        return shown_response(show(thing), headers, status=status)

    return await aside(request, made, large=is_large(thing))


def fresh_response(
    request: web.Request, show: Callable[[SiteObject], JsonObject], thing: SiteObject, **headers: str
) -> web.Response:
    """An object as it is shown, or that the caller has it already."""
    shown = show(thing)
    tag = bodies.etag(shown)
    if bodies.is_fresh(request, tag):
        return web.Response(status=304, headers={"ETag": tag, **headers})
    return bodies.answer(shown, headers={"ETag": tag, **headers})


def page_response(request: web.Request, items: list[JsonObject], more: JsonObject | None) -> web.Response:
    """A page of a list; `more` is the query of the next one, None after the last."""
    return bodies.answer({"items": items, "next": f"{request.path}?{urlencode(more)}" if more else None})
