"""Up to two programs on one interface: what the first passes goes to the second.

    PINS/N-IFACE-dns/    the first: its program, and `next`, a program array that holds the second
    PINS/N-IFACE/        the second: its program and its maps
    in either            `link`, the attachment: it runs the first, or the second where that is alone

N is the network namespace. There is no program above the two: each is attached by itself while it is alone, at no
cost. Whichever comes, is replaced or leaves changes one reference, the link's program or the entry of `next`, so every
packet meets the chain of before or the one of after. One process at a time changes a chain; what a process that was
killed meanwhile left, the next change mends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from dnsvip.errors import PlatformError
from dnsvip.xdp.attachment import attach, attached_mode, keep
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.link import Link, Mode
from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import Program
from dnsvip.xdp.pinned import LINK, PROGRAM_PIN, remove_folder

NEXT = "next"
"""The first program's map, and its pin."""
WAIT_SECONDS = 10.0
"""How long a change waits for another one's end; each takes milliseconds."""
GRACE_SECONDS = 0.05
"""How long packets may be in a program that was replaced: longer than a processor polls a device."""
_ONLY = bytes(4)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """One of the two places on an interface."""

    interface: str
    first: Path
    second: Path
    is_first: bool

    @property
    def own(self) -> Path:
        """The folder of this place's pins."""
        return self.first if self.is_first else self.second

    @property
    def other(self) -> Path:
        """The folder of the other place's pins."""
        return self.second if self.is_first else self.first

    def link(self) -> Link | None:
        """The attachment; None where neither is attached."""
        path = self._link_pin()
        return Link.pinned(path) if path else None

    def runs(self, link: Link, program: int) -> bool:
        """Whether packets come to the program of this number. Any thread may call it."""
        looks = range(2)  # the first may leave between the two of a look
        return any(program in (link.program_id, self._next()) for _ in looks)

    def has(self, folder: Path) -> Program | None:
        """The program of a place, where packets come to it."""
        link = self.link() if (folder / PROGRAM_PIN).exists() else None
        if link is None:
            return None
        program = Program.pinned(folder / PROGRAM_PIN)
        with closing(link):
            if self.runs(link, program.id):
                return program
        program.close()
        return None

    def forget_dead(self) -> None:
        """Remove the pins of an interface that is gone, even if there is a new one of that name."""
        link = self.link()
        if link is None:
            return
        with closing(link):
            if link.interface == socket.if_nametoindex(self.interface):
                return
        log.info("removing the programs of an interface that is gone", interface=self.interface)
        remove_folder(self.first)
        remove_folder(self.second)

    def put(
        self, program: Program, mode: Mode, instead: str, following: Map | None = None, *, unchanged: bool = False
    ) -> Link:
        """Have packets come to the program, in place of an earlier one; the first has its map `following`. With
        `unchanged` an earlier one of the same code stays. Raises PlatformError, and changes nothing then."""
        with self._alone():
            link = self._in_mode(mode)
            if link is None:
                return self._attach(program, mode, instead, following)
            try:
                if not (unchanged and self._is_same(link, program)):
                    self._replace(link, program, following)
                    keep(program, self.own)
            except BaseException:
                link.close()
                raise
            return link

    def take_away(self) -> bool:
        """Leave the interface to the other program, or free it, and remove the pins of this place; false where there
        are none."""
        if not self.own.exists():
            return False
        with self._alone():
            link = self.link()
            if link is not None:
                with closing(link), suppress(KernelRefused):  # the interface has gone
                    self._leave(link)
            return remove_folder(self.own)

    def _in_mode(self, mode: Mode) -> Link | None:
        """The attachment, if it is in this mode; one in another mode is ended, unless the other program needs it."""
        link = self.link()
        if link is None or attached_mode(self.interface) is mode:
            return link
        with closing(link):
            if other := self.has(self.other):
                other.close()
                raise PlatformError(
                    f"{self.interface} has program {other.name} attached in the other mode: "
                    "give [dispatch] and dns.xdp the same `generic`, and stop both before you change it"
                )
            log.info("attaching again in another mode", mode=mode.name.lower())
            link.detach()
        if pin := self._link_pin():
            pin.unlink()
        return None

    def _attach(self, program: Program, mode: Mode, instead: str, following: Map | None) -> Link:
        link = attach(program, self.interface, mode, instead)
        (self.other / PROGRAM_PIN).unlink(missing_ok=True)  # nothing was attached
        if following is not None:
            following.delete(_ONLY)
            self._keep_next(following)
        link.pin(self.own / LINK)
        keep(program, self.own)
        return link

    def _replace(self, link: Link, program: Program, following: Map | None) -> None:
        if following is not None:
            if self._is_pinned(self.second, link.program_id):  # else the map has it already, or there is none
                with closing(Program.pinned(self.second / PROGRAM_PIN)) as second:
                    following.put(_ONLY, second.fd.to_bytes(4, "little"))
            self._keep_next(following)
            link.replace(program)
            return
        if not self._is_pinned(self.first, link.program_id):
            link.replace(program)
        elif not (self.first / NEXT).exists():
            raise PlatformError(f"{self.interface} has a DNS program of an earlier version: restart dnsvip serve first")
        else:
            with Map.pinned(self.first / NEXT) as array:
                array.put(_ONLY, program.fd.to_bytes(4, "little"))
        if (self.own / PROGRAM_PIN).exists():
            log.info("replaced the program of an earlier version", tag=program.tag)

    def _leave(self, link: Link) -> None:
        if self.is_first:
            followed, is_head = self._next() is not None, not self._is_pinned(self.second, link.program_id)
            if is_head and followed:
                with closing(Program.pinned(self.second / PROGRAM_PIN)) as second:
                    link.replace(second)
                time.sleep(GRACE_SECONDS)  # `next` is emptied with its last reference
            elif is_head:
                link.detach()
                return
        elif self._is_pinned(self.first, link.program_id):
            if (self.first / NEXT).exists():
                with Map.pinned(self.first / NEXT) as array:
                    array.delete(_ONLY)
        else:
            link.detach()
            return
        if (self.own / LINK).exists():
            (self.own / LINK).rename(self.other / LINK)

    def _is_same(self, link: Link, program: Program) -> bool:
        """Whether packets come to a pinned program of the same code."""
        earlier = self.has(self.own)
        if earlier is None:
            return False
        earlier.close()
        return earlier.tag == program.tag and self.runs(link, earlier.id)

    def _keep_next(self, following: Map) -> None:
        if not (self.first / NEXT).exists():
            following.pin(self.first / NEXT)

    def _next(self) -> int | None:
        """The number of the program in `next`."""
        try:
            with Map.pinned(self.first / NEXT) as array:
                value = array.get(_ONLY)
        except KernelRefused as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        return int.from_bytes(value, "little") if value else None

    def _is_pinned(self, folder: Path, program: int) -> bool:
        """Whether the program of this number is that of a place."""
        if not (folder / PROGRAM_PIN).exists():
            return False
        with closing(Program.pinned(folder / PROGRAM_PIN)) as pinned:
            return pinned.id == program

    def _link_pin(self) -> Path | None:
        return next((folder / LINK for folder in (self.first, self.second) if (folder / LINK).exists()), None)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process changes what is attached meanwhile. Raises PlatformError."""
        descriptor, end = os.open(self.own.parent, os.O_RDONLY | os.O_DIRECTORY), time.monotonic() + WAIT_SECONDS
        try:
            while not _locked(descriptor):
                if time.monotonic() > end:
                    raise PlatformError(f"{self.own.parent}: another process has been changing programs for too long")
                time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)


def place(interface: str, pins: Path, *, is_first: bool, what: str) -> Place:
    """A place on an interface of this network namespace; raises PlatformError, which says `what`, where there is
    none."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise PlatformError(f"{what}: {interface!r} does not exist; there is: {there}") from None
    name = f"{os.stat('/proc/self/ns/net').st_ino}-{interface}"
    return Place(interface, pins / f"{name}-dns", pins / name, is_first)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
