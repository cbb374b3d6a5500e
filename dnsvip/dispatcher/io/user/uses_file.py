"""Used single-use addresses in STATE_DIR/uses, so that one used before a restart stays used after it.

The file is mapped: a use costs a write to memory, no system call, and survives a process that is killed. A machine that
loses power may lose the last seconds; the header tells which boot it was and that the file was not closed. Then, as
after any damage, single-use addresses are refused for as long as a proof from before could be accepted.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from zlib import crc32

import structlog

from dnsvip.dispatcher.dispatch_tables import proof_seconds
from dnsvip.dispatcher.flows.uses import RECORD_BYTES, Found, Use, Uses, read, write
from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot
from dnsvip.site.io.safe_file import draft_of, make_folder, read_regular

NAME = "uses"
"""Its name in state_dir."""

MAGIC = b"dnsvip u"
VERSION = 2
BOOT = Path("/proc/sys/kernel/random/boot_id")

_HEADER = Struct("!8sBB36s")
"""Magic, version, whether it was closed, the boot that it was written in."""

HEADER_BYTES = 64
_CLOSED_AT = 9

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class State:
    """What an earlier process left; `lost`: the machine went down before all of it was on disk."""

    found: Found
    lost: bool = False


class UsesFile:
    """The file of one dispatcher, between `open` and `close`. `damaged` counts records that could not be read."""

    def __init__(self, uses: Uses, mapping: mmap.mmap, view: memoryview, damaged: int) -> None:
        self.uses, self.damaged = uses, damaged
        self._mapping, self._view = mapping, view

    @classmethod
    def open(cls, path: Path, bound: int, longest: int) -> UsesFile:
        """Take over the uses of an earlier process, at most `bound`. `longest` is how long a proof may be accepted, in
        seconds. Raises PlatformError where the file cannot be written."""
        now, boot = int(time.time()), BOOT.read_text().strip().encode()
        state = _state(path, now, boot)
        kept = sorted(state.found.uses, key=lambda use: use.until)
        forgotten, kept = kept[: max(len(kept) - bound, 0)], kept[max(len(kept) - bound, 0) :]
        closed = [use.until for use in forgotten]
        if state.found.damaged:
            closed.append(now + longest)
        elif state.lost:
            closed.append(int(now - time.clock_gettime(time.CLOCK_BOOTTIME)) + longest)
        _replace(path, kept, bound, boot)
        mapping = _mapped(path)
        view = memoryview(mapping)
        uses = Uses(bound, view[HEADER_BYTES:], kept, max(closed, default=0))
        return cls(uses, mapping, view, state.found.damaged)

    @classmethod
    def take_over(cls, path: Path, bound: int, snapshot: Snapshot) -> UsesFile | None:
        """As `open`, for a site; None where the file cannot be used, which the log says, as what may have been lost."""
        longest = max((proof_seconds(cluster) for cluster in snapshot.site.clusters.values()), default=0)
        try:
            opened = cls.open(path, bound, longest)
        except PlatformError as error:
            log.error("used single-use addresses do not outlast this process", error=str(error))
            return None
        left = opened.uses.closed_until - int(time.time())
        if left >= 0:
            log.warning(
                "uses of single-use addresses may have been lost; such addresses are refused for a while",
                file=str(path),
                damaged=opened.damaged,
                seconds=left + 1,
            )
        return opened

    def close(self) -> None:
        """Mark the file as complete and close it."""
        self.uses.release()
        self._mapping.flush()
        self._view[_CLOSED_AT] = 1
        self._view.release()
        self._mapping.flush()
        self._mapping.close()


def _state(path: Path, now: int, boot: bytes) -> State:
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return State(Found())
    except OSError as error:
        raise PlatformError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) < HEADER_BYTES:
        return State(Found(damaged=1))
    magic, version, closed, written_in = _HEADER.unpack_from(content)
    summed = content[: HEADER_BYTES - 4]
    known = (magic, version) == (MAGIC, VERSION) and content[HEADER_BYTES - 4 : HEADER_BYTES] == _checksum(summed)
    if not known:
        return State(Found(damaged=1))
    return State(read(content[HEADER_BYTES:], now), lost=not closed and written_in != boot)


def _checksum(header: bytes) -> bytes:
    """The checksum of a header, whatever it says of being closed."""
    return crc32(header[:_CLOSED_AT] + header[_CLOSED_AT + 1 :]).to_bytes(4, "big")


def _replace(path: Path, kept: list[Use], bound: int, boot: bytes) -> None:
    """A new file with the uses that are kept, all of it allocated: a hole could not be filled on a full disk, which
    kills a process that writes to its mapping."""
    header = _HEADER.pack(MAGIC, VERSION, 0, boot).ljust(HEADER_BYTES - 4, b"\0")
    records = bytearray(bound * RECORD_BYTES)
    for slot, use in enumerate(kept):
        write(memoryview(records), slot, use)
    make_folder(path.parent, error=PlatformError)
    with draft_of(path, error=PlatformError) as draft:
        draft.file.write(header + _checksum(header))
        draft.file.write(records)
        draft.commit()


def _mapped(path: Path) -> mmap.mmap:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise PlatformError(f"{path}: cannot be mapped: {error.strerror or error}") from error
