"""Brings snapshots into the maps of the kernel's program, each of them whole, and reads what it counts.

    writer = MapWriter(maps, programs)
    feed.apply(tables)          # what the next packet is decided by
    feed.tick(time.time())      # every second or so: the clock, expired flows

Maps that lived before (pinned.py) are taken as they are: numbers of servers, tiers and clusters go on, so flows of
before go on too. Blocking; one thread at a time.
"""

from __future__ import annotations

import errno
import hmac
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Protocol

from dnsvip.address.layout import Layout
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.encap import DISCARD
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator
from dnsvip.dispatcher.io.xdp.image import Image, client_record, compile_image
from dnsvip.dispatcher.io.xdp.layout import (
    CIPHER_ORDER,
    CLIENT_KEY_NAME,
    CONFIG,
    COUNTER,
    NAME,
    NAME_KEY,
    SIDES,
    SWEEP,
    VALUE_KEY,
    word,
)
from dnsvip.dispatcher.io.xdp.table import divide
from dnsvip.dispatcher.reason import REASONS
from dnsvip.errors import PlatformError
from dnsvip.site import Client, Snapshot
from dnsvip.site.cow_map import difference
from dnsvip.xdp.maps import ARRAY, MMAPABLE, Map

BATCH = 4096
"""Client records written in one system call."""
CRYPTO = Path("/proc/crypto")
FIXED_TIME, FASTER = "ecb(aes-fixed-time)", "ecb(aes-generic)"
"""Two of the kernel's ciphers in software, of which some kernels prefer the first. It reads its tables so that their
timing says less to who shares the processor's caches, and takes half as long again."""
FIRST = word(0)
SWEEP_SECONDS = 10.0
"""A sweep takes an eighth of a microsecond for each flow there is, so not every tick is one."""
MOST_GENERATIONS = (1 << 32) - 2


def prefers_fixed_time(crypto: str) -> bool:
    """Whether the kernel takes FIXED_TIME for AES, by the text of /proc/crypto: it has no AES in hardware."""
    found: dict[str, int] = {}
    for entry in crypto.split("\n\n"):
        words = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in entry.splitlines())}
        if words.get("name") == "ecb(aes)" and words.get("type") == "lskcipher":
            found[words["driver"]] = int(words["priority"])
    return bool(found) and max(found, key=lambda driver: found[driver]) == FIXED_TIME


class Call(Protocol):
    """A SEC("syscall") program, as `objects.Program` is one."""

    def call(self, argument: bytes) -> int:
        """Run it with a context; what it returned."""
        ...


