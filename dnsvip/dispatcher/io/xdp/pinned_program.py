"""The dispatcher's kernel program on an interface, with its maps, all of them pinned.

    PINS/NETWORK-NAMESPACE-INTERFACE/   link, program, and the maps (xdp/pinned.py)

Once attached it forwards whether or not a process runs. `PinnedProgram.open` takes over what an earlier process left:
the same program stays attached, another one replaces it between two packets, and flows are carried over if their layout
is unchanged. Blocking; one thread at a time.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.attribute_masks import count_masks
from dnsvip.dispatcher.io.xdp.kernel_types import OBJECT
from dnsvip.dispatcher.io.xdp.table import TABLE, count_uses, divide, records, sizes
from dnsvip.dispatcher.verify.networks import count_attributes, count_networks
from dnsvip.errors import PlatformError
from dnsvip.site import Cluster, Site, Snapshot
from dnsvip.site.node_file import DispatchSettings
from dnsvip.xdp import pinned
from dnsvip.xdp.attachment import attach, attached_mode, forget_dead, keep, take_away
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.link import Link, Mode
from dnsvip.xdp.maps import HASH, LPM_TRIE, LRU_HASH, Map
from dnsvip.xdp.objects import Object, Program
from dnsvip.xdp.pinned import ATTACHED, LINK, PROGRAM_PIN, Loaded
from dnsvip.xdp.platform import check_platform

PROGRAM = "dispatch"
HELPERS = ("set_cipher", "sweep", "purge", "adopt", "end_flows", "read_clocks")
"""Programs of the object that user space calls."""
CARRIED = ("replies", "uses")
"""Maps whose entries are copied, like flows, where only the size of the map has changed."""
NAMES, FLOWS = "names", "flows"
_FILLING = frozenset({HASH, LRU_HASH, LPM_TRIE})
"""Map types that fill up; all entries of the others always exist."""
INSTEAD = '"generic = true" in [dispatch] (slower), or mode = "user"'
"""What to do where the driver takes no program."""

LEAST_CLIENTS = 4096

log = structlog.get_logger()


class PinnedProgram:
    """One loaded program and its maps. `open`, then write the maps, then `attach`."""

    def __init__(self, folder: Path, loaded: Loaded, programs: dict[str, Program], interface: str) -> None:
        self.folder = folder
        self.maps = loaded.maps
        self.programs = programs
        self.interface = interface
        self._loaded = loaded
        self._link: Link | None = None

    @classmethod
    def open(cls, settings: DispatchSettings, snapshot: Snapshot) -> PinnedProgram:
        """Load the program with the maps of an earlier process, or new ones, large enough for the snapshot; raises
        PlatformError, and changes nothing then."""
        interface = settings.interface or ""
        folder = place(settings)
        check_platform(OBJECT, settings.pins)
        forget_dead(folder, interface)
        room = room_for(snapshot.site, spare=2, deleted=len(snapshot.deleted))
        with Object.open(OBJECT) as program:
            room["networks"] = network_room(snapshot.site)
            room["client_masks"] = _power(2 * count_masks(snapshot.site, count_attributes(snapshot.site)))
            for name, entries in (sizes(settings.flows, settings.buckets) | room).items():
                program.resize(name, entries)
            loaded = pinned.load(program, folder, TABLE)
            programs = {name: program.program(name) for name in (PROGRAM, *HELPERS)}
        pinned_program = cls(folder, loaded, programs, interface)
        pinned_program._carry_over()
        return pinned_program

    def attach(self, mode: Mode) -> None:
        """Attach the program to the interface, in place of an earlier one; raises PlatformError, and the earlier one
        then stays attached."""
        self._carry_over()  # flows that came since it was loaded
        self._link = put_in_place(self.folder, self.programs[PROGRAM], self.interface, mode, self._loaded)

    @property
    def is_attached(self) -> bool:
        """Whether it is attached to an interface that is there; not where somebody has detached it."""
        link = self._link
        try:
            return link is not None and link.interface != 0
        except KernelRefused:
            return False

    def discard(self) -> None:
        """Close, and before `attach` also remove the pins of this load; earlier pins stay."""
        if self._link is None:
            self._loaded.discard()
            with suppress(OSError):  # earlier pins are still in it
                self.folder.rmdir()
        self.close()

    def close(self) -> None:
        """Close the descriptors; the program stays attached."""
        self._loaded.close()
        for program in self.programs.values():
            program.close()
        if self._link is not None:
            self._link.close()
            self._link = None

    def _carry_over(self) -> None:
        """Take over the state of an earlier program; without its names the numbers in it mean nothing."""
        names_known = NAMES in self._loaded.taken or self._loaded.carry(NAMES) > 0
        if not names_known:
            return
        for name in CARRIED:
            self._loaded.carry(name)
        if not self._loaded.taken.issuperset(("uses", "use_shares")):
            count_uses(self.maps)
        if FLOWS not in self._loaded.taken:
            divide(self.maps)
            for path in self._loaded.predecessors(FLOWS):
                with Map.pinned(path) as old:
                    for record in records(old):
                        self.programs["adopt"].call(record)

    def holds(self, tables: DispatchTables) -> bool:
        """Whether the maps are large enough for a snapshot, as it is compiled."""
        snapshot = tables.sound
        room = room_for(snapshot.site, spare=1, deleted=len(snapshot.deleted))
        room["networks"] = len(tables.verifier.networks)
        room["client_masks"] = count_masks(snapshot.site, tables.verifier.networks.with_attributes)
        return all(self.maps[name].max_entries >= entries for name, entries in room.items())


def room_for(site: Site, *, spare: int, deleted: int = 0) -> dict[str, int]:
    """Entries of the maps that hold clients, `deleted` ones too: `spare` times their number, rounded up to a power of
    two."""
    clients = max(len(site.clients) + deleted, LEAST_CLIENTS // spare)
    clusters = max(sum(isinstance(cluster, Cluster) for cluster in site.clusters.values()), 1)
    return {
        name: 1 << (spare * count - 1).bit_length()
        for name, count in (("clients", clients), ("client_keys", clients * clusters))
    }


def network_room(site: Site) -> int:
    """Entries of the map of clients' networks: twice their number, rounded up to a power of two."""
    return _power(2 * count_networks(site))


