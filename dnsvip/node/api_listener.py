"""Where the HTTP API listens: plain on this machine, under TLS anywhere, or at a Unix socket.

A renewed certificate is loaded when its files change; an invalid one leaves the previous one in use.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import structlog
from aiohttp import web

from dnsvip.admin.http.source import PROXIES
from dnsvip.dns.io.listener_files import stamp_of
from dnsvip.errors import PlatformError
from dnsvip.node.give_way import never
from dnsvip.node.health_endpoints import SHUTDOWN_SECONDS, host_port
from dnsvip.node.http_connections import Connections, Listening, bound, plain
from dnsvip.site import parse_endpoint
from dnsvip.site.io.http_heads import runner_of
from dnsvip.site.io.unix_socket import bound_unix
from dnsvip.site.node_admin import UNIX, AdminSettings, TlsFiles

CHECK_SECONDS = 2.0
"""How often the certificate files are checked for changes."""

LONGEST_LINE = 1 << 16
"""Bytes of a request line: the longest accepted query parameters fit, percent-encoded."""

SOCKET_MODE = 0o660
"""Owner and group may connect to the Unix socket; they need a token all the same."""

log = structlog.get_logger()


@asynccontextmanager
async def api_listening(
    app: web.Application,
    settings: AdminSettings,
    most: int | None = None,
    give_way: Callable[..., None] = never,
) -> AsyncIterator[str]:
    """Serve the API where the node file says, on at most `most` connections; yields its URL. `give_way` as in
    `Connections`. Raises PlatformError."""
    runner = runner_of(app, shutdown_timeout=SHUTDOWN_SECONDS, max_line_size=LONGEST_LINE)
    certificate = Certificate(settings.tls) if settings.tls else None
    connections = Connections(settings.limits, most, app[PROXIES].trust, give_way)
    app.middlewares.insert(0, connections.middleware())
    await runner.setup()
    where, server = "", None
    try:
        try:
            where, server = _listen(runner, settings, certificate, connections)
        except OSError as error:
            text = f"admin.listen: {settings.listen}: cannot listen there: {error.strerror or error}"
            raise PlatformError(text) from error
        renewal = asyncio.create_task(certificate.follow()) if certificate else None
        try:
            yield where
        finally:
            if renewal:
                renewal.cancel()
    finally:
        if server is not None:
            server.close()
        await runner.cleanup()
        if where.startswith(UNIX):  # bound by us
            _remove(Path(settings.listen.removeprefix(UNIX)))


def _listen(
    runner: web.AppRunner, settings: AdminSettings, certificate: Certificate | None, connections: Connections
) -> tuple[str, Listening]:
    if settings.listen.startswith(UNIX):
        return settings.listen, connections.listen(
            runner, bound_unix(Path(settings.listen.removeprefix(UNIX)), SOCKET_MODE)
        )
    host, port = parse_endpoint(settings.listen)
    if certificate is None and not ip_address(host).is_loopback:
        log.warning(
            "the API listens beyond this machine without TLS: anyone on the path can read its tokens",
            listen=settings.listen,
            mend='set [admin] tls = { certificate = "FILE", key = "FILE" }, or listen on 127.0.0.1 or "unix:PATH"',
        )
    listening = connections.listen(runner, bound(host, port), (lambda: certificate.context) if certificate else plain)
    return f"{'https' if certificate else 'http'}://{host_port(*listening.address)}", listening


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


class Certificate:
    """The certificate and key that new connections use. Raises PlatformError where they cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp_in_use = self._stamp()
        self.context = _load(files)

    async def follow(self) -> None:
        """Reload the files whenever they change."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.reload_if_changed()

    def reload_if_changed(self) -> None:
        """Reload the files if they have changed."""
        stamp = self._stamp()
        if stamp == self._stamp_in_use:
            return
        self._stamp_in_use = stamp
        try:
            self.context = _load(self._files)
        except PlatformError as error:
            log.error("the API's new certificate cannot be used, keeping the previous one", error=str(error))
        else:
            log.info("renewed the API's certificate")

    def _stamp(self) -> tuple[int, ...]:
        return stamp_of((self._files.certificate, self._files.key))


def _load(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key)
    except OSError as error:  # ssl.SSLError is one
        names = f"{files.certificate} and {files.key}"
        why = error.strerror or str(error)
        raise PlatformError(f"admin.tls: {names} are not a PEM certificate and its key: {why}") from None
    return context
