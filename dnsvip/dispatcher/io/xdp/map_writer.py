"""Writes snapshots into the maps of the kernel program, each as a whole.

    writer = MapWriter(maps, programs)
    writer.apply(tables)        # the next packet is decided by these
    writer.tick(time.time())    # every second or so: the clock, expired flows
    writer.counters.by_reason()

Maps of an earlier process (xdp/pinned.py) are taken over: numbers of servers, tiers and clusters stay the same, so its
flows stay valid. Blocking; one thread at a time.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Mapping

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import DISCARD
from dnsvip.dispatcher.ending import concerns
from dnsvip.dispatcher.flows.usage import REST, Used, leaving
from dnsvip.dispatcher.flows.uses import share_of
from dnsvip.dispatcher.io.xdp.attribute_masks import AttributeMasks
from dnsvip.dispatcher.io.xdp.client_maps import ClientMaps
from dnsvip.dispatcher.io.xdp.fitting import left_out, problems_of
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, TooMany
from dnsvip.dispatcher.io.xdp.image import Image, compile_image
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.map_counters import MapCounters
from dnsvip.dispatcher.io.xdp.network_maps import NetworkMaps
from dnsvip.dispatcher.io.xdp.table import divide
from dnsvip.dispatcher.io.xdp.taken_numbers import forget_taken
from dnsvip.dispatcher.stand_ins import STAND_INS
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.errors import Problem
from dnsvip.site import ClientState, Snapshot
from dnsvip.site.cow_map import difference
from dnsvip.site.isolation import Isolated, Key, isolate, with_stand_ins
from dnsvip.site.plain import SiteObject
from dnsvip.xdp.ciphers import Ciphers, SyscallProgram
from dnsvip.xdp.maps import ARRAY, MMAPABLE, Map
from dnsvip.xdp.structs import number_of, u32, u64

FIRST = u32(0)
SWEEP_SECONDS = 10.0
"""A sweep takes an eighth of a microsecond for each flow, so not every tick runs one."""
WALK_SLICE = 65_536
"""Flows looked at in one system call."""
MOST_GENERATIONS = (1 << 32) - 2
MONOTONIC_COARSE = 6
"""CLOCK_MONOTONIC_COARSE (linux/time.h), whose resolution is a tick of the kernel."""


class MapWriter:
    """Writes a dispatcher's decisions-to-be into maps (by their names in maps.h), with the object's syscall programs.

    `fixed_time` leaves the choice of AES to the kernel even where it prefers the slower one (xdp/ciphers.py)."""

    def __init__(
        self,
        maps: Mapping[str, Map],
        programs: Mapping[str, SyscallProgram],
        *,
        encap_source: bytes = DISCARD,
        fixed_time: bool = False,
    ) -> None:
        self._maps, self._programs = maps, programs
        self._encap_source = encap_source
        order = TYPES.struct("cipher_order")
        self._contexts = Ciphers(programs["set_cipher"], order, tables=True, fixed_time=fixed_time)
        self._config: dict[str, int] = {}
        self._clock_base = 0
        self._read_clocks()
        self._snapshot: Snapshot | None = None
        self._image: Image | None = None
        self._is_torn = False
        self._isolated: Isolated[Image] | None = None
        self._left_out: Mapping[Key, SiteObject | None] = {}
        self._ciphers: dict[int, bytes] = {}
        self._swept = 0.0
        self.usage_taken: Mapping[int, Used] = {}
        self._attributes = AttributeMasks(maps["client_masks"])
        self._networks = NetworkMaps(maps["networks"], maps["network_lengths"])
        divide(maps)
        if maps["usage"].get(u64(REST)) is None:
            maps["usage"].put(u64(REST), bytes(TYPES.struct("usage").size))
        value_key, config = TYPES.struct("value_key"), TYPES.struct("config")
        known = {*maps["values"].keys(), *maps["masks"].keys()}
        first_table = max((value_key.unpack(key)["table"] for key in known), default=0) + 1
        self.ids = IdAllocator(self._names(), first_table)
        self.counters = MapCounters(maps, self.ids)
        self._clients = ClientMaps(maps["clients"], maps["client_keys"], self.ids)
        before = config.unpack(maps["config"].get(FIRST) or bytes(config.size))
        # Of a new map: unlike that of any entry of a decode cache that was taken over without it.
        first = before["generation"] or secrets.randbelow(MOST_GENERATIONS)
        self.settings(generation=first % MOST_GENERATIONS + 1, use_share=share_of(maps["uses"].max_entries))

    # Snapshots and settings

    def apply(self, tables: DispatchTables) -> None:
        """Decide by these tables from now on, with stand-ins for objects that make that fail or have no place in the
        maps (`problems`). Raises PlatformError where the old ones stay in force; revocations do not wait."""
        torn, self._is_torn = self._is_torn, True
        self._revoke(tables.sound)
        self._left_out = left_out(tables, self.ids)
        self._apply(tables, torn=torn)
        if self._left_out and (now := left_out(tables, self.ids)) != self._left_out:  # there is more place than before
            self._left_out = now
            self._apply(tables, torn=False)
        self._is_torn = False

    def _apply(self, tables: DispatchTables, *, torn: bool) -> None:
        """`torn`: an earlier change may have been written in part, so that all is written anew."""
        before, old = (None, None) if torn else (self._snapshot, self._image)
        self._isolated = isolate(
            with_stand_ins(tables.sound, self._left_out),
            lambda sound: compile_image(
                tables if sound is tables.sound else tables.of(sound), self.ids, self._encap_source
            ),
            STAND_INS,
            self._isolated,
            (TooMany,),
        )
        image = self._isolated.value
        self._prepare(image, old)
        if old is None or old.clusters != image.clusters:
            # What is forged or outside now may have flows from before: the next sweep finds them.
            self.settings(marked=0, enclosed=0)
        self.ids.hold()  # also where the change fails from here on
        self._put_inner("sites", FIRST, image.site)
        self._put_prefixes("prefixes6", image.prefixes6)
        self._put_prefixes("prefixes4", image.prefixes4)
        self._put_prefixes("translated", image.translated)
        self._clients.apply(before, self._isolated.snapshot, old, image)
        self._attributes.apply(self._isolated.snapshot.site.clients, image.attributed)
        self._networks.apply(image.networks)
        self._next_generation()
        self._remove_unused(image, old)
        self.ids.enforce(image.tables)
        self._snapshot, self._image = self._isolated.snapshot, image
        if before is None or concerns(before, self._snapshot):
            self.walk()

    @property
    def problems(self) -> list[Problem]:
        """The objects that have stand-ins in the maps, one problem of each."""
        isolated = self._isolated.problems if self._isolated else ()
        return [*isolated, *problems_of(self._left_out), *self._clients.faults.values()]

    def _revoke(self, snapshot: Snapshot) -> None:
        """Refuse the clients that are no longer enabled or have been deleted, before anything that might fail."""
        before = self._snapshot
        if before is None:
            return
        changes = list(difference(before.site.clients, snapshot.site.clients))
        refused = [new.id for _, _, new in changes if new and new.state is not ClientState.ENABLED]
        refused += [number for number, _, since in difference(before.deleted, snapshot.deleted) if since is not None]
        self._clients.refuse(refused)
        ended = [new.id for _, _, new in changes if new and new.is_ended] + list(snapshot.ended - before.ended)
        self._clients.end(ended)
        if refused:
            self._next_generation()
        if ended:
            self.walk()

    def _next_generation(self) -> None:
        """What the program has cached of earlier decisions does not count any more."""
        self.settings(generation=self._config["generation"] % MOST_GENERATIONS + 1)

    def settings(self, **changes: int) -> Mapping[str, int]:
        """Set members of `struct config` (sample, watched, trace, user_space; now for tests); all as they are now."""
        self._config |= changes
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._config["clock_offset"] = offset + self._clock_base
        self._maps["config"].put(FIRST, TYPES.struct("config").pack_sparse(**self._config))
        return self._config

    def tick(self, now: float) -> int:
        """Set the program's clock and, every SWEEP_SECONDS, free flows that expired by `now` (unix seconds); how
        many."""
        self._read_clocks()
        self.settings()
        if 0 <= now - self._swept < SWEEP_SECONDS:
            return 0
        self._swept = now
        return self.sweep(int(now))

    def sweep(self, now: int, everything: bool = False) -> int:
        """Free what expired by `now` (unix seconds), or everything; how many flows. Waits while another process
        sweeps."""
        sweep = TYPES.struct("sweep")
        order = sweep.pack_sparse(now=now, all=everything)
        while (answer := self._programs["sweep"].ask(order))[0] == -errno.EBUSY:
            time.sleep(0.001)
        expired, swept = answer
        # flows to forged addresses, and elsewhere, by the site in force
        self.settings(marked=1, enclosed=not sweep.unpack(swept)["outside"])
        return expired

    def _read_clocks(self) -> None:
        """Relate the ticks that the program counts to the monotonic clock (work.h).

        A reading is late by the time since the last tick, so the least of all readings is the right one.
        """
        clocks, tick = TYPES.struct("clocks"), round(time.clock_getres(MONOTONIC_COARSE) * SECOND)
        now = clocks.unpack(self._programs["read_clocks"].ask(bytes(clocks.size))[1])
        base = now["monotonic"] - now["ticks"] * tick
        known = self._config.get("tick") == tick and abs(base - self._clock_base) < 2 * tick
        self._clock_base = min(base, self._clock_base) if known else base
        self._config["tick"] = tick

    def purge(self, key: bytes) -> bool:
        """Remove the flow with a key (`struct flow_key`); whether there was one."""
        return bool(self._programs["purge"].call(key))

    def walk(self) -> None:
        """End the flows that are to end by the clients and tiers in the maps, and let others go on."""
        pack = TYPES.struct("ending").pack
        for first in range(0, self._maps["flows"].max_entries, WALK_SLICE):
            self._programs["end_flows"].call(pack(first=first, count=WALK_SLICE))

    def usage(self) -> Mapping[int, Used]:
        """What each client that has a place has used, by id, since it has it."""
        self.walk()
        unpack = TYPES.struct("usage").unpack
        return {number_of(key): Used(**unpack(values[0])) for key, values in self._maps["usage"].items()}

    def take_usage(self) -> Mapping[int, Used]:
        """What each client has used since the last time (of this writer, or of that whose `usage_taken` it has), by id;
        where few places are left, those that have used least give theirs up."""
        before, now, places = self.usage_taken, dict(self.usage()), self._maps["usage"]
        used = {client: total - before.get(client, Used()) for client, total in now.items()}
        for client in leaving(used, places.max_entries - 1):
            last = places.take(u64(client))
            if last is not None:
                used[client] = Used(**TYPES.struct("usage").unpack(last)) - before.get(client, Used())
            del now[client]
        self.usage_taken = now
        return used

    def server(self, number: int) -> str:
        """The name of a server number (image.parts_of); empty where it has none."""
        return self.ids.servers.names.get(number, "")

    # The parts of apply

    def _prepare(self, image: Image, old: Image | None) -> None:
        """Write everything that the new image refers to, before it is in force."""
        # Before the names are written: a process that ends here leaves nothing behind.
        forget_taken(self._maps, self.ids, self.purge)
        pack_key, pack_name = TYPES.struct("name_key").pack, TYPES.struct("name").pack
        for kind, numbers in enumerate(self.ids.kinds):
            for number, name in numbers.names.items():
                self._maps["names"].put(pack_key(kind=kind, number=number), pack_name(text=name.encode()))
        for number, key in image.ciphers.items():
            if self._ciphers.get(number) != key:
                self._contexts.set(number, key)
                self._ciphers[number] = key
        for number, ring in image.rings.items():
            if old is None or old.rings.get(number) != ring:
                self._put_inner("rings", u32(number), ring)
        for name, entries, before in (
            ("values", image.values, old.values if old else {}),
            ("masks", image.masks, old.masks if old else {}),
        ):
            added = {key: value for key, value in entries.items() if key not in before}
            self._maps[name].put_many(b"".join(added), b"".join(added.values()))

    def _put_inner(self, outer: str, key: bytes, value: bytes) -> None:
        with Map.create(ARRAY, outer, 4, len(value), 1, MMAPABLE) as inner:
            inner.put(FIRST, value)
            self._maps[outer].put_map(key, inner)

    def _put_prefixes(self, name: str, wanted: Mapping[bytes, bytes]) -> None:
        for key in set(self._maps[name].keys()) - wanted.keys():
            self._maps[name].delete(key)
        for key, value in wanted.items():
            self._maps[name].put(key, value)

    def _remove_unused(self, image: Image, old: Image | None) -> None:
        """Remove what only older images referred to."""
        values, masks, rings = self._maps["values"], self._maps["masks"], self._maps["rings"]
        if old is None:
            values.delete_many([key for key in set(values.keys()) if key not in image.values])
            masks.delete_many([key for key in set(masks.keys()) if key not in image.masks])
            rings.delete_many([key for key in set(rings.keys()) if number_of(key) not in image.rings])
        else:
            values.delete_many([key for key in old.values if key not in image.values])
            masks.delete_many([key for key in old.masks if key not in image.masks])
            rings.delete_many([u32(number) for number in old.rings.keys() - image.rings.keys()])
        for number in self._ciphers.keys() - image.ciphers.keys():
            self._contexts.remove(number)
            del self._ciphers[number]

    def _names(self) -> dict[int, dict[int, str]]:
        """The numbers that an earlier process gave: names by kind and number."""
        name_key, name = TYPES.struct("name_key"), TYPES.struct("name")
        names: dict[int, dict[int, str]] = {}
        for key, values in self._maps["names"].items():
            label = name_key.unpack(key)
            names.setdefault(label["kind"], {})[label["number"]] = name.unpack(values[0])["text"].rstrip(b"\0").decode()
        return names
