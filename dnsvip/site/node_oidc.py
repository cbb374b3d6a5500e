"""The table `[admin.oidc]` of the node file: users who sign in to the console by OpenID Connect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from dnsvip.site import STRICT
from dnsvip.site.declare import About
from dnsvip.site.rights import ROLES, Scope

LONGEST = 12 * 3600
"""Seconds that a user's session lasts at most."""


_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?(?P<path>/[^\s?#\\]*)?(?P<query>\?[^\s#]*)?"
)
"""URLs that are taken (RFC 3986): without a user, which would read as the host, and without a fragment."""


def is_safe(url: str) -> bool:
    """Whether nobody on the way reads what goes to a URL: it is https, or on this machine."""
    parts = _URL.fullmatch(url)
    return parts is not None and (parts["scheme"] == "https" or _is_here(parts["host"].strip("[]")))


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_url(text: str) -> str:
    parts = _URL.fullmatch(text)
    if parts is None or parts["query"]:
        raise ValueError("must be a URL without user, query and fragment")
    if not is_safe(text):
        raise ValueError("must be https://HOST, or http:// on this machine")
    return text


def _checked_console(text: str) -> str:
    parts = _URL.fullmatch(_checked_url(text))
    if parts is None or parts["path"] not in (None, "/"):
        raise ValueError("must have no path: the console is at /console/")
    return text.rstrip("/")


def _scopes_of(value: Any) -> Any:
    """The scopes of a role's name; all else is scopes by itself."""
    if isinstance(value, str):
        if value not in ROLES:
            raise ValueError(f"must be scopes or a role: {', '.join(ROLES)}")
        return ROLES[value]
    return value


Url: TypeAlias = Annotated[str, Field(max_length=500), AfterValidator(_checked_url)]
ConsoleUrl: TypeAlias = Annotated[str, Field(max_length=300), AfterValidator(_checked_console)]
Word: TypeAlias = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,255}$")]
_TABLES = {"type": "array", "items": {"type": "object"}}
Granted: TypeAlias = Annotated[
    tuple[Scope, ...], BeforeValidator(_scopes_of), WithJsonSchema({"anyOf": [{"type": "string"}, _TABLES]})
]


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """`[admin.oidc]`: a provider of OpenID Connect, whose users sign in to the console beside tokens. What they may do
    is by a claim of the ID token: each of its values that `roles` has gives a role, or scopes as those of tokens."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    issuer: Annotated[Url, About("Issuer", "The provider, exactly as its ID tokens name it in `iss`.")]
    client_id: Annotated[Word, About("Client", "What this console is called at the provider.")]
    url: Annotated[
        ConsoleUrl,
        About(
            "URL",
            "Where browsers find the console, such as https://dnsvip.example.test; the provider has to allow "
            "URL/console/oidc/callback as redirect URI.",
        ),
    ]
    roles: Annotated[
        Mapping[Word, Granted],
        About("Roles", "Value of the claim to a role of tokens, or to scopes as tokens have them."),
    ]
    client_secret_file: Annotated[
        Path | None,
        About("Secret", "File of the client's secret, readable by its owner alone; a public client has none."),
    ] = None
    label: Annotated[
        str,
        Field(pattern=r"^[^\x00-\x1f<>]{1,40}$"),
        About("Label", "What the sign-in page calls the provider."),
    ] = "OpenID Connect"
    scopes: Annotated[
        tuple[Word, ...],
        About("Scopes", "Scopes that are asked for beside `openid`, such as one that adds groups to ID tokens."),
    ] = ("profile",)
    role_claim: Annotated[
        Word,
        About("Role claim", "Claim of the ID token with the user's groups or roles, `a.b` for the member b of a."),
    ] = "groups"
    name_claim: Annotated[
        Word, About("Name claim", "Claim with the name that audit and log call the user by, beside its `sub`.")
    ] = "preferred_username"
    session_seconds: Annotated[
        int,
        Field(ge=60, le=LONGEST),
        About("Session", "Time after which a user must sign in again, as groups are only read then.", unit="s"),
    ] = 3600
    clock_skew: Annotated[
        int,
        Field(ge=0, le=300),
        About("Clock skew", "How far the provider's clock may be from this node's.", unit="s"),
    ] = 60
    ca: Annotated[
        Path | None, About("CA", "PEM file of the authority of the provider's certificate; by default the system's.")
    ] = None
    end_session: Annotated[
        bool, About("Sign out there", "Signing out leads to the provider's own sign-out, where it has one.")
    ] = True
