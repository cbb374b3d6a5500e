"""ID tokens (OpenID Connect Core section 3.1.3.7): who has signed in, as far as a token says it and proves it.

Pure: no network, no clock of its own but that of PyJWT. A token is believed where one of the provider's own keys has
signed it by an algorithm of that key's kind, for this client, now, and for the sign-in that this browser has begun.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from dnsvip.errors import DnsvipError
from dnsvip.site.node_oidc import OidcSettings
from dnsvip.store.access.console_sessions import User
from dnsvip.store.database.damage import is_text

ALGORITHMS: Mapping[str, str] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
"""Algorithm -> the type of its keys (RFC 7518, RFC 8037). Neither `none` nor any whose key verifiers must not know."""

MOST_BYTES = 1 << 15
"""Characters of a token."""

LEAST_RSA_BITS = 2048
MOST_ROLES = 1000
NAME, SUBJECT = 64, 128
"""Characters of a name and of a `sub` that the audit has."""


class SignInError(DnsvipError):
    """A sign-in that fails; `code` is what the browser is told, the text what the log says."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class UnknownKeyError(SignInError):
    """A token of a key that is not among those at hand: the provider may have a new one."""


def user_of(token: str, keys: Sequence[Mapping[str, Any]], settings: OidcSettings, nonce: str) -> User:
    """The user whom a token names, with the roles of `settings` that it gives; raises SignInError."""
    claims = _verified(token, keys, settings)
    brought = str(claims.get("nonce", "")).encode(errors="backslashreplace")  # JSON has texts that are none
    if not hmac.compare_digest(brought, nonce.encode()):
        raise SignInError("token", "the ID token is of another sign-in: its nonce is not the one that was sent")
    subject = _printable(claims["sub"], SUBJECT)
    roles = tuple(role for role in _values(claims, settings.role_claim) if role in settings.roles)
    if not roles:
        text = f"{subject!r} has no value of the claim {settings.role_claim!r} that [admin.oidc.roles] has"
        raise SignInError("roles", text)
    return User(_name(claims, settings.name_claim, subject), settings.issuer, claims["sub"], roles)


def _verified(token: str, keys: Sequence[Mapping[str, Any]], settings: OidcSettings) -> Mapping[str, Any]:
    if len(token) > MOST_BYTES:
        raise SignInError("token", f"the ID token has more than {MOST_BYTES} characters")
    try:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg", "")
        if algorithm not in ALGORITHMS:
            raise SignInError("token", f"the ID token is signed by {str(algorithm)[:20]!r}, which is not taken")
        if "crit" in header:  # RFC 7515 section 4.1.11
            raise SignInError("token", "the ID token has critical headers that are not known here")
        key = _key(header.get("kid"), algorithm, keys)
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=settings.client_id,
            issuer=settings.issuer,
            leeway=settings.clock_skew,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
    except jwt.PyJWTError as error:
        raise SignInError("token", f"the ID token is not valid: {type(error).__name__}: {str(error)[:100]}") from None
    _check_party(claims, settings.client_id)
    return claims


def _check_party(claims: Mapping[str, Any], client: str) -> None:
    """Raise SignInError where a token is for others, too, and was issued to one of them."""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client) != client:
        raise SignInError("token", "the ID token was issued to another client (azp)")
    sub = claims["sub"]
    if not isinstance(sub, str) or not 0 < len(sub) <= 255 or not is_text(sub):
        raise SignInError("token", "the ID token's sub is not 1 to 255 characters")


def _key(kid: object, algorithm: str, keys: Sequence[Mapping[str, Any]]) -> Any:
    """The one key that a token says it is signed by; raises SignInError."""
    fit = [key for key in keys if key.get("kty") == ALGORITHMS[algorithm] and (kid is None or key.get("kid") == kid)]
    fit = [key for key in fit if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm]
    if len(fit) != 1:
        raise UnknownKeyError("token", f"{len(fit)} keys of the provider are that of the ID token")
    key = jwt.PyJWK(dict(fit[0]), algorithm=algorithm).key
    if ALGORITHMS[algorithm] == "RSA" and key.key_size < LEAST_RSA_BITS:
        raise SignInError("token", f"the provider's key has less than {LEAST_RSA_BITS} bits")
    return key


def _values(claims: Mapping[str, Any], path: str) -> Sequence[str]:
    """The texts of a claim: one, or a list of them; `a.b` is the member b of a where there is no claim of that name."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    found = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(text for text in found[:MOST_ROLES] if isinstance(text, str)))


def _name(claims: Mapping[str, Any], claim: str, subject: str) -> str:
    """What the audit calls a user: a name may change and be another's tomorrow, so with what does not."""
    name = claims.get(claim)
    if not isinstance(name, str) or not name or name == claims["sub"]:
        return subject
    return f"{_printable(name, NAME)} ({subject})"


def _printable(text: str, most: int) -> str:
    """A text of the provider's without what could make it look like another in a line; brackets mark the `sub`."""
    kept = "".join(letter if letter.isprintable() and letter not in "()" else "_" for letter in text)
    return kept[:most]
