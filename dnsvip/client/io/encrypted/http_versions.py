"""Connections to one HTTPS server: by HTTP/3 where it offers that, else by HTTP/2.

An offer is its own, in a response by HTTP/2 (Alt-Svc, RFC 7838), or the operator's, who names the server `h3://`. A
network that lets no UDP through costs a second, and then nothing for a while.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from dnsvip.client.io.encrypted import doh, https
from dnsvip.client.io.encrypted.credentials import ChannelError, Credentials, tls_context
from dnsvip.site.server_forms import Scheme, ServerForm

if TYPE_CHECKING:  # QUIC takes long to load, and not every server has it
    from dnsvip.client.io.encrypted.quic import QuicChannel, QuicSettings

HTTP3_SECONDS = 1.0
"""For a connection by HTTP/3, before HTTP/2 is tried."""
AVOIDED_SECONDS = 600.0
"""HTTP/3 that failed is not tried again for so long."""


class HttpVersions:
    """What opens the connections to one server. Raises ChannelError where the client's own files cannot be read."""

    def __init__(self, server: ServerForm, name: str, credentials: Credentials) -> None:
        self._server, self._name, self._credentials = server, name, credentials
        self._context = tls_context(credentials, https.ALPN)
        self._fields = doh.request_fields(server, name, credentials)
        self._port, self._until = server.port, math.inf if server.scheme is Scheme.HTTP3 else 0.0
        self._avoided_until = 0.0
        self._quic: QuicSettings | None = None
        self._last: QuicChannel | None = None

    async def open(self) -> https.HttpsChannel | QuicChannel:
        """A new connection; raises ChannelError."""
        now, why = asyncio.get_running_loop().time(), ""
        if self._last is not None and not self._last.heard:  # it was of no use
            self._avoided_until = now + AVOIDED_SECONDS
        self._last = None
        if self._avoided_until <= now < self._until:
            try:
                async with asyncio.timeout(HTTP3_SECONDS):
                    self._last = await self._http3()
                return self._last
            except (ChannelError, TimeoutError) as error:
                self._avoided_until = now + AVOIDED_SECONDS
                why = f" (by HTTP/3: {error or 'no connection in time'})"
        try:
            return await https.HttpsChannel.to(
                self._server, self._context, self._name, self._credentials, self._fields, self._offered
            )
        except ChannelError as error:
            self._avoided_until = 0.0  # it is all there may be
            raise ChannelError(f"{error}{why}") from None

    async def _http3(self) -> QuicChannel:
        from dnsvip.client.io.encrypted.http3 import ALPN, Http3  # noqa: PLC0415 - as above
        from dnsvip.client.io.encrypted.quic import QuicChannel, QuicSettings  # noqa: PLC0415

        self._quic = self._quic or QuicSettings(self._credentials, self._name, ALPN)
        at = self._server._replace(port=self._port)
        speak = lambda quic: Http3(quic, self._fields)  # noqa: E731
        return await QuicChannel.to(at, self._quic, self._credentials, speak)

    def _offered(self, alt_svc: str) -> None:
        """Note what a response by HTTP/2 offers; what the operator has named stands."""
        offer = doh.http3_offer(alt_svc)
        if self._server.scheme is Scheme.HTTPS:
            self._port, seconds = offer or (self._port, 0.0)
            self._until = asyncio.get_running_loop().time() + seconds
