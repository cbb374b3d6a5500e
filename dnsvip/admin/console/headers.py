"""Security headers of every answer: run only our own scripts, in no frame, and send no referrer."""

from __future__ import annotations

from aiohttp import web

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The Content Security Policy of the console: nothing inline, nothing third-party, no HTML made from text."""

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Of every answer: a page of the same host at another port sends the session's cookie too, and gets nothing for it, not
in a frame either."""

CONSOLE = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


async def secured(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers to an answer before it is sent; those that a handler has set stay."""
    own = CONSOLE if request.path == "/" or request.path.startswith("/console") else {}
    for name, value in (ALWAYS | own).items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
