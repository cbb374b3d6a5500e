"""A receiver of Frame Streams (the transport of dnstap), over a Unix socket or TCP: a connection that is made again.

Whoever writes waits for the receiver, so this belongs into a thread of its own; nothing takes longer than SECONDS.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

from fstrm import FSTRM_CONTROL_ACCEPT, FSTRM_CONTROL_FINISH, FSTRM_CONTROL_STOP, FSTRM_DATA_FRAME, FstrmCodec

from dnsvip.site import parse_endpoint
from dnsvip.site.node_admin import UNIX

SECONDS = 2.0
"""How long the receiver may take for anything."""

PAUSE_SECONDS = 1.0
"""Between attempts to connect; meanwhile samples are dropped."""

LONGEST_CONTROL = 512
"""Bytes of a control frame (512 in the reference implementation)."""


class FrameStream:
    """A sink of frames with one content type; `receiver` is unix:PATH or ADDRESS:PORT."""

    def __init__(self, receiver: str, content_type: bytes) -> None:
        self.where = receiver
        self._content_type = content_type
        self._socket: socket.socket | None = None
        self._kept = bytearray()
        self._next_try = 0.0

    def open(self) -> None:
        """Connect and agree on the content type; a connection that there is goes on. Raises OSError."""
        if self._socket is not None:
            return
        if time.monotonic() < self._next_try:
            raise ConnectionError("not connected")
        self._next_try = time.monotonic() + PAUSE_SECONDS
        made = self._connected()
        try:
            codec = FstrmCodec()
            made.sendall(codec.encode_ctrlready(self._content_type))
            kind, types = _control(made, time.monotonic() + SECONDS)
            if kind != FSTRM_CONTROL_ACCEPT or (types and self._content_type not in types):
                raise ConnectionError("the receiver does not accept dnstap")
            made.sendall(codec.encode_ctrlstart(self._content_type))
        except OSError:
            made.close()
            raise
        self._socket = made

    def write(self, some: bytes) -> None:
        """Keep a frame until `flush`."""
        self._kept += FstrmCodec().encode(FSTRM_DATA_FRAME, payload=some)

    def flush(self) -> None:
        """Send what is kept; raises OSError, and what is kept is lost."""
        kept, self._kept = self._kept, bytearray()
        if self._socket is None:
            raise ConnectionError("not connected")
        try:
            if _has_ended(self._socket):
                raise ConnectionError("the receiver has closed the connection")
            self._socket.sendall(kept)
        except OSError:
            self._drop()
            raise

    def close(self) -> None:
        """Say that no more comes, and wait for the receiver to have read all."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendall(FstrmCodec().encode(FSTRM_CONTROL_STOP))
                until = time.monotonic() + SECONDS
                while _control(self._socket, until)[0] != FSTRM_CONTROL_FINISH:
                    pass
        self._drop()

    def _connected(self) -> socket.socket:
        path = self.where.removeprefix(UNIX)
        if path == self.where:
            return socket.create_connection(parse_endpoint(self.where), SECONDS)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(SECONDS)
            made.connect(path)
        except OSError:
            made.close()
            raise
        return made

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def _has_ended(connection: socket.socket) -> bool:
    """Whether the receiver, which has nothing to say, has closed the connection."""
    ready = select.poll()
    ready.register(connection, select.POLLIN)
    return bool(ready.poll(0)) and not connection.recv(1, socket.MSG_PEEK)


def _control(connection: socket.socket, until: float) -> tuple[int, list[bytes]]:
    """The next control frame, whole by `until` (monotonic): its kind and content types; raises OSError."""
    head = _exactly(connection, 8, until)
    size = int.from_bytes(head[4:], "big")
    if head[:4] != bytes(4) or not 4 <= size <= LONGEST_CONTROL:
        raise ConnectionError("the receiver does not speak Frame Streams")
    codec = FstrmCodec()
    if not codec.append_and_process(head) and not codec.append_and_process(_exactly(connection, size, until)):
        raise ConnectionError("the receiver does not speak Frame Streams")
    try:
        kind, types, _ = codec.decode()
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        raise ConnectionError(f"the receiver does not speak Frame Streams: {error}") from None
    return kind, types


def _exactly(connection: socket.socket, size: int, until: float) -> bytes:
    """So many bytes, however slowly the receiver sends them."""
    got = b""
    try:
        while len(got) < size:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the receiver takes too long")
            connection.settimeout(left)
            part = connection.recv(size - len(got))
            if not part:
                raise ConnectionError("the receiver has closed the connection")
            got += part
    finally:
        connection.settimeout(SECONDS)
    return got
