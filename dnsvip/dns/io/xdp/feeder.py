"""Fills the maps of the DNS program with what the fast path would answer, and reads what it has answered.

The program knows nothing that is not in its maps. A question that it misses twice comes here, is put to the fast path,
and what that says goes into the maps, marked with a generation. A change of names or addresses is a new generation:
from then on the program leaves to the server whatever has an older mark. Blocking, for short; knows no sockets.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from secrets import randbits

from dnsvip.address.suffix import epoch_keys
from dnsvip.dns.counters import Counters
from dnsvip.dns.hotpath.ahead import Addressed, Ahead, Asked
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.hotpath.marks import Hole
from dnsvip.dns.io.xdp import image
from dnsvip.dns.io.xdp.cells import Cells, ZoneNumbers
from dnsvip.dns.io.xdp.eviction import SecondChance
from dnsvip.dns.io.xdp.prefixes import Prefixes
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.protection.rrl import cost_of
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.synthesis.issuer import Issuer, Kind
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.site.node_dns import RateLimit
from dnsvip.xdp.ciphers import Ciphers, SyscallProgram
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import number_of, u32, u64

LEASE_NS = 20_000_000_000
"""For so long the program answers after the process that feeds it was last alive."""
SETTLING_SECONDS = 0.1
"""A run of the program takes microseconds, or as long as a hypervisor gives its processor to others amid it."""
LEAST_UP = 0.001
"""Questions a second that count as none: their cost is beyond what the program lets anybody owe."""

_FIRST = u32(0)


class Feeder:
    """Feeds the maps of one loaded program. `listeners` are the names of the listeners; questions from those in
    `front_ends` speak for others, and are never fed. `fixed_time` leaves AES to the kernel (xdp/ciphers.py)."""

    def __init__(
        self,
        maps: Mapping[str, Map],
        set_cipher: SyscallProgram,
        listeners: Iterable[str],
        fast: FastPath,
        front_ends: FrontEnds,
        *,
        fixed_time: bool = False,
    ) -> None:
        self._maps, self._fast, self._front_ends = maps, fast, front_ends
        self.listeners = tuple(dict.fromkeys(listeners))
        self.cells = Cells(image.bounds()["MAX_CELLS"])
        self._zones = ZoneNumbers(image.bounds()["MAX_ZONES"])
        self._counted: dict[int, int] = {}
        self._counted_zones: dict[int, int] = {}
        self._makers: dict[tuple[int, str | None, frozenset[tuple[str, str | int]]], int] = {}
        self._names = self._addresses = 1
        templates = maps["templates"]
        others = templates.max_entries // 4
        self._named = SecondChance(templates.max_entries - others, self._last_used, templates.delete)
        self._others = SecondChance(others, self._last_used, templates.delete)
        self._most_makers = image.bounds()["MAX_MAKERS"]
        self._made: set[int] = set()
        self._ciphers: dict[bytes, int] = {}
        self._next_cipher = 0
        self._contexts = Ciphers(set_cipher, image.TYPES.struct("cipher_order"), tables=True, fixed_time=fixed_time)
        self._name_key = randbits(64), randbits(64) | 1  # secret: nobody is to find names that share a hash
        self._config = {"until": 0, "now": 0, "clock_offset": 0, "mac": b"", "up_cost": 0}
        self._config["name_key"] = b"".join(map(u64, self._name_key))
        self._config |= _signs(fast) | _secrets(fast) | _limits(None) | _samples(())
        self._fields = image.TYPES.struct("asked").members
        self._in_force, self._in_force_since = 0, 0.0
        self.prefixes = Prefixes(
            maps, self.listeners, self.cells.of_address, self._has_maker, sources=not self._front_ends
        )
        self.prefixes.use(fast, self._addresses, same_names=True)

    def close(self) -> None:
        """Close the descriptors of its own."""
        self.prefixes.close()

    # What holds for all

    def use(self, fast: FastPath) -> None:
        """Answer as this fast path does from now on; `live` has to follow."""
        if fast is self._fast:
            return
        same_names = fast.same_names(self._fast)
        if not same_names:
            self._names += 1
            self._config |= _signs(fast)
            if self._zones.are_scarce:
                self._collect_zones(self._fast.engine.counters)
                self._zones = ZoneNumbers(image.bounds()["MAX_ZONES"])
            if 2 * len(self._makers) >= self._most_makers:  # perhaps for services that are no more
                self._makers = {}
                self.prefixes.forget_makers()
        if self.cells.are_leaving:
            self.collect(self._fast.engine.counters)
        self.cells.keep(fast.engine.tiers)
        self._fast = fast
        self._addresses += 1
        self.prefixes.use(fast, self._addresses, same_names=same_names)
        self._made, self._ciphers = set(), {}
        self._config |= _secrets(fast)

    def limit(self, limit: RateLimit | None) -> None:
        """Limit the rate of answers like this from now on; `live` has to follow."""
        self._config |= _limits(limit)

    def sample(self, one_in: Sequence[int]) -> None:
        """Give each taker of samples, by number, one in so many answers from now on, none where that is 0; `live` has
        to follow."""
        self._config |= _samples(one_in)

    def leave_up(self, rate: float | None) -> None:
        """Leave so many questions a second to the server from now on, None: all; at once."""
        cost = 0 if rate is None else max(int(1e9 / max(rate, LEAST_UP)), 1)
        if cost != self._config["up_cost"]:
            self._configure(up_cost=cost)

    def live(self, now: float, monotonic: int, *, fixed: bool = False) -> None:
        """Answer for as long as that is right, at most LEASE_NS. `now` in unix seconds is `monotonic` in nanoseconds;
        with `fixed` the time stays that, for tests."""
        until, offset = monotonic + LEASE_NS, int(now * 1e9) - monotonic
        self._configure(until=until, clock_offset=offset, now=monotonic if fixed else 0)

    def open(self, mac: bytes, doors: Mapping[tuple[str, int], str]) -> None:
        """Answer frames to this interface address, and packets to these addresses and ports, of listeners."""
        self._configure(mac=mac)
        guarded, known = self._fast.engine.doors, self._maps["doors"]
        wanted = {
            image.door(*where): bytes((self.listeners.index(name), image.guard_of(guarded.get(name))))
            for where, name in doors.items()
        }
        for key in set(known.keys()) - wanted.keys():
            known.delete(key)
        for key, value in wanted.items():
            if known.get(key) != value:
                known.put(key, value)

    def has_settled(self) -> bool:
        """Whether no run of the program can still be under way that began before the last change was in force."""
        return self._in_force == self._addresses and time.monotonic() - self._in_force_since >= SETTLING_SECONDS

    def work(self, end: float) -> bool:
        """Have the program identify requesters by what has changed, until the time is over (`time.monotonic`); whether
        it has become done."""
        if self._in_force != self._addresses:  # the program may still read what was before
            return False
        return self.prefixes.work(end)

    # What the program has missed

    def feed(self, event: bytes, now: float) -> None:
        """Have the program know the question in an event (`struct asked`), asked at `now` (unix seconds)."""
        length, listener, version = (number_of(self._field(event, name)) for name in ("length", "listener", "version"))
        source = self.source(event)
        wire = event[self._fields["wire"].offset :][:length]
        if self._front_ends and ip_address(source) in self._front_ends:
            return
        name = self.listeners[listener]
        ahead = self._fast.ahead(key_of(source, wire), name, WIDTH[version], now)
        if ahead is None or not self._feed_template(ahead, int(now)) or ahead.template is None:
            return
        if ahead.addressed is not None:
            self._feed_addresses(source, listener, ahead.template.holes, ahead.addressed, name)
            self._feed_signatures(ahead.asked, ahead.template.holes, ahead.addressed)

    def source(self, event: bytes) -> bytes:
        """Who has asked, in 4 or 16 bytes."""
        return self._field(event, "source")[-4 if number_of(self._field(event, "version")) == 4 else -16 :]

    def _field(self, event: bytes, name: str) -> bytes:
        member = self._fields[name]
        return event[member.offset : member.offset + member.size]

    def _feed_template(self, ahead: Ahead, now: int) -> bool:
        """Whether the program has the template at `now`."""
        name, templates = image.asked_name(ahead.asked), self._maps["templates"]
        if name is None:
            return False
        owner = image.question_hash(ahead.asked, self._name_key)
        key = u64(owner)
        known = self._fed(key)
        if known is not None and known.generation == self._names and now < known.until:
            return known.is_answer
        value = self._template(ahead, owner)
        mine, other = self._named, self._others
        if value is None or not ahead.exists:
            mine, other = other, mine
        if not mine.place(key, now):
            return False
        other.forget(key)
        templates.put(key, value or image.left_to_the_server(name, owner, self._names))
        return value is not None

    def _fed(self, key: bytes) -> image.Fed | None:
        value = self._maps["templates"].get(key)
        return None if value is None else image.Fed.of(value)

    def _last_used(self, key: bytes) -> int:
        """When a template was, in unix seconds; 0 for one that is not valid any more."""
        fed = self._fed(key)
        return fed.used if fed is not None and fed.generation == self._names else 0

    def _template(self, ahead: Ahead, owner: int) -> bytes | None:
        template = ahead.template
        if template is None:
            return None
        makers = [self._maker(hole) for hole in template.holes]
        cell = self.cells.of_template(template.outcome, template.rcode, holes=bool(makers))
        found = template.owner
        zone = self._zones.of(None if found is None else self._fast.engine.zones.apex_of(found.name))
        if cell is None or zone is None or self._most_makers in makers:
            return None
        return image.template_value(ahead.asked, owner, template, makers, cell, zone, self._names)

    def _maker(self, hole: Hole) -> int:
        """The number of what makes the addresses of a hole: one for all services that have the same; `_most_makers`
        where there are no more."""
        service = hole.service
        if hole.rtype == Type.AAAA:
            key = hole.rtype, service.cluster, frozenset(service.attributes.items())
        else:
            key = hole.rtype, service.cluster4, frozenset()
        if key not in self._makers and len(self._makers) >= self._most_makers - 1:
            return self._most_makers
        number = self._makers.setdefault(key, len(self._makers) + 1)
        self.prefixes.add(number, hole)
        return number

    def _feed_addresses(
        self, source: bytes, listener: int, holes: Sequence[Hole], addressed: Addressed, name: str
    ) -> None:
        who, ecs, vips, recipes, _ = addressed
        if ecs is not None and not ecs.source_prefix:
            return
        if ecs is not None and self.prefixes.is_on:
            self._maps["resolvers"].put(*self.prefixes.resolver(source, listener))
        requesters = self._maps["requesters"]
        if name in self._fast.engine.doors:
            key = image.requester(source, listener, None, 0)
            requesters.put(key, image.leave(key, self._addresses))
        for hole, vip, made in zip(holes, vips, recipes, strict=True):
            number = self._maker(hole)
            if made is not None and not self._has_maker(number, made[0]):
                return
            cell = self.cells.of_address(who.step, vip.kind if made is None else Kind.ENCODED, who.tier)
            if cell is None:
                return
            scope = who.scope if vip.scope is None else vip.scope
            address = vip.address.to_bytes(LENGTH[hole.rtype], "big")
            for seen in {ecs, who.ecs}:  # where it is not looked at, the program may take it for none
                key = image.requester(source, listener, seen, number)
                requesters.put(key, image.ready(key, address, made, scope, cell, self._addresses))

    def _feed_signatures(self, asked: Asked, holes: Sequence[Hole], addressed: Addressed) -> None:
        addresses = [
            vip.address.to_bytes(LENGTH[hole.rtype], "big") for hole, vip in zip(holes, addressed.vips, strict=True)
        ]
        for number, data in enumerate(addressed.signatures):
            key = image.signed_set(image.set_number(asked, self._names, number), addresses)
            self._maps["signatures"].put(key, image.signature(key, data))

    def _has_maker(self, number: int, issuer: Issuer) -> bool:
        """Whether the program makes addresses by this number as the issuer does."""
        if number in self._made:
            return True
        key = epoch_keys(issuer.epoch.secret, issuer.cluster.address_layout).encryption
        cipher = self._ciphers.get(key)
        if cipher is None:
            most = image.bounds()["MAX_CIPHERS"]
            if len(self._ciphers) >= most // 2:  # the others may be in use still
                return False
            cipher = self._ciphers[key] = self._next_cipher
            self._next_cipher = (self._next_cipher + 1) % most
            self._contexts.set(cipher, key)
        self._maps["makers"].put(u32(number), image.maker(issuer, cipher, self._addresses))
        self._made.add(number)
        return True

    def _configure(self, **values: int | bytes) -> None:
        self._config |= values
        config = self._config | {"names": self._names, "addresses": self._addresses}
        self._maps["dns_config"].put(_FIRST, image.TYPES.struct("dns_config").pack(**config))
        if self._in_force != self._addresses:
            self._in_force, self._in_force_since = self._addresses, time.monotonic()

    # Counters

    def collect(self, counters: Counters) -> int:
        """Add the answers since the last call to the counters; how many."""
        total = 0
        for number, key in self.cells.used():
            count = sum(map(number_of, self._maps["cells"].get_each(u32(number))))
            new = count - self._counted.get(number, 0)
            if new:
                self._counted[number] = count
                counters.cell(*key).number += new
                total += new
        self._collect_zones(counters)
        return total

    def _collect_zones(self, counters: Counters) -> None:
        zones = self._zones.zones
        entries = self._maps["dns_zones"].items() if zones else iter(())
        next(entries, None)  # answers from no zone
        for number, (apex, (_, each)) in enumerate(zip(zones, entries, strict=False), 1):
            count = sum(map(number_of, each))
            new = count - self._counted_zones.get(number, 0)
            if new:
                self._counted_zones[number] = count
                counters.zone(apex).number += new

    def refused(self) -> int:
        """Questions that were to go up and were dropped."""
        return sum(map(number_of, self._maps["dns_reasons"].get_each(u32(image.reasons()["busy"]))))

    def reasons(self) -> dict[str, int]:
        """Packets by what became of them."""
        counts = self._maps["dns_reasons"]
        return {word: sum(map(number_of, counts.get_each(u32(number)))) for word, number in image.reasons().items()}


def _signs(fast: FastPath) -> dict[str, int]:
    return {"has_signatures": int(fast.signs)}


def _secrets(fast: FastPath) -> dict[str, int | bytes]:
    """What cookies are made and verified with; all cookies are the server's where there are too many."""
    engine = fast.engine
    secrets = engine.cookies.secrets if engine.cookies else ()
    if len(secrets) > image.bounds()["MAX_SECRETS"]:
        secrets = ()
    return {"secrets": len(secrets), "secret": b"".join(secrets), "requires_cookies": int(engine.require_cookies)}


def _limits(limit: RateLimit | None) -> dict[str, int]:
    if limit is None:
        return {"cost": 0, "burst": 0, "slip": 0}
    cost = cost_of(limit.responses_per_second)
    return {"cost": cost, "burst": cost * limit.responses_per_second, "slip": limit.slip}


def _samples(one_in: Sequence[int]) -> dict[str, int | bytes]:
    return {"is_sampled": int(any(one_in)), "one_in": b"".join(map(u32, one_in))}
