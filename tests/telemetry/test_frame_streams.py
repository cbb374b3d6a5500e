"""A receiver of Frame Streams that dawdles holds the thread that writes to it no longer than it may."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dnsvip.telemetry import frame_streams
from dnsvip.telemetry.frame_streams import FrameStream

TYPE = b"protobuf:dnstap.Dnstap"
SECONDS = 0.3
_FIELDS = b"\0\0\0\1" + b"\0\0\0\1" + len(TYPE).to_bytes(4, "big") + TYPE
ACCEPT = bytes(4) + len(_FIELDS).to_bytes(4, "big") + _FIELDS
"""A control frame: the type, and one content type."""


def drips(connection: socket.socket) -> None:
    """A byte of an answer every now and then."""
    while True:
        connection.sendall(b"\0")
        time.sleep(SECONDS / 3)


def babbles(connection: socket.socket) -> None:
    """It accepts, reads nothing, and says so without end."""
    connection.recv(1000)
    while True:
        connection.sendall(ACCEPT)


@pytest.mark.parametrize("manner", [drips, babbles])
def test_it_ends(manner: Callable[[socket.socket], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting, sending and closing each end in time, however little the receiver does at a time."""
    monkeypatch.setattr(frame_streams, "SECONDS", SECONDS)
    path = str(tmp_path / "socket")

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            try:
                manner(connection)
            except OSError:
                return

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        stream, began = FrameStream(f"unix:{path}", TYPE), time.monotonic()
        if manner is drips:
            with pytest.raises(OSError, match=r"too long|speak|timed out"):
                stream.open()
        else:
            stream.open()
            stream.write(b"x" * (8 << 20))
            with pytest.raises(OSError, match="timed out"):
                stream.flush()
        stream.close()
        assert time.monotonic() - began < 10 * SECONDS
        thread.join(10)
    assert not thread.is_alive()


def test_closing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a receiver that never says that it has finished."""
    monkeypatch.setattr(frame_streams, "SECONDS", SECONDS)
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    stream = FrameStream(f"unix:{tmp_path}/socket", TYPE)
    stream._socket = ours

    def babble() -> None:
        try:
            while True:
                theirs.sendall(ACCEPT)
        except OSError:
            return

    thread, began = threading.Thread(target=babble), time.monotonic()
    thread.start()
    stream.close()
    assert time.monotonic() - began < 10 * SECONDS
    thread.join(10)
    theirs.close()
