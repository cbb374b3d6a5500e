"""Encrypted servers that mean no good: what they make the client hold, and what its libraries cannot read."""

from __future__ import annotations

import asyncio
import subprocess
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.events import StreamDataReceived

from dnsvip.client.certificate import chain_in, new_key, read_chain
from dnsvip.client.enrolment import ServerTrust
from dnsvip.client.io.encrypted import quic
from dnsvip.client.io.encrypted.credentials import ChannelError, Credentials, check_pin
from dnsvip.client.io.encrypted.quic import MOST_HELD, QuicChannel, QuicSettings
from dnsvip.client.renewal import parse_renewal
from dnsvip.errors import ClientError
from dnsvip.site.server_forms import parse_server
from tests.client.encrypted.authority import Authority, KeyPair
from tests.client.encrypted.servers import Doq, _DoqConnection
from tests.client.encrypted.test_channels import honest, query

EVERY_SECONDS = 0.01


class _Filling(_DoqConnection):
    """Answers all queries but the first, whose stream it `fill`s without end."""

    stream: int | None = None

    def take(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived) and self.stream is None:
            self.stream = event.stream_id
            self.begin(event.stream_id)
            self.more()
        else:
            super().take(event)

    def begin(self, stream: int) -> None:
        self._quic.send_stream_data(stream, b"")

    def more(self) -> None:
        sender = self._quic._streams[self.stream].sender
        if len(sender._buffer) < MOST_HELD // 8:
            self._quic.send_stream_data(self.stream, bytes(MOST_HELD // 8))
        self.transmit()
        asyncio.get_running_loop().call_later(EVERY_SECONDS, self.more)


class _Gaps(_Filling):
    """All of its stream but the first byte."""

    def begin(self, stream: int) -> None:
        super().begin(stream)
        sender = self._quic._streams[stream].sender
        sender._buffer_start = sender._buffer_stop = 1


class _Own(_Filling):
    """A stream that nobody has opened."""

    def begin(self, _stream: int) -> None:
        self.stream = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._quic.send_stream_data(self.stream, bytes(10))


class _Pings(_Filling):
    """Packets that are to be acknowledged, and no acknowledgements."""

    def begin(self, _stream: int) -> None:
        pass

    def more(self) -> None:
        self._quic.send_ping(0)
        self.transmit()
        asyncio.get_running_loop().call_later(EVERY_SECONDS, self.more)

    def transmit(self) -> None:
        for space in self._quic._spaces.values():
            space.ack_at = None if self.stream is not None else space.ack_at
        super().transmit()


async def test_a_server_that_acknowledges_nothing(
    authority: Authority, files: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets that a server leaves unacknowledged end the connection before there are many."""
    monkeypatch.setattr(quic, "MOST_UNACKNOWLEDGED", 20)
    credentials = Credentials(ServerTrust(authority.ca))
    async with Doq(honest, files) as server, asyncio.timeout(20):
        server.connection = _Pings
        form = parse_server(server.server())
        channel = await QuicChannel.to(form, QuicSettings(credentials, credentials.server_name(form)), credentials)
        with pytest.raises(ChannelError, match="acknowledges nothing"):
            await channel.ask(query())
        channel.close()


@pytest.mark.parametrize(("kind", "why"), [(_Gaps, "gaps"), (_Own, "streams of its own")])
async def test_what_a_server_has_us_hold(kind: Any, why: str, authority: Authority, files: KeyPair) -> None:
    """Data that never comes into order, and streams of the server's own, end the connection, also beside answers."""
    credentials = Credentials(ServerTrust(authority.ca))
    async with Doq(honest, files) as server, asyncio.timeout(20):
        server.connection = kind
        form = parse_server(server.server())
        channel = await QuicChannel.to(form, QuicSettings(credentials, credentials.server_name(form)), credentials)
        first = asyncio.create_task(channel.ask(query()))
        while not first.done():
            await asyncio.sleep(0.05)
            with suppress(ChannelError):
                await channel.ask(query())
            held = sum(len(stream.receiver._buffer) for stream in channel._quic._streams.values())
            assert held < 2 * MOST_HELD
        with pytest.raises(ChannelError, match=why):
            await first
        channel.close()


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    """A certificate whose kind of key one library knows and the other does not has none of the pinned keys."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp112r1", "-nodes"]
    command += ["-subj", "/CN=x", "-outform", "DER"]
    made = subprocess.run([*command, "-keyout", tmp_path / "key"], check=True, capture_output=True).stdout
    for certificate in (made, b"\x30\x03\2\1\1", None):
        with pytest.raises(ChannelError, match="another key"):
            check_pin(ServerTrust(pins=("A" * 43 + "=",)), certificate)
    with pytest.raises(ClientError, match="no certificate"):
        read_chain(chain_in(b64encode(made)), "the server", new_key().public_key())


def test_a_renewal_of_brackets() -> None:
    """A renewal that is nested without end is refused, and does not end the task that asks for it."""
    with pytest.raises(ClientError, match="not JSON"):
        parse_renewal(b"[" * 60_000, "the server")
