"""The limits of an application, as the node file has them."""

from __future__ import annotations

from aiohttp import web

from dnsvip.site.node_admin import AdminLimits

LIMITS = web.AppKey("limits", AdminLimits)


def limits_of(request: web.Request) -> AdminLimits:
    """The limits of the application that a request came to."""
    return request.app.get(LIMITS, AdminLimits())
