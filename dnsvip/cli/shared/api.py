"""The HTTP API as the nouns of the command line call it: one place for address, token and errors.

Every failure is a message with an exit code: 1 the API cannot be reached, fails, or rejects the token;
2 the request is invalid; 4 not found; 5 conflict.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from dnsvip.cli.shared.absent import absent
from dnsvip.cli.shared.reach import DEFAULT, Connect, reach, unreached
from dnsvip.cli.shared.show import say
from dnsvip.errors import DnsvipError
from dnsvip.site.plain import JsonObject

ROOT = "/api/v1"
TIMEOUT_SECONDS = 300.0
"""Checking a very large zone takes a while."""

PAGE = 1000
"""Items of most lists that are read at a time, the most that the API gives."""

NAMES = {".": "=2E", "import": "=69mport", "export": "=65xport"}
"""Names in a path: a proxy would take a part away that is a dot, and others stand for something else."""

PIECE = 1 << 16
"""Bytes read from a stream at a time."""

EXIT_CODES: Mapping[int, int] = {400: 2, 404: 4, 405: 2, 409: 5, 412: 5, 413: 2, 415: 2, 422: 2}
"""HTTP status -> exit code; every other failure is 1."""

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage or refused as invalid, 4 not found, 5 conflict."

F = TypeVar("F", bound=Callable[..., Any])


class ApiError(DnsvipError):
    """The API refused, failed or was not reached; `status` is that of HTTP, 0 without a response."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.exit_code = EXIT_CODES.get(status, 1)


class Api:
    """An API at `url`, called with `token` over connections that `connect` opens."""

    def __init__(self, url: str, connect: Connect, token: str) -> None:
        self._url, self._connect, self._token = url, connect, token

    def get(self, *path: str, query: Mapping[str, Any] | None = None) -> Any:
        """GET a path, whose parts are quoted here."""
        return self.call("GET", *path, query=query)

    def call(
        self,
        method: str,
        *path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON of the answer (None where it has no content); raises ApiError. A body that is a text is a zone file
        (RFC 4027)."""
        try:
            return self._call(method, _url(path, query), body, headers or {})
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise
            raise ApiError(absent(str(error), path, self.items), error.status) from None

    def items(
        self,
        *path: str,
        limit: int | None = None,
        after: str = "",
        query: Mapping[str, Any] | None = None,
        page: int = PAGE,
    ) -> Iterator[JsonObject]:
        """The items of a list after the name `after`, at most `limit` of them, read by pages of so many."""
        first = {**(query or {}), "limit": min(limit or page, page), **({"after": after} if after else {})}
        url = _url(path, first)
        given = 0
        while url:
            answer = self._call("GET", url, None, {})
            for item in answer["items"]:
                if given == limit:
                    return
                yield item
                given += 1
            url = answer["next"]

    def stream(
        self, method: str, *path: str, query: Mapping[str, Any], body: Any = None, headers: Mapping[str, str]
    ) -> Iterator[bytes]:
        """The lines of a response as they arrive. `body` is a file or an iterable, sent as it is read."""
        sent = {"Authorization": f"Bearer {self._token}", **headers}
        with self._answer(method, _url(path, query, {}), body, sent) as answer:
            if answer.status >= 300:
                self._read(answer.status, answer.read())
            _warn(answer)
            yield from _lines(answer)

    def _call(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Any:
        data, kind = (None, None) if body is None else (json.dumps(body).encode(), "application/json")
        if isinstance(body, str):
            data, kind = body.encode(), "text/dns"
        sent = {"Authorization": f"Bearer {self._token}", **({"Content-Type": kind} if kind else {}), **headers}
        with self._answer(method, url, data, sent) as answer:
            data = self._read(answer.status, answer.read())
            _warn(answer)
            return data

    @contextmanager
    def _answer(self, method: str, url: str, data: Any, sent: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        connection = self._connect()
        try:
            connection.request(method, url, data, dict(sent), encode_chunked="Transfer-Encoding" in sent)
            yield connection.getresponse()
        except http.client.IncompleteRead:
            raise ApiError(f"the API at {self._url} broke off its answer: what came is not all of it") from None
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"no API at {self._url}: {unreached(error, self._url)}") from None
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
        raise ApiError(problem_text(data), status)


def _warn(answer: http.client.HTTPResponse) -> None:
    for text in warnings_of(answer.headers.get_all("Dnsvip-Warning", [])):
        say(f"warning: {text}", fg="yellow", err=True)


def warnings_of(headers: Sequence[str]) -> list[str]:
    """What an answer warns of: each header is a JSON string, or several with commas between them."""
    try:
        return [str(text) for text in json.loads(f"[{','.join(headers)}]")]
    except ValueError:  # a program in between has its own ideas
        return list(headers)


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of a response. Its own `readline` would take a truncated response for a complete one."""
    rest = b""
    while piece := answer.read1(PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def problem_text(problem: Any) -> str:
    """A problem as text: all its errors where it lists them, else its detail."""
    if not isinstance(problem, dict):
        return str(problem)
    errors = problem.get("errors")
    if not errors:
        return str(problem.get("detail", problem.get("title", "refused")))
    return "\n".join([str(problem["title"]), *(f"  {error['where']}: {error['message']}" for error in errors)])


def with_api(function: F) -> F:
    """Give a command the options for API and token, and the Api that they select as its argument `api`."""

    @api_options
    @functools.wraps(function)
    def wrapper(*args: Any, address: str | None, ca: Path | None, token_file: Path | None, **kwargs: Any) -> Any:
        return function(*args, api=find_api(address, token_file, ca=ca), **kwargs)

    return wrapper  # type: ignore[return-value]


def api_options(function: F) -> F:
    """The options --api, --ca and --token-file."""
    file = click.Path(path_type=Path, dir_okay=False)
    where = f"Where the API is, HOST:PORT, https://HOST:PORT or unix:PATH (or $DNSVIP_API); {DEFAULT}."
    for option in (
        click.option("--token-file", type=file, help="File with the token (or $DNSVIP_TOKEN)."),
        click.option("--ca", type=file, help="Trusted certificate authorities, a PEM file (or $DNSVIP_CA)."),
        click.option("--api", "address", metavar="WHERE", help=where),
    ):
        function = option(function)
    return function


def find_api(
    address: str | None, token_file: Path | None, seconds: float = TIMEOUT_SECONDS, ca: Path | None = None
) -> Api:
    """The API that options and environment name; raises click's UsageError."""
    url, connect = reach(address, ca, seconds)
    return Api(url, connect, _token(token_file))


def _url(path: Sequence[str], query: Mapping[str, Any] | None, names: Mapping[str, str] = NAMES) -> str:
    words = {key: _word(value) for key, value in (query or {}).items() if value is not None}
    url = f"{ROOT}/{'/'.join(names.get(part) or quote(part, safe='') for part in path)}"
    return f"{url}?{urlencode(words)}" if words else url


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
