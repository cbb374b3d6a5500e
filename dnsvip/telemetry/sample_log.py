"""Sampled logs: lines or messages about single queries or flows, bounded, written by a thread that nobody waits for.

The caller hands over raw values; the log's own thread renders and writes them. Samples that arrive faster than it
writes are dropped and counted. Of addresses it keeps only as many bits as the node file allows.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeAlias, TypeVar

import structlog

from dnsvip.site.io.safe_file import open_to_append
from dnsvip.site.node_log import DnstapSettings, SampleSettings

WAITING = 4096
"""Samples that may wait to be written."""

AT_ONCE = 256
"""Samples that are written in one go."""

STOP_SECONDS = 2.0

T = TypeVar("T")
Anonymise: TypeAlias = Callable[[IPv4Address | IPv6Address], str]
"""An address as it is logged: whole, or truncated to a prefix."""

R = TypeVar("R")
_In_contra = TypeVar("_In_contra", contravariant=True)
Render: TypeAlias = Callable[[T, Anonymise], R]

log = structlog.get_logger()


class Sink(Protocol[_In_contra]):
    """Where rendered samples go. All but `close` raise OSError; after that it is opened again."""

    where: str

    def open(self) -> None:
        """Open it, also anew: a file may have been renamed."""

    def write(self, some: _In_contra) -> None:
        """Write one sample, or keep it until `flush`."""

    def flush(self) -> None:
        """Write what is kept."""

    def close(self) -> None:
        """Close it."""


class SampleLog(Generic[T, R]):
    """Takes samples from one thread, in `offer`; `start` and `stop` once each."""

    def __init__(self, settings: SampleSettings | DnstapSettings, render: Render[T, R], sink: Sink[R]) -> None:
        self.written = self.dropped = 0
        self._settings, self._render, self._sink = settings, render, sink
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

    def lose(self, number: int) -> None:
        """Count samples as dropped that were lost on their way here."""
        self.dropped += number

    def counts(self) -> dict[str, int]:
        """Lines written and samples dropped since the start."""
        return {"written": self.written, "dropped": self.dropped}

    def anonymise(self, address: IPv4Address | IPv6Address) -> str:
        """The address, truncated to the configured prefix."""
        return truncated(address, self._settings.keep4, self._settings.keep6)

    def _run(self) -> None:
        opened, reported = False, False
        while not self._stopping or self._waiting:
            self._work.wait()
            self._work.clear()
            try:
                if self._reopening or not opened:
                    self._reopening, opened = False, False
                    self._sink.open()
                    opened = True
                self._write()
                reported = False
            except OSError as error:
                self.dropped += len(self._waiting)
                self._waiting.clear()
                if not reported:
                    why = error.strerror or str(error)
                    log.error("cannot write samples, dropping them", error=why, file=self._sink.where)
                reported, opened = True, False
        self._sink.close()

    def _write(self) -> None:
        while self._waiting:
            taken = 0
            try:
                while self._waiting and taken < AT_ONCE:
                    sample = self._waiting.popleft()
                    taken += 1
                    self._sink.write(self._render(sample, self.anonymise))
                self._sink.flush()
            except OSError:
                self.dropped += taken
                raise
            self.written += taken


def truncated(address: IPv4Address | IPv6Address, keep4: int, keep6: int) -> str:
    """An address as the network of so many of its bits; whole where that is all."""
    if address.version == 4:
        return str(address) if keep4 == 32 else str(IPv4Network((address, keep4), strict=False))
    return str(address) if keep6 == 128 else str(IPv6Network((address, keep6), strict=False))


class JsonLines:
    """A file of JSON lines, or standard output."""

    def __init__(self, path: Path | None) -> None:
        self.where = str(path or "standard output")
        self._path = path
        self._file: IO[str] | None = None

    def open(self) -> None:
        """Open the file; as `Sink`."""
        self.close()
        self._file = sys.stdout if self._path is None else open_to_append(self._path)

    def write(self, some: Mapping[str, Any]) -> None:
        """Write one line; as `Sink`."""
        assert self._file is not None  # noqa: S101 - it has been opened
        self._file.write(json.dumps(some, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """As `Sink`."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file, unless it is standard output."""
        if self._file is not None and self._file is not sys.stdout:
            with suppress(OSError):
                self._file.close()
        self._file = None


class Every:
    """Picks one in `one_in` by counting: the cheapest sampling, one subtraction per batch."""

    __slots__ = ("_left", "_one_in")

    def __init__(self, one_in: int) -> None:
        self._one_in = self._left = one_in

    def picks(self, number: int) -> Sequence[int]:
        """The indexes of the samples among the next `number` items."""
        self._left -= number
        if self._left > 0:
            return _NONE
        picked = range(number - 1 + self._left, number, self._one_in)
        self._left += len(picked) * self._one_in
        return picked

    def change(self, one_in: int) -> None:
        """Pick one in `one_in` from here on."""
        self._one_in = one_in
        self._left = min(self._left, one_in)


_NONE = range(0)


class Offered(Protocol[_In_contra]):
    """What samples are offered to."""

    def offer(self, sample: _In_contra) -> None:
        """Take a sample, at once."""


class Log(Offered[_In_contra], Protocol[_In_contra]):
    """What keeps samples that it is offered, and counts."""

    def lose(self, number: int) -> None:
        """Count samples as dropped that were lost on their way here."""

    def counts(self) -> dict[str, int]:
        """Samples `written` and `dropped` since the start."""
        ...


class Several(Generic[T]):
    """Several logs of the same items, each sampled in its own way. Items picked are to be offered in their order."""

    def __init__(self, logs: Sequence[tuple[Offered[T], Every]]) -> None:
        self._logs = logs
        self._takers: deque[list[Offered[T]]] = deque()

    def picks(self, number: int) -> Sequence[int]:
        """The indexes of the samples of any log among the next `number` items, as `Every.picks`."""
        takers: dict[int, list[Offered[T]]] = {}
        for log, every in self._logs:
            for place in every.picks(number):
                takers.setdefault(place, []).append(log)
        places = sorted(takers)
        self._takers = deque(takers[place] for place in places)
        return places

    def offer(self, sample: T) -> None:
        """Offer the next of the items picked to the logs that picked it."""
        for log in self._takers.popleft() if self._takers else ():
            log.offer(sample)
