"""What a command shows on a terminal of so many columns."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

from tests.node.serving import DNSVIP

ROWS = 40
_STYLE = re.compile(r"\x1b\[[0-9;]*[mK]")


def on_terminal(folder: Path, env: Mapping[str, str], *argv: str, columns: int = 80) -> str:
    """Everything that `dnsvip ARGV` writes to a terminal, without colours."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    given = {**{key: value for key, value in os.environ.items() if key != "COLUMNS"}, "TERM": "xterm", **env}
    with subprocess.Popen([DNSVIP, *argv], cwd=folder, env=given, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        seen = b"".join(iter(lambda: _read(main), b""))
        process.wait(60)
    os.close(main)
    return _STYLE.sub("", seen.decode())


def _read(descriptor: int) -> bytes:
    """What comes next; nothing where the other side has closed."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
