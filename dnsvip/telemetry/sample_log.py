"""A log of samples: lines of JSON about single questions or flows, written aside, bounded, and never waited for.

Who offers a sample hands over raw values; a thread of its own renders and writes them. Where more come than it writes,
they are counted and dropped. Of addresses only so many bits are kept as the node file says.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import IO, Any, Generic, TypeAlias, TypeVar

import structlog

from dnsvip.site.node_file import SampleSettings

WAITING = 4096
"""Samples that wait to be written."""

STOP_SECONDS = 2.0

T = TypeVar("T")
Anonymise: TypeAlias = Callable[[IPv4Address | IPv6Address], str]
"""An address as it is written: whole, or the prefix that is kept of it."""

Render: TypeAlias = Callable[[T, Anonymise], Mapping[str, Any]]

log = structlog.get_logger()


class SampleLog(Generic[T]):
    """Takes samples from one thread, in `offer`; `start` and `stop` once each."""

    def __init__(self, settings: SampleSettings, render: Render[T]) -> None:
        self.written = self.dropped = 0
        self._settings, self._render = settings, render
        self._waiting: deque[T] = deque()
        self._work = threading.Event()
        self._stopping = self._reopening = False
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, but not for ever."""
        self._stopping = True
        self._work.set()
        self._thread.join(STOP_SECONDS)

    def reopen(self) -> None:
        """Write to a file of the same name, which logrotate has made way for, from the next line on."""
        self._reopening = True
        self._work.set()

    def offer(self, sample: T) -> None:
        """Have a sample written, or count it as dropped; takes no time either way."""
        if len(self._waiting) >= WAITING:
            self.dropped += 1
        else:
            self._waiting.append(sample)
            self._work.set()

    def counts(self) -> dict[str, int]:
        """Lines written and samples dropped since the start."""
        return {"written": self.written, "dropped": self.dropped}

    def anonymise(self, address: IPv4Address | IPv6Address) -> str:
        """The address, or the prefix of it that is kept."""
        if address.version == 4:
            keep = self._settings.keep4
            return str(address) if keep == 32 else str(IPv4Network((address, keep), strict=False))
        keep = self._settings.keep6
        return str(address) if keep == 128 else str(IPv6Network((address, keep), strict=False))

    def _run(self) -> None:
        file, said = None, False
        while not self._stopping or self._waiting:
            self._work.wait()
            self._work.clear()
            try:
                if self._reopening or file is None:
                    self._reopening, file = False, _opened(self._settings.file, file)
                self._write(file)
                said = False
            except OSError as error:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                if not said:
                    log.error("samples cannot be written, dropping them", error=error.strerror, file=self._where)
                said, file = True, None
        if file is not None and file is not sys.stdout:
            file.close()

    @property
    def _where(self) -> str:
        return str(self._settings.file or "standard output")

    def _write(self, file: IO[str]) -> None:
        while self._waiting:
            line = json.dumps(self._render(self._waiting.popleft(), self.anonymise), separators=(",", ":"))
            file.write(line + "\n")
            self.written += 1
        file.flush()


def _opened(path: Path | None, before: IO[str] | None) -> IO[str]:
    if path is None:
        return sys.stdout
    if before is not None:
        with suppress(OSError):
            before.close()
    return path.open("a", encoding="utf-8")


class Every:
    """One of so many, by counting: the cheapest sampling there is, and it costs a batch one subtraction."""

    __slots__ = ("_left", "_one_in")

    def __init__(self, one_in: int) -> None:
        self._one_in = self._left = one_in

    def picks(self, number: int) -> range:
        """Which of the next `number` things are samples, by their place."""
        self._left -= number
        if self._left > 0:
            return _NONE
        picked = range(number - 1 + self._left, number, self._one_in)
        self._left += len(picked) * self._one_in
        return picked


_NONE = range(0)
