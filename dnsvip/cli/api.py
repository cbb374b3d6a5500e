"""The HTTP API as the nouns of the command line call it: one place for address, token and problems.

It promises that every failure is a message with an exit code: 1 the API cannot be reached or failed, or
takes the token for none; 2 the request was refused as wrong; 4 there is no such thing; 5 it collides
with something.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import click

from dnsvip.errors import DnsvipError
from dnsvip.spec import Plain

ROOT = "/api/v1"
DEFAULT = "127.0.0.1:8053"
TIMEOUT_SECONDS = 300.0
"""A very large zone takes its time to be checked."""

EXIT_CODES: Mapping[int, int] = {400: 2, 404: 4, 405: 2, 409: 5, 412: 5, 413: 2, 415: 2, 422: 2}
"""HTTP status -> exit code; every other failure is 1."""

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage or refused as invalid, 4 no such thing, 5 collides with another."

F = TypeVar("F", bound=Callable[..., Any])


class ApiError(DnsvipError):
    """The API refused, failed or was not reached; `status` is HTTP's, 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.exit_code = EXIT_CODES.get(status, 1)


class Api:
    """An API at `url` (http://HOST:PORT), called with `token`. No proxy is ever asked: it would see the token."""

    def __init__(self, url: str, token: str, seconds: float = TIMEOUT_SECONDS) -> None:
        self._url = url
        self._token = token
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connect = functools.partial(kind, parts.hostname or "", parts.port, timeout=seconds)

    def get(self, *path: str) -> Any:
        """What is at a path; its parts are quoted."""
        return self.call("GET", *path)

    def call(self, method: str, *path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON of the answer (None where it has no content); raises ApiError."""
        return self._call(method, f"{ROOT}/{'/'.join(quote(part, safe='') for part in path)}", body, headers or {})

    def items(self, *path: str, limit: int | None = None, after: str = "") -> Iterator[Plain]:
        """Everything in a list, read page by page; at most `limit` of it, and what comes after the name `after`."""
        url = f"{ROOT}/{'/'.join(quote(part, safe='') for part in path)}?limit={min(limit or 1000, 1000)}"
        url += f"&after={quote(after, safe='')}" if after else ""
        given = 0
        while url:
            page = self._call("GET", url, None, {})
            for item in page["items"]:
                if given == limit:
                    return
                yield item
                given += 1
            url = page["next"]

    def _call(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Any:
        data, kind = (None, None) if body is None else (json.dumps(body).encode(), "application/json")
        sent = {"Authorization": f"Bearer {self._token}", **({"Content-Type": kind} if kind else {}), **headers}
        connection = self._connect()
        try:
            connection.request(method, url, data, sent)
            answer = connection.getresponse()
            return self._read(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ApiError(
                f"no API at {self._url}: {why}; is `dnsvip serve` running there, with [admin] in its node file?"
                " (--api or DNSVIP_API says where)"
            ) from None
        finally:
            connection.close()

    def _read(self, status: int, text: bytes) -> Any:
        if status == http.HTTPStatus.NO_CONTENT:
            return None
        try:
            data = json.loads(text)
        except ValueError:
            raise ApiError(f"what answers at {self._url} is not the dnsvip API (HTTP status {status})") from None
        if status < 300:
            return data
        raise ApiError(_told(data), status)


def _told(problem: Any) -> str:
    """A problem for people: all its errors where it lists them, else what it says."""
    if not isinstance(problem, dict):
        return str(problem)
    errors = problem.get("errors")
    if not errors:
        return str(problem.get("detail", problem.get("title", "refused")))
    return "\n".join([str(problem["title"]), *(f"  {error['where']}: {error['message']}" for error in errors)])


def with_api(function: F) -> F:
    """Give a command the options --api and --token-file, and the Api they name as its argument `api`."""

    @click.option("--api", "address", metavar="HOST:PORT", help=f"Where the API is (or $DNSVIP_API); {DEFAULT}.")
    @click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The file that holds the bearer token (or the token itself in $DNSVIP_TOKEN).",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, address: str | None, token_file: Path | None, **kwargs: Any) -> Any:
        return function(*args, api=find_api(address, token_file), **kwargs)

    return wrapper  # type: ignore[return-value]


def find_api(address: str | None, token_file: Path | None, seconds: float = TIMEOUT_SECONDS) -> Api:
    """The API that options and environment name; raises click's UsageError."""
    given = address or os.environ.get("DNSVIP_API") or DEFAULT
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise click.UsageError(f"{given!r} is not where an API can be: must be HOST:PORT, [ADDRESS]:PORT or a URL")
    return Api(f"{parts.scheme}://{parts.netloc}", _token(token_file), seconds)


def _token(file: Path | None) -> str:
    if file is None:
        token, source = os.environ.get("DNSVIP_TOKEN", "").strip(), "$DNSVIP_TOKEN"
        if not token:
            raise click.UsageError("a token is needed: --token-file FILE, or DNSVIP_TOKEN in the environment")
    else:
        try:
            token, source = file.read_text().strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{file}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.UsageError(f"{source} holds no token")
    return token
