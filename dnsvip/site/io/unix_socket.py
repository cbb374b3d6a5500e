"""The one place where Unix sockets that other users may reach are bound."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path


def bound_unix(path: Path, mode: int) -> socket.socket:
    """A bound socket at `path` with a mode; a leftover of a killed process is replaced. Raises OSError, and
    FileExistsError where another process listens or the file is no socket."""
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(17, "a file that is not a socket is there")
        with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionRefusedError):
            probe.connect(str(path))
            raise FileExistsError(98, "another process listens there")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX)
    previous = os.umask(0o777 & ~mode)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(previous)
    return sock
