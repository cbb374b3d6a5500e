"""Where the HTTP API listens: plain on this machine, under TLS anywhere, or at a Unix socket.

A certificate that is renewed is taken over when its files change; one that is wrong leaves the old one in force.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import structlog
from aiohttp import web

from dnsvip.errors import PlatformError
from dnsvip.node.health_endpoints import SHUTDOWN_SECONDS, joined
from dnsvip.site import parse_endpoint
from dnsvip.site.node_file import UNIX, AdminSettings, TlsFiles

LOOK_SECONDS = 2.0
"""How often the files of the certificate are looked at."""

LONGEST_LINE = 1 << 16
"""Bytes in a request's line: a query of the longest texts that are taken, percent-encoded, fits."""

SOCKET_MODE = 0o660
"""Who may come to the Unix socket: its owner and its group; a token is needed all the same."""

log = structlog.get_logger()


@asynccontextmanager
async def api_listening(app: web.Application, settings: AdminSettings) -> AsyncIterator[str]:
    """The API, listening as the node file says; its URL. Raises PlatformError."""
    runner = web.AppRunner(
        app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, max_line_size=LONGEST_LINE
    )
    certificate = Certificate(settings.tls) if settings.tls else None
    await runner.setup()
    where = ""
    try:
        try:
            where = await _listen(runner, settings, certificate)
        except OSError as error:
            text = f"admin.listen: {settings.listen}: cannot listen there: {error.strerror or error}"
            raise PlatformError(text) from error
        following = asyncio.create_task(certificate.follow()) if certificate else None
        try:
            yield where
        finally:
            if following:
                following.cancel()
    finally:
        await runner.cleanup()
        if where.startswith(UNIX):  # it was ours
            _remove(Path(settings.listen.removeprefix(UNIX)))


async def _listen(runner: web.AppRunner, settings: AdminSettings, certificate: Certificate | None) -> str:
    if settings.listen.startswith(UNIX):
        path = Path(settings.listen.removeprefix(UNIX))
        await web.SockSite(runner, _unix_socket(path)).start()
        return settings.listen
    host, port = parse_endpoint(settings.listen)
    if certificate is None and not ip_address(host).is_loopback:
        log.warning(
            "the API listens beyond this machine without TLS: whoever is on the way can read its tokens",
            listen=settings.listen,
            mend='set [admin] tls = { certificate = "FILE", key = "FILE" }, or listen on 127.0.0.1 or "unix:PATH"',
        )
    await web.TCPSite(runner, host, port, ssl_context=certificate.context if certificate else None).start()
    return f"{'https' if certificate else 'http'}://{joined(*runner.addresses[0][:2])}"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _unix_socket(path: Path) -> socket.socket:
    """A socket at a path, which no other process may be listening at; only owner and group may come to it."""
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(17, "there is a file that is no socket")
        with socket.socket(socket.AF_UNIX) as other, suppress(ConnectionRefusedError):
            other.connect(str(path))
            raise FileExistsError(98, "another process listens there")
        path.unlink()
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        made.bind(str(path))
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


class Certificate:
    """A certificate with its key, as new connections are shown it. Raises PlatformError where it cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._stamp()
        self.context = _loaded(files)

    async def follow(self) -> None:
        """Take over what the files hold whenever that changes."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Take over what the files hold, if they have changed."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            _loaded(self._files)  # whole and right before the one in force is touched
            self.context.load_cert_chain(self._files.certificate, self._files.key)
        except (PlatformError, OSError) as error:
            log.error("the API's new certificate cannot be used, going on with the one before", error=str(error))
        else:
            log.info("the API's certificate was renewed")

    def _stamp(self) -> tuple[object, ...]:
        found: list[object] = []
        for file in (self._files.certificate, self._files.key):
            with suppress(OSError):
                status = file.stat()
                found += [status.st_ino, status.st_mtime_ns, status.st_size]
        return tuple(found)


def _loaded(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except OSError as error:  # ssl.SSLError is one
        names = f"{files.certificate} and {files.key}"
        why = error.strerror or str(error)
        raise PlatformError(f"admin.tls: {names} are no PEM certificate with its key: {why}") from None
    return context