class MapWriter:
    """Writes what a dispatcher decides by into maps (by their names in maps.h), with the programs that are run by hand.

    `fixed_time` leaves to the kernel which AES it takes, where it prefers a slower one (FIXED_TIME)."""

    def __init__(
        self,
        maps: Mapping[str, Map],
        programs: Mapping[str, Call],
        *,
        encap_source: bytes = DISCARD,
        fixed_time: bool = False,
    ) -> None:
        self._maps, self._programs = maps, programs
        self._encap_source, self._fixed_time = encap_source, fixed_time
        self._faster: bool | None = None
        self._config: dict[str, int] = {}
        self._snapshot: Snapshot | None = None
        self._image: Image | None = None
        self._ciphers: dict[int, bytes] = {}
        self._swept = 0.0
        divide(maps)
        first = max((VALUE_KEY.unpack(key)["table"] for key in set(maps["values"].keys())), default=0) + 1
        self.state = IdAllocator(self._names(), first)
        self.settings(
            generation=CONFIG.unpack(maps["config"].get(FIRST) or bytes(CONFIG.size))["generation"] + 1,
        )

    # What is decided by

    def apply(self, tables: DispatchTables) -> None:
        """Decide by these tables from now on. Raises PlatformError where they are more than the maps hold; then the
        old ones stay in force."""
        image = compile_image(tables, self.state, self._encap_source)
        self._prepare(image)
        self._put_site(image.site)
        self._prefix("prefixes6", image.prefixes6)
        self._prefix("prefixes4", image.prefixes4)
        self._write_clients(tables.snapshot, image)
        self.settings(generation=self._config["generation"] % MOST_GENERATIONS + 1)
        self._clean(image)
        self.state.enforce(image.tables)
        self._snapshot, self._image = tables.snapshot, image

    def settings(self, **changes: int) -> Mapping[str, int]:
        """Set fields of `struct config` (sample, watched, trace, user_space, now for tests); how all are set."""
        self._config |= changes
        self._config["clock_offset"] = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._maps["config"].put(FIRST, CONFIG.pack(**self._config))
        return self._config

    def tick(self, now: float) -> int:
        """Set the program's clock and, every SWEEP_SECONDS, give back the memory of flows that expired by `now` (unix
        seconds); how many."""
        self.settings()
        if 0 <= now - self._swept < SWEEP_SECONDS:
            return 0
        self._swept = now
        return self.sweep(int(now))

    def sweep(self, now: int, everything: bool = False) -> int:
        """Forget what expired by `now` (unix seconds), or everything; how many flows. Waits for the sweep of another
        process."""
        while (found := self._programs["sweep"].call(SWEEP.pack(now=now, all=everything))) == -errno.EBUSY:
            time.sleep(0.001)
        return found

    def purge(self, key: bytes) -> bool:
        """Forget the flow with a key (`struct flow_key`); whether it was known."""
        return bool(self._programs["purge"].call(key))

    # What is counted

    def counters(self) -> dict[str, int]:
        """Packets by reason; every packet is in exactly one."""
        return {reason: packets for reason, (packets, _) in self.traffic().items()}

    def traffic(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes of frames by reason."""
        found = {}
        for number, reason in enumerate(REASONS):
            each = [COUNTER.unpack(value) for value in self._maps["counters"].get_each(word(number))]
            found[reason] = (sum(one["packets"] for one in each), sum(one["bytes"] for one in each))
        return found

    def auxiliary_counters(self) -> dict[str, int]:
        """What happened besides (layout.SIDES)."""
        return {
            side: sum(int.from_bytes(value, "little") for value in self._maps["sides"].get_each(word(number)))
            for number, side in enumerate(SIDES)
        }

    def opened(self) -> dict[str, int]:
        """Flows recorded by the tier they were opened in, of tiers that have opened any."""
        found = {
            name: sum(int.from_bytes(value, sys.byteorder) for value in self._maps["opened"].get_each(word(number)))
            for number, name in self.state.tiers.names.items()
        }
        return {name: count for name, count in found.items() if count}

    def server(self, number: int) -> str:
        """POOL/SERVER/ADDRESS of a server number; empty where it has none."""
        return self.state.servers.names.get(number, "")

    # The parts of apply

    def _prepare(self, image: Image) -> None:
        """All that the new image names is there before it is in force."""
        for kind, numbers in enumerate(self.state.kinds):
            for number, name in numbers.names.items():
                self._maps["names"].put(NAME_KEY.pack(kind=kind, number=number), NAME.pack(text=name.encode()))
        old = self._image
        for number, key in image.ciphers.items():
            if self._ciphers.get(number) != key:
                self._cipher(number, key)
        for number, ring in image.rings.items():
            if old is None or old.rings.get(number) != ring:
                self._put_inner("rings", word(number), ring)
        fresh = {key: value for key, value in image.values.items() if old is None or key not in old.values}
        self._maps["values"].put_many(b"".join(fresh), b"".join(fresh.values()))

    def _cipher(self, number: int, key: bytes) -> None:
        result = self._make_cipher(number, key)
        if result:
            raise PlatformError(
                f"the kernel makes no AES context (error {-result}): it needs CONFIG_CRYPTO_AES and CONFIG_CRYPTO_ECB"
            )
        self._ciphers[number] = key

    def _make_cipher(self, number: int, key: bytes) -> int:
        set_cipher = self._programs["set_cipher"]
        result = set_cipher.call(CIPHER_ORDER.pack(number=number, key=key))
        if result:
            return result
        if self._faster is None:  # only once there is a context does the kernel say whose it is
            self._faster = not self._fixed_time and prefers_fixed_time(CRYPTO.read_text())
        if self._faster:
            set_cipher.call(CIPHER_ORDER.pack(number=number, key=key, faster=1))  # where that fails the first stays
        return 0

    def _put_inner(self, outer: str, key: bytes, value: bytes) -> None:
        with Map.create(ARRAY, outer, 4, len(value), 1, MMAPABLE) as inner:
            inner.put(FIRST, value)
            self._maps[outer].put_map(key, inner)

    def _put_site(self, site: bytes) -> None:
        self._put_inner("sites", FIRST, site)

    def _prefix(self, name: str, wanted: Mapping[bytes, bytes]) -> None:
        for key in set(self._maps[name].keys()) - wanted.keys():
            self._maps[name].delete(key)
        for key, value in wanted.items():
            self._maps[name].put(key, value)

    def _clean(self, image: Image) -> None:
        """What only older images named goes."""
        values, rings = self._maps["values"], self._maps["rings"]
        if self._image is None:
            values.delete_many([key for key in set(values.keys()) if key not in image.values])
            rings.delete_many([key for key in set(rings.keys()) if int.from_bytes(key, "little") not in image.rings])
        else:
            values.delete_many([key for key in self._image.values if key not in image.values])
            rings.delete_many([word(number) for number in self._image.rings.keys() - image.rings.keys()])
        for number in self._ciphers.keys() - image.ciphers.keys():
            self._programs["set_cipher"].call(CIPHER_ORDER.pack(number=number, remove=1))
            del self._ciphers[number]

    # Clients

    def _write_clients(self, snapshot: Snapshot, image: Image) -> None:
        before = self._snapshot
        if before is None or self._image is None:
            gone, changed = self._unknown(snapshot), list(snapshot.site.clients.values())
        else:
            found = list(difference(before.site.clients, snapshot.site.clients))
            gone, changed = [old.id for _, old, _ in found if old], [new for _, _, new in found if new]
            gone = list(set(gone) - {client.id for client in changed})
            if set(before.site.tiers) != set(snapshot.site.tiers):
                changed = list(snapshot.site.clients.values())
        self._remove_clients(gone, image)
        for some in _batches(changed, BATCH):
            keys = b"".join(client.id.to_bytes(8, "little") for client in some)
            self._maps["clients"].put_many(
                keys, b"".join(client_record(client, snapshot.site, self.state) for client in some)
            )
        self._write_keys(snapshot, image, changed)

    def _unknown(self, snapshot: Snapshot) -> list[int]:
        held = {int.from_bytes(key, "little") for key in set(self._maps["clients"].keys())}
        return list(held - {client.id for client in snapshot.site.clients.values()})

    def _remove_clients(self, ids: Iterable[int], image: Image) -> None:
        masters = image.masters.keys() | (self._image.masters.keys() if self._image else set())
        for number in ids:
            self._maps["clients"].delete(number.to_bytes(8, "little"))
            for master in masters:
                self._maps["client_keys"].delete(CLIENT_KEY_NAME.pack(client=number, master=master))

    def _write_keys(self, snapshot: Snapshot, image: Image, changed: list[Client]) -> None:
        for number, (master, layout) in image.masters.items():
            known = self._image.masters.get(number) if self._image else None
            wanted = changed if known == (master, layout) else snapshot.site.clients.values()
            extracted = hmac.digest(bytes(32), master, "sha256")
            for some in _batches(wanted, BATCH):
                names = b"".join(CLIENT_KEY_NAME.pack(client=client.id, master=number) for client in some)
                keys = b"".join(_client_key(extracted, layout, client) for client in some)
                self._maps["client_keys"].put_many(names, keys)

    def _names(self) -> dict[int, dict[int, str]]:
        found: dict[int, dict[int, str]] = {}
        for key, values in self._maps["names"].items():
            name = NAME_KEY.unpack(key)
            found.setdefault(name["kind"], {})[name["number"]] = values[0].rstrip(b"\0").decode()
        return found


def _client_key(extracted: bytes, layout: Layout, client: Client) -> bytes:
    """codec.proof.client_key for one of many: HKDF's first half, the same for all, is done (RFC 5869 section 2.2)."""
    who = client.id.to_bytes(8, "big") + client.key_generation.to_bytes(4, "big")
    info = b"dnsvip v1 client" + layout.prefix.network_address.packed + who
    return hmac.digest(extracted, info + b"\1", "sha256")[:16]


def _batches(items: Iterable[Client], size: int) -> Iterator[list[Client]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
