"""Fetches decoding keys from the HTTP API, and follows rotations by looking again."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import aiohttp
import structlog

from dnsvip.decoder.io import keys_file
from dnsvip.decoder.keys import DecodingKeys, read
from dnsvip.errors import ConfigError, DnsvipError
from dnsvip.site.node_admin import UNIX
from dnsvip.site.node_decoder import DecoderSettings

MOST_BYTES = 4 << 20
"""Of one cluster's document: its values and the site's tiers."""

FETCH_SECONDS = 10.0
SOON_SECONDS, GAP_SECONDS = 1.0, 0.2
"""Longest time of one fetch; what a look may take that an unknown epoch waits for, and least time from one to the
next."""

UNKNOWN, UNKNOWN_SECONDS = "too-many-attempts", 2.0
"""A kind of 429 that no good token gets, however many wrong ones come from this machine, but one that was made within
half a second; and how long it is not believed. Who sends wrong ones hides no 401 by it."""

TOKEN = re.compile(r"[!-~]+")
"""What may be a token (RFC 6750 section 2.1, widely)."""

log = structlog.get_logger(__name__)


class Feed:
    """The keys of the clusters that the settings name. `taken` is called with all of them whenever they change."""

    def __init__(
        self, settings: DecoderSettings, state_dir: Path, taken: Callable[[Mapping[str, DecodingKeys]], None]
    ) -> None:
        self._settings, self._folder, self._taken = settings, state_dir, taken
        self._keys: dict[str, DecodingKeys] = {}
        self._tags: dict[str, str] = {}
        self._failing: dict[str, str] = {}
        self._unknown: dict[str, float] = {}
        """Cluster -> since when the API has said UNKNOWN (monotonic seconds)."""
        self._asked = asyncio.Event()
        self._looked = asyncio.Condition()
        self._looks, self._looking, self._begun, self._resting_until = 0, False, 0.0, 0.0

    def load(self) -> None:
        """Take the keys that were fetched last from the disk; raises ConfigError where the token cannot be read."""
        try:
            stored = keys_file.load(self._folder, self._token())
        except ConfigError as error:
            self._token()
            log.warning("the stored keys are not used, and fetched anew", error=str(error))
            return
        self._keys = {name: stored[name] for name in self._settings.clusters if name in stored}
        self._taken(self._keys)

    async def soon(self) -> bool:
        """Look for new keys now, as an epoch is unknown, and wait for them two seconds at most. Returns whether it has
        looked: not after `rest`, nor where the API lets a look wait."""
        now = time.monotonic()
        if now < self._resting_until or (self._looking and now > self._begun + SOON_SECONDS):
            return False
        look = self._looks + 1 + self._looking  # one that has begun may be too early
        self._asked.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * SOON_SECONDS), self._looked:
                await self._looked.wait_for(lambda: self._looks >= look)
        return self._looks >= look

    def rest(self) -> None:
        """Look no sooner than at the rate of the settings: what is unknown may be anybody's invention."""
        self._resting_until = time.monotonic() + self._settings.poll_seconds

    async def run(self) -> None:
        """Look at the rate of the settings, and when asked to, until cancelled."""
        async with self._session() as session:
            while True:
                self._asked.clear()
                self._begun, self._looking = time.monotonic(), True
                await self._fetch_all(session)
                self._looking = False
                async with self._looked:
                    self._looks += 1
                    self._looked.notify_all()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), self._settings.poll_seconds)
                await asyncio.sleep(max(0.0, self._begun + GAP_SECONDS - time.monotonic()))

    def _session(self) -> aiohttp.ClientSession:
        api = self._settings.api
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        if api.startswith(UNIX):
            path = api.removeprefix(UNIX)
            return aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(path), timeout=timeout)
        return aiohttp.ClientSession(api, connector=aiohttp.TCPConnector(ssl=self._trust()), timeout=timeout)

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._settings.ca)
        except OSError as error:
            raise ConfigError(f"decoder.ca: {self._settings.ca}: cannot be used: {error.strerror or error}") from None

    async def _fetch_all(self, session: aiohttp.ClientSession) -> None:
        changed = False
        for name in self._settings.clusters:
            try:
                changed |= await self._fetch(session, name)
                if name in self._keys and self._failing.pop(name, ""):
                    log.info("the keys are fetched again", cluster=name)
            except (aiohttp.ClientError, TimeoutError, OSError, DnsvipError) as error:
                text = str(error) or type(error).__name__
                if self._failing.get(name) != text:  # once, not at every look
                    log.warning("the keys cannot be fetched, going on with those there are", cluster=name, error=text)
                self._failing[name] = text
        if changed:
            self._taken(self._keys)
            await asyncio.to_thread(self._save, dict(self._keys))

    async def _fetch(self, session: aiohttp.ClientSession, name: str) -> bool:
        """Fetch one cluster's keys; returns whether they may be new."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        if name in self._tags and name in self._keys:
            headers["If-None-Match"] = self._tags[name]
        async with session.get(
            f"/api/v1/clusters/{quote(name, safe='')}/decoding-keys", headers=headers, allow_redirects=False
        ) as answer:
            if answer.status != 429:
                self._unknown.pop(name, None)
            if answer.status == 304:
                return False
            body = await _whole(answer.content)
            why = f"the API answers {answer.status}: {_said(body, 'detail')}"
            if answer.status in (401, 403, 404) or (answer.status == 429 and self._is_unknown(name, body)):
                self._forget(name, why)
                return True
            if answer.status != 200:
                raise ConfigError(why)
            fetched = read(body, "the API's answer")
            self._tags[name] = answer.headers.get("ETag", "")
        self._keys[name] = fetched
        return True

    def _is_unknown(self, name: str, refusal: bytes) -> bool:
        """Whether the API has said for long enough that it does not know the token."""
        if not _said(refusal, "type").endswith(f":{UNKNOWN}"):
            return False
        now = time.monotonic()
        return now >= self._unknown.setdefault(name, now) + UNKNOWN_SECONDS

    def _forget(self, name: str, why: str) -> None:
        """The keys of a cluster that is gone or closed to the token are not used any more."""
        if self._failing.get(name) != why:
            log.error("there are no keys of this cluster for us", cluster=name, error=why)
        self._failing[name] = why
        self._keys.pop(name, None)

    def _token(self) -> str:
        path = self._settings.token_file
        try:
            token = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"decoder.token_file: {path}: cannot be read: {error}") from None
        if not TOKEN.fullmatch(token):  # it may be about to be written
            raise ConfigError(f"decoder.token_file: {path}: holds no token: a single word is expected")
        return token

    def _save(self, documents: Mapping[str, DecodingKeys]) -> None:
        try:
            keys_file.save(self._folder, self._token(), documents)
        except DnsvipError as error:
            log.warning("the keys cannot be stored: a restart needs the API", error=str(error))


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """All pieces of an answer; raises ConfigError where it is too large."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise ConfigError(f"the API's answer is larger than {MOST_BYTES} bytes")
    return bytes(body)


def _said(body: bytes, what: str) -> str:
    """A text of a problem; empty where there is none."""
    with suppress(ValueError, AttributeError):
        return str(json.loads(body).get(what, ""))[:200]
    return ""
