"""Sampled logs: JSON lines about single queries or flows, bounded, written by a thread that nobody waits for.

The caller hands over raw values; the log's own thread renders and writes them. Samples that arrive faster than it
writes are dropped and counted. Of addresses it keeps only as many bits as the node file allows.
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

from dnsvip.site.io.safe_file import open_to_append
from dnsvip.site.node_file import SampleSettings

WAITING = 4096
"""Samples that may wait to be written."""

STOP_SECONDS = 2.0

T = TypeVar("T")
Anonymise: TypeAlias = Callable[[IPv4Address | IPv6Address], str]
"""An address as it is logged: whole, or truncated to a prefix."""

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
        """Start the writing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, for at most STOP_SECONDS."""
        self._stopping = True
        self._work.set()
        self._thread.join(STOP_SECONDS)

    def reopen(self) -> None:
        """Open the file again before the next line: logrotate has renamed it."""
        self._reopening = True
        self._work.set()

    def offer(self, sample: T) -> None:
        """Queue a sample, or count it as dropped; never blocks."""
        if len(self._waiting) >= WAITING:
            self.dropped += 1
        else:
            self._waiting.append(sample)
            self._work.set()

    def counts(self) -> dict[str, int]:
        """Lines written and samples dropped since the start."""
        return {"written": self.written, "dropped": self.dropped}

    def anonymise(self, address: IPv4Address | IPv6Address) -> str:
        """The address, truncated to the configured prefix."""
        if address.version == 4:
            keep = self._settings.keep4
            return str(address) if keep == 32 else str(IPv4Network((address, keep), strict=False))
        keep = self._settings.keep6
        return str(address) if keep == 128 else str(IPv6Network((address, keep), strict=False))

    def _run(self) -> None:
        file, reported = None, False
        while not self._stopping or self._waiting:
            self._work.wait()
            self._work.clear()
            try:
                if self._reopening or file is None:
                    self._reopening, file = False, _open(self._settings.file, file)
                self._write(file)
                reported = False
            except OSError as error:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                if not reported:
                    log.error("cannot write samples, dropping them", error=error.strerror, file=self._where)
                reported, file = True, None
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


def _open(path: Path | None, previous: IO[str] | None) -> IO[str]:
    if path is None:
        return sys.stdout
    if previous is not None:
        with suppress(OSError):
            previous.close()
    return open_to_append(path)


class Every:
    """Picks one in `one_in` by counting: the cheapest sampling, one subtraction per batch."""

    __slots__ = ("_left", "_one_in")

    def __init__(self, one_in: int) -> None:
        self._one_in = self._left = one_in

    def picks(self, number: int) -> range:
        """The indexes of the samples among the next `number` items."""
        self._left -= number
        if self._left > 0:
            return _NONE
        picked = range(number - 1 + self._left, number, self._one_in)
        self._left += len(picked) * self._one_in
        return picked


_NONE = range(0)
