"""Users by OpenID Connect as callers: what the roles of their session give, by the settings of the node as they are.

A session has the names of roles, never rights: what `[admin.oidc.roles]` no longer has, nobody has.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from aiohttp import web

from dnsvip.admin.console.id_tokens import SignInError
from dnsvip.admin.console.provider import Provider
from dnsvip.admin.http.auth import LOCALLY, Caller, rights_here, unauthorized
from dnsvip.admin.http.source import source_of
from dnsvip.site.node_oidc import OidcSettings
from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import Rights
from dnsvip.store.access.console_sessions import Holder, User

PROVIDER = web.AppKey("provider", Provider)
START = "/console/oidc/start"


def caller_of_user(request: web.Request, holder: Holder) -> Caller:
    """The user of a session; raises Refusal where the settings give the roles nothing any more."""
    user, provider = holder.session.user, request.app.get(PROVIDER)
    rights = rights_of(user, provider.settings) if user and provider else Rights(())
    if user is None or not rights.scopes or holder.warrant is None:
        text = "The roles of this user give no rights here (any more); sign in again, or with a token."
        raise unauthorized(text, ', error="invalid_token"')
    warrant = replace(holder.warrant, source=source_of(request) or LOCALLY)
    return Caller(f"user {user.name}", rights_here(request, rights), None, warrant)


def rights_of(user: User, settings: OidcSettings) -> Rights:
    """What the roles of a user give; nothing to those of another provider."""
    if user.issuer != settings.issuer:
        return Rights(())
    granted = (scope for role in user.roles for scope in settings.roles.get(role, ()))
    return Rights(tuple(dict.fromkeys(granted)))


def users_sign_in(request: web.Request) -> JsonObject | None:
    """What the sign-in page offers users; None where they have no provider."""
    provider = request.app.get(PROVIDER)
    if provider is None:
        return None
    return {"label": provider.settings.label, "start": f"{provider.settings.url}{START}"}


async def end_there(request: web.Request) -> str | None:
    """Where the provider ends its own session (OpenID Connect RP-Initiated Logout); None where that is not wanted, or
    not known now."""
    provider = request.app.get(PROVIDER)
    if provider is None or not provider.settings.end_session:
        return None
    try:
        end = (await provider.metadata()).end_session
    except SignInError:
        return None
    back = {"client_id": provider.settings.client_id, "post_logout_redirect_uri": f"{provider.settings.url}/console/"}
    return end and f"{end}{'&' if '?' in end else '?'}{urlencode(back)}"
