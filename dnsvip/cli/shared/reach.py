"""How the command line reaches an API: HTTP, HTTPS with a trusted certificate, or a Unix socket."""

from __future__ import annotations

import functools
import http.client
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import click

UNIX = "unix:"
DEFAULT = "127.0.0.1:8053"

NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
"""OpenSSL's reasons where the other side does not answer by TLS; which one depends on its version."""

Connect: TypeAlias = Callable[[], http.client.HTTPConnection]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def reach(given: str | None, ca: Path | None, seconds: float) -> tuple[str, Connect]:
    """The URL that an option, $DNSVIP_API or the default names, and what opens a connection to it.

    `ca` (or $DNSVIP_CA) is a PEM file of trusted authorities, in place of the system's.
    Raises click's UsageError. No proxy is used: it would see the token.
    """
    address = given or os.environ.get("DNSVIP_API") or DEFAULT
    if address.startswith(UNIX) and len(address) > len(UNIX):
        return address, functools.partial(UnixConnection, address.removeprefix(UNIX), seconds)
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        text = "must be HOST:PORT, [ADDRESS]:PORT, a URL or unix:PATH"
        raise click.UsageError(f"{address!r} is not an address of an API: {text}")
    where = parts.hostname or "", parts.port
    if parts.scheme == "http":
        return f"http://{parts.netloc}", functools.partial(http.client.HTTPConnection, *where, timeout=seconds)
    context = _believing(ca or os.environ.get("DNSVIP_CA"))
    connect = functools.partial(http.client.HTTPSConnection, *where, timeout=seconds, context=context)
    return f"https://{parts.netloc}", connect


def unreached(error: Exception, url: str) -> str:
    """Why there was no answer from `url`, and what to try."""
    scheme, _, where = url.partition("://")
    if isinstance(error, ssl.SSLError) and error.reason in NOT_TLS:
        return f"this port speaks plain HTTP; --api http://{where} (or DNSVIP_API) reaches it"
    if scheme == "http" and isinstance(error, http.client.BadStatusLine | ConnectionResetError):
        return f"it closed the connection without an answer in plain HTTP; where it speaks TLS: --api https://{where}"
    why = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return (
        f"{why or type(error).__name__}; is `dnsvip serve` running there, with [admin] in its node file?"
        " (--api or DNSVIP_API says where)"
    )


def _believing(ca: Path | str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:
        raise click.UsageError(f"--ca {ca}: cannot be read: {error.strerror or error}") from None
