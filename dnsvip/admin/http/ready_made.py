"""Answers that are made once: those that anybody may ask for cost the process that answers DNS no more than sending.

Making one of the API's description takes a quarter of a second: enough for a stranger to hold up all others.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from aiohttp import hdrs, web

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """A text in UTF-8 and its type, as it is and compressed."""

    body: bytes = field(repr=False)
    zipped: bytes = field(repr=False)
    content_type: str

    def answer(self, request: web.Request, headers: Mapping[str, str] | None = None) -> web.Response:
        """The text, compressed where the requester takes that."""
        zips = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
        body = self.zipped if zips else self.body
        answer = web.Response(body=body, headers=headers, content_type=self.content_type, charset="utf-8")
        answer.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if zips:
            answer.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return answer


def ready_made(text: str, content_type: str) -> ReadyMade:
    """A text ready to be sent."""
    body = text.encode()
    return ReadyMade(body, gzip.compress(body, mtime=0), content_type)


class OncePerApplication(Generic[T]):
    """What `make` makes of an application, made at its first use; not to be changed."""

    def __init__(self, make: Callable[[web.Application], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[web.Application, T] = WeakKeyDictionary()
        self._turns: WeakKeyDictionary[web.Application, asyncio.Lock] = WeakKeyDictionary()

    def __call__(self, app: web.Application) -> T:
        """What was made of `app`."""
        if app not in self._made:
            self._made[app] = self._make(app)
        return self._made[app]

    async def beside(self, app: web.Application) -> T:
        """The same; it is made beside other work, once however many ask for it at first."""
        if app not in self._made:
            async with self._turns.setdefault(app, asyncio.Lock()):
                if app not in self._made:
                    self._made[app] = await asyncio.to_thread(self._make, app)
        return self._made[app]