def _power(count: int) -> int:
    return 1 << (max(count, LEAST_CLIENTS) - 1).bit_length()


def place(settings: DispatchSettings) -> Path:
    """The folder of pins for an interface of this network namespace; raises PlatformError where there is none."""
    interface = settings.interface or ""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        there = ", ".join(name for _, name in socket.if_nameindex())
        raise PlatformError(f"dispatch.interface: {interface!r} does not exist; there is: {there}") from None
    return settings.pins / f"{os.stat('/proc/self/ns/net').st_ino}-{interface}"


def put_in_place(folder: Path, program: Program, interface: str, mode: Mode, loaded: Loaded) -> Link:
    """Attach a program, or replace the one that `folder` has attached, and remove pins no longer needed; raises
    PlatformError, and changes nothing then."""
    link = Link.pinned(folder / LINK) if (folder / LINK).exists() else None
    if link is not None and attached_mode(interface) is not mode:
        log.info("attaching again in another mode", mode=mode.name.lower())
        link.detach()
        link.close()
        (folder / LINK).unlink()
        link = None
    if link is None:
        link = attach(program, interface, mode, INSTEAD)
        link.pin(folder / LINK)
        keep(program, folder)
    elif not _is_same(folder, program, loaded):
        link.replace(program)
        keep(program, folder)
        log.info("replaced the program of an earlier version", tag=program.tag)
    loaded.tidy()
    return link


def _is_same(folder: Path, program: Program, loaded: Loaded) -> bool:
    """Whether the attached program has the same code and the same maps."""
    if not (folder / PROGRAM_PIN).exists():
        return False
    attached = Program.pinned(folder / PROGRAM_PIN)
    same = attached.tag == program.tag and loaded.unchanged
    attached.close()
    return same


def detach(settings: DispatchSettings) -> bool:
    """Detach the program of an interface and remove its maps; false where there is none."""
    return take_away(place(settings))


def describe(settings: DispatchSettings) -> dict[str, Any] | None:
    """The attached program, JSON-ready: mode, id and tag, and its maps with size and use; None where there is none."""
    folder = place(settings)
    if not (folder / LINK).exists():
        return None
    link = Link.pinned(folder / LINK)
    program = Program.pinned(folder / PROGRAM_PIN)
    mode = attached_mode(settings.interface or "")
    description = {
        "interface": settings.interface,
        "attached": mode.name.lower() if mode else "no",
        "program": {"id": program.id, "name": program.name, "tag": program.tag},
        "pins": str(folder),
        "maps": [_described(path) for path in sorted(folder.iterdir()) if path.name not in ATTACHED],
    }
    program.close()
    link.close()
    return description


def _described(path: Path) -> dict[str, Any]:
    with Map.pinned(path) as pinned_map:
        return {
            "name": path.name.split("-")[0],
            "entries": pinned_map.max_entries,
            "used": pinned_map.count() if pinned_map.type in _FILLING else None,
            "bytes": pinned_map.memory,
        }
