"""What an HTTP request's head must not ask for, refused before anything looks for what is there and before it is known
who sends it.

A path: aiohttp looks for a route at it, at it without its last part, and so on. A request line of 64 kB with nothing
but slashes takes it half a second. An expectation (RFC 9110 section 10.1.1) that is not met would be echoed, and fail
where it is no text. A compressed body: a megabyte unpacks to a gigabyte, in the process that answers DNS or forwards
packets, whether or not anybody reads it.
"""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import MatchInfoError, UrlMappingMatchInfo

DEEPEST = 32
"""Parts of the deepest path that is looked for: no operation has half as many."""


def runner_of(app: web.Application, **more: Any) -> web.AppRunner:
    """What serves an application: heads as above are refused, nothing is unpacked, and no request is logged."""
    look = app.router.resolve

    async def resolve(request: web.Request) -> UrlMappingMatchInfo:
        refusal = refusal_of(request)
        return await look(request) if refusal is None else _Refused(refusal)

    app.router.resolve = resolve  # type: ignore[method-assign] # routes are looked for before any middleware runs
    return web.AppRunner(app, handle_signals=False, access_log=None, auto_decompress=False, **more)


def refusal_of(request: web.BaseRequest) -> web.HTTPException | None:
    """Why a request's head is refused; None where it is not."""
    if request.rel_url.raw_path.count("/") > DEEPEST:
        return web.HTTPNotFound()
    if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
        return web.HTTPExpectationFailed(reason="The only expectation that is met here is 100-continue.")
    codings = request.headers.getall(hdrs.CONTENT_ENCODING, ())
    if request.body_exists and any(coding.lower() != "identity" for coding in codings):
        text = "Bodies are taken as they are, without Content-Encoding."
        return web.HTTPUnsupportedMediaType(reason=text, headers={hdrs.ACCEPT_ENCODING: "identity"})
    return None


class _Refused(MatchInfoError):
    """A head that is refused: aiohttp is not to look at its expectation first."""

    @property
    def expect_handler(self) -> Any:
        """Does nothing."""
        return _nothing


async def _nothing(_: web.Request) -> None:
    pass
