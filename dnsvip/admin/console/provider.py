"""The provider of OpenID Connect: what it says of itself, its keys, and the exchange of a code for an ID token.

Whatever it sends is bounded in bytes and time, and it is asked seldom: its metadata and keys are kept for an hour, a
failure for some seconds, and a key that is not among them has them fetched again twice a minute at most. It is asked
where its metadata, which must name the issuer of the settings, says, by https, without following redirects.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from dnsvip.admin.console.id_tokens import SignInError, UnknownKeyError, user_of
from dnsvip.errors import ConfigError
from dnsvip.site.node_oidc import OidcSettings, is_safe
from dnsvip.store.access.console_sessions import User

SECONDS = 5.0
"""For one request to the provider, all in all."""

MOST_BYTES = 1 << 18
"""Of one answer."""

MOST_KEYS = 64
PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
"""Headers of every request: nothing that gets larger when it is unpacked."""

KEPT_SECONDS, FAILED_SECONDS = 3600.0, 5.0
REFRESH_SECONDS = 30.0
"""Between two fetches of the keys because of a token whose key is not among them."""

MOST_AT_ONCE = 8
"""Sign-ins that wait for the provider at a time."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is needed of a provider's metadata (OpenID Connect Discovery section 3)."""

    authorize: str
    token: str
    jwks: str
    end_session: str | None
    by_post: bool
    says_issuer: bool


class Provider:
    """One provider. Times are monotonic seconds."""

    def __init__(self, settings: OidcSettings) -> None:
        self.settings = settings
        self._secret = _secret(settings.client_secret_file)
        self._tls = _tls(settings.ca)
        self._metadata: Metadata | None = None
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._fetched = self._failed = self._keys_fetched = self._keys_failed = float("-inf")
        self._turn, self._places = asyncio.Lock(), asyncio.Semaphore(MOST_AT_ONCE)

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends browsers back to."""
        return f"{self.settings.url}/console/oidc/callback"

    async def metadata(self) -> Metadata:
        """What the provider says of itself; raises SignInError."""
        async with self._turn:
            now = time.monotonic()
            if self._metadata is None or now - self._fetched >= KEPT_SECONDS:
                if now - self._failed < FAILED_SECONDS:
                    raise SignInError("provider", "the provider did not answer a moment ago")
                try:
                    self._metadata = _metadata(await self._get(_well_known(self.settings.issuer)), self.settings.issuer)
                    self._fetched = now
                except SignInError:
                    self._failed = time.monotonic()  # who waited meanwhile does not wait as long once more
                    raise
            return self._metadata

    async def user(self, code: str, verifier: str, nonce: str) -> User:
        """Who has signed in there and got this code; raises SignInError."""
        if self._places.locked():
            raise SignInError("busy", f"{MOST_AT_ONCE} sign-ins wait for the provider")
        async with self._places:
            token = await self._id_token(code, verifier)
            try:
                return user_of(token, await self._known_keys(KEPT_SECONDS), self.settings, nonce)
            except UnknownKeyError:
                return user_of(token, await self._known_keys(REFRESH_SECONDS), self.settings, nonce)

    async def _id_token(self, code: str, verifier: str) -> str:
        metadata, own = await self.metadata(), self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        if self._secret is None or metadata.by_post:
            form |= {"client_id": own.client_id} | ({"client_secret": self._secret} if self._secret else {})
        else:  # RFC 6749 section 2.3.1
            pair = f"{quote(own.client_id, safe='')}:{quote(self._secret, safe='')}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        answer = await self._ask("POST", metadata.token, data=form, headers=headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInError("provider", "the provider's answer to the code has no ID token")
        return token

    async def _known_keys(self, kept_seconds: float) -> Sequence[Mapping[str, Any]]:
        """The provider's keys, as they were so long ago at most."""
        metadata = await self.metadata()
        async with self._turn:
            now = time.monotonic()
            if now - self._keys_fetched >= kept_seconds:
                if now - self._keys_failed < FAILED_SECONDS:
                    raise SignInError("provider", "the provider did not give its keys a moment ago")
                try:
                    self._keys, self._keys_fetched = _keys(await self._get(metadata.jwks)), now
                except SignInError:
                    self._keys_failed = time.monotonic()
                    raise
            return self._keys

    async def _get(self, url: str) -> Mapping[str, Any]:
        return await self._ask("GET", url)

    async def _ask(self, method: str, url: str, **more: Any) -> Mapping[str, Any]:
        """The JSON object that a URL of the provider answers; raises SignInError."""
        if not is_safe(url):
            raise SignInError(
                "provider", f"the provider names {url[:100]!r}, which is neither https nor on this machine"
            )
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False, headers=PLAIN) as session,
                session.request(method, url, allow_redirects=False, ssl=self._tls, **more) as answer,
            ):
                body = await _bounded(answer.content)
                if answer.status != 200:
                    raise SignInError("provider", f"{url}: answers {answer.status} {_reason(body)}".rstrip())
                data = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SignInError("provider", f"{url}: {str(error) or f'no answer within {SECONDS:g} s'}") from None
        except (ValueError, RecursionError):
            raise SignInError("provider", f"{url}: does not answer JSON") from None
        if not isinstance(data, dict):
            raise SignInError("provider", f"{url}: does not answer a JSON object")
        return data


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise SignInError("provider", f"the provider answers more than {MOST_BYTES} bytes")
    return bytes(body)


def _reason(body: bytes) -> str:
    """The code of an OAuth error (RFC 6749 section 5.2), if it is one."""
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return error[:50] if isinstance(error, str) and error.isascii() and error.isprintable() else ""


def _well_known(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def _metadata(data: Mapping[str, Any], issuer: str) -> Metadata:
    if data.get("issuer") != issuer:
        raise SignInError("provider", f"the provider says it is {str(data.get('issuer'))[:100]!r}, not {issuer!r}")
    urls = [data.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if not all(isinstance(url, str) and is_safe(url) for url in urls):
        raise SignInError("provider", "the provider's metadata lacks an endpoint that is https or on this machine")
    authorize, token, jwks = map(str, urls)
    end, methods = data.get("end_session_endpoint"), data.get("token_endpoint_auth_methods_supported")
    by_post = isinstance(methods, list) and "client_secret_basic" not in methods
    says = data.get("authorization_response_iss_parameter_supported") is True
    return Metadata(authorize, token, jwks, end if isinstance(end, str) and is_safe(end) else None, by_post, says)


def _keys(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    keys = data.get("keys")
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        raise SignInError("provider", f"the provider's keys are no list of at most {MOST_KEYS}")
    return [key for key in keys if isinstance(key, dict)]


def _secret(path: Path | None) -> str | None:
    """The secret in a file; raises ConfigError."""
    if path is None:
        return None
    where = f"admin.oidc.client_secret_file: {path}"
    try:
        with path.open() as file:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigError(f"{where}: can be read by others: chmod 600 {path}")
            secret = file.read(4096).strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{where}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    if not secret or not secret.isprintable():
        raise ConfigError(f"{where}: holds no secret: one line as the provider gave it")
    return secret


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"admin.oidc.ca: {ca}: is no PEM file of certificates: {error.strerror or error}") from None
