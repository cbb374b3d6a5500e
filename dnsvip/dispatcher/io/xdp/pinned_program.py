"""The dispatcher's kernel program on an interface, with its maps, all of them pinned.

    PINS/NETWORK-NAMESPACE-INTERFACE/   link, program, and the maps (xdp/pinned.py; beside a DNS program: xdp/chain.py)

Once attached it forwards whether or not a process runs. `PinnedProgram.open` takes over what an earlier process left:
the same program stays attached, another one replaces it between two packets, and flows are carried over if their layout
is unchanged. Blocking; one thread at a time.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.attribute_masks import count_masks
from dnsvip.dispatcher.io.xdp.kernel_types import OBJECT
from dnsvip.dispatcher.io.xdp.table import TABLE, count_uses, divide, records, sizes
from dnsvip.dispatcher.verify.networks import count_attributes, count_networks
from dnsvip.site import Cluster, Site, Snapshot
from dnsvip.site.node_file import DispatchSettings
from dnsvip.xdp import chain, pinned
from dnsvip.xdp.attachment import attached_mode
from dnsvip.xdp.chain import Place
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.link import Link, Mode
from dnsvip.xdp.maps import HASH, LPM_TRIE, LRU_HASH, Map
from dnsvip.xdp.objects import Object, Program
from dnsvip.xdp.pinned import PROGRAM_PIN, Loaded, is_map
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


class PinnedProgram:
    """One loaded program and its maps. `open`, then write the maps, then `attach`."""

    def __init__(self, where: Place, loaded: Loaded, programs: dict[str, Program]) -> None:
        self._where = where
        self.maps = loaded.maps
        self.programs = programs
        self.interface = where.interface
        self._loaded = loaded
        self._link: Link | None = None
        self._running = 0
        """The kernel's number of the program that packets come to: an earlier process's where that had the same code
        and maps."""

    @classmethod
    def open(cls, settings: DispatchSettings, snapshot: Snapshot) -> PinnedProgram:
        """Load the program with the maps of an earlier process, or new ones, large enough for the snapshot; raises
        PlatformError, and changes nothing then."""
        where = place(settings)
        check_platform(OBJECT, settings.pins)
        where.forget_dead()
        room = room_for(snapshot.site, spare=2, deleted=len(snapshot.deleted))
        with Object.open(OBJECT) as program:
            room["networks"] = network_room(snapshot.site)
            room["client_masks"] = _power(2 * count_masks(snapshot.site, count_attributes(snapshot.site)))
            for name, entries in (sizes(settings.flows, settings.buckets) | room).items():
                program.resize(name, entries)
            loaded = pinned.load(program, where.own, TABLE)
            programs = {name: program.program(name) for name in (PROGRAM, *HELPERS)}
        pinned_program = cls(where, loaded, programs)
        pinned_program._carry_over()
        return pinned_program

    def attach(self, mode: Mode) -> None:
        """Attach the program to the interface, in place of an earlier one; raises PlatformError, and the earlier one
        then stays attached."""
        self._carry_over()  # flows that came since it was loaded
        program = self.programs[PROGRAM]
        self._link = self._where.put(program, mode, INSTEAD, unchanged=self._loaded.unchanged)
        with closing(Program.pinned(self._where.own / PROGRAM_PIN)) as running:
            self._running = running.id
        self._loaded.tidy()

    @property
    def is_attached(self) -> bool:
        """Whether packets of an interface that is there come to it; not where somebody has detached it."""
        link = self._link
        try:
            return link is not None and link.interface != 0 and self._where.runs(link, self._running)
        except KernelRefused:
            return False

    def discard(self) -> None:
        """Close, and before `attach` also remove the pins of this load; earlier pins stay."""
        if self._link is None:
            self._loaded.discard()
            with suppress(OSError):  # earlier pins are still in it
                self._where.own.rmdir()
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


def place(settings: DispatchSettings) -> Place:
    """Where the program of an interface is pinned; raises PlatformError where there is no such interface."""
    return chain.place(settings.interface or "", settings.pins, is_first=False, what="dispatch.interface")


def detach(settings: DispatchSettings) -> bool:
    """Detach the program of an interface and remove its maps; false where there is none."""
    return place(settings).take_away()


def describe(settings: DispatchSettings) -> dict[str, Any] | None:
    """The attached program, JSON-ready: mode, id and tag, the DNS program in front of it or None, and its
    maps with size and use; None where it is not attached."""
    where = place(settings)
    program, first = where.has(where.second), ahead(settings)
    if program is None:
        return None
    mode = attached_mode(where.interface)
    description = {
        "interface": where.interface,
        "attached": mode.name.lower() if mode else "no",
        "program": _named(program),
        "behind": first,
        "pins": str(where.own),
        "maps": [_described(path) for path in sorted(where.own.iterdir()) if is_map(path)],
    }
    program.close()
    return description


def ahead(settings: DispatchSettings) -> dict[str, Any] | None:
    """The DNS program on the interface, JSON-ready; None where there is none."""
    where = place(settings)
    program = where.has(where.first)
    if program is None:
        return None
    program.close()
    return _named(program)


def _named(program: Program) -> dict[str, Any]:
    return {"id": program.id, "name": program.name, "tag": program.tag}


def _described(path: Path) -> dict[str, Any]:
    with Map.pinned(path) as pinned_map:
        return {
            "name": path.name.split("-")[0],
            "entries": pinned_map.max_entries,
            "used": pinned_map.count() if pinned_map.type in _FILLING else None,
            "bytes": pinned_map.memory,
        }
