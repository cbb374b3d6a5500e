"""What the addresses of each client are made of, in the records of the DNS program (programs/dns_maps.h): one for each
client and *maker*, which is what makes the addresses of a cluster, with the attributes that services ask for.

Records are numbered as clients are in `Claims`, behind those of whom a step without prefixes identifies. Nothing is
read while they are written: the caller says so to the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from struct import Struct

from dnsvip.dns.hotpath.marks import Hole
from dnsvip.dns.identity.identify import Apart, Classified, Requester
from dnsvip.dns.io.xdp import image
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.synthesis.issuer import Issuer, Kind, Vip
from dnsvip.dns.synthesis.synthesizer import LENGTH, SynthesisTables
from dnsvip.site import Client, Step
from dnsvip.site.identity.claims import IDLE, PAGE
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32

STEPS = Step.ECS, Step.SOURCE
"""Those that look at prefixes, in the order of `enum run_step`."""

AT_ONCE = 256
"""Records that are written, or pages of clients that are looked at, between two moments at which others may run."""

CellOf = Callable[[Step | None, Kind, str | None], int | None]
"""The number of an address by how it is counted (`Cells.of_address`)."""

_RECORD = Struct("=QQQBBB?4x")
_LONG = (1 << 64) - 1
_SOMEBODY = Requester(IPv6Address("2001:db8::1"))
"""A requester whose prefix shows in what depends on it."""


def records_for(prefixes: int) -> int:
    """Arrays of records for so many prefixes, each of a client of its own, of one maker."""
    return -(-(prefixes + 4096) // image.bounds()["RECORDS_EACH"]) if prefixes else 1


@dataclass(slots=True)
class _Region:
    """The records of one maker: where they begin, for how many there is room, and what they were made of."""

    first: int
    room: int
    basis: object = None
    pages: list[Sequence[Client | None] | None] = field(default_factory=list)


class Records:
    """The records of one loaded program."""

    def __init__(self, records: Map, sets: Map, cell_of: CellOf) -> None:
        self.array, self._sets, self._cell_of = image.split(records, "record", "RECORDS_EACH"), sets, cell_of
        self._most = self.array.max_entries
        self._regions: dict[int, _Region] = {}
        self._next = 0
        self._is_untidy = False
        self.is_lacking = False
        """Whether a maker has no room."""

    def forget(self) -> None:
        """Give all room back, for makers that are no more."""
        self._regions, self._next = {}, 0
        self._is_untidy = self.is_lacking = False

    def tidy(self) -> None:
        """Give back room that is not used, where a maker has none."""
        if self.is_lacking and self._is_untidy:
            self.forget()

    def follow(
        self,
        number: int,
        hole: Hole,
        tables: SynthesisTables,
        special: Sequence[Apart],
        generation: int,
        has_maker: Callable[[Issuer], bool],
    ) -> Iterator[None]:
        """Have the records of a maker, which fills this hole, in steps of about a millisecond; those in `special` are
        in front of the clients'. It may be left after any step and begun anew."""
        claims = tables.classifier.claims
        region = self._region(number, len(special) + claims.used)
        if region is None:
            return
        makes = _Makes(hole, tables, self._cell_of, has_maker)
        if region.basis != makes.basis:
            region.basis, region.pages = makes.basis, []
        first = [
            makes.of_somebody(Classified(claims.client(owner) if owner else None, step, 0, None, tier), (step, step))
            for _, owner, step, tier, _ in special
        ]
        self._put(region.first, first)
        behind, pages = region.first + len(special), claims.pages
        region.pages += [None] * (len(pages) - len(region.pages))
        for at, page in enumerate(pages):
            known = region.pages[at]
            if known is not page:
                numbers: Sequence[int] = range(at * PAGE, min(claims.used, (at + 1) * PAGE))
                if known is not None:
                    numbers = [n for n in numbers if known[n % PAGE] is not page[n % PAGE]]
                yield
                region.pages[at] = None
                for begin in range(0, len(numbers), AT_ONCE):
                    self._write(behind, numbers[begin : begin + AT_ONCE], page, makes)
                    yield
                region.pages[at] = page
            elif at % AT_ONCE == 0:
                yield
        self._publish(number, generation, first=region.first, count=len(special) + claims.used)

    def _region(self, number: int, count: int) -> _Region | None:
        """The room of a maker, None where there is none. One that has become too small is given up."""
        region = self._regions.get(number)
        if region is not None and count <= region.room:
            return region
        self._is_untidy |= region is not None
        room = min(count + count // 8 + PAGE, self._most - self._next)
        if room < count:
            self.is_lacking = True
            return None
        region = self._regions[number] = _Region(self._next, room)
        self._next += room
        return region

    def _write(self, behind: int, numbers: Sequence[int], page: Sequence[Client | None], makes: _Makes) -> None:
        """Write the records of some clients of a page."""
        records = [makes.of(n, page[n % PAGE]) for n in numbers]
        if len(numbers) == numbers[-1] - numbers[0] + 1:
            self._put(behind + numbers[0], records)
            return
        for n, record in zip(numbers, records, strict=True):
            self._put(behind + n, [record])

    def _put(self, first: int, records: Sequence[bytes]) -> None:
        self.array.put(first, b"".join(records))

    def _publish(self, number: int, generation: int, **values: int) -> None:
        """Have the program read a maker's records (`struct record_set`); what has its generation is whole."""
        for marked in (0, generation):
            self._sets.put(u32(number), image.TYPES.struct("record_set").pack(generation=marked, **values))


class _Makes:
    """What one maker makes the addresses of clients of, as records."""

    def __init__(
        self, hole: Hole, tables: SynthesisTables, cell_of: CellOf, has_maker: Callable[[Issuer], bool]
    ) -> None:
        self._hole, self._service, self._tables = hole, hole.service, tables
        self._cell_of, self._has_maker = cell_of, has_maker
        self._is_long = hole.rtype == Type.AAAA
        self._kinds = image.TYPES.words("record_kind", "RECORD_")
        self._cells: dict[tuple[object, ...], tuple[int, int] | None] = {}
        claims = tables.classifier.claims
        used = [step for step in STEPS if claims.any(step)] or STEPS
        self._steps = used[0], used[-1]
        self.basis = *tables.vips.basis(hole.service, hole.rtype), self._steps

    def of(self, number: int, client: Client | None) -> bytes:
        """The record of a client by its number in `Claims`."""
        if client is None:
            return self.of_somebody(Classified(None, None), self._steps) if number == IDLE else _NONE
        if self._is_long:
            made = self._tables.vips.payload(self._service, client)
            cells = self._cells_of(Kind.ENCODED, client.tier, self._steps) if made else None
            if made and cells and self._has_maker(made[0]):
                payload = made[1]
                return _RECORD.pack(
                    payload >> 64, payload & _LONG, client.id, self._kinds["client"], *cells, not payload >> 64
                )
        return self.of_somebody(Classified(client, None), self._steps)

    def of_somebody(self, who: Classified, steps: Sequence[Step | None]) -> bytes:
        """The record of whom these steps identify, by each of them."""
        try:
            return self._made(who, steps)
        except Exception:  # noqa: BLE001 - whatever is wrong with a client, the server says it
            return _NONE

    def _made(self, who: Classified, steps: Sequence[Step | None]) -> bytes:
        vips, service = self._tables.vips, self._service
        made = vips.recipe(service, who, _SOMEBODY) if self._is_long else None
        if made is None:
            vip: Vip | None = (vips.aaaa if self._is_long else vips.a)(service, who, _SOMEBODY, 0)
            cells = vip and self._cells_of(vip.kind, who.tier, steps)
            if vip is None or cells is None:
                return _NONE
            address = vip.address << 128 - 8 * LENGTH[self._hole.rtype]
            return _RECORD.pack(address >> 64, address & _LONG, 0, self._kinds["stays"], *cells, False)
        issuer, recipe = made
        is_by_prefix = who.client is None and any(recipe.hashed)
        cells = self._cells_of(Kind.ENCODED, who.tier, steps)
        if cells is None or not self._has_maker(issuer):
            return _NONE
        payload = recipe.payload
        if is_by_prefix:  # each prefix has a session of its own
            _, bits, shift = issuer.session_of
            payload &= ~(bits << shift)
        kind = self._kinds["by-prefix" if is_by_prefix else "client"]
        client = who.client.id if who.client else 0
        return _RECORD.pack(payload >> 64, payload & _LONG, client, kind, *cells, not payload >> 64)

    def _cells_of(self, kind: Kind, tier: str | None, steps: Sequence[Step | None]) -> tuple[int, int] | None:
        """Where an address is counted, by each of the steps; None where there are no more numbers."""
        key = kind, tier, *steps
        if key not in self._cells:
            first, second = (self._cell_of(step, kind, tier) for step in steps)
            self._cells[key] = None if first is None or second is None else (first, second)
        return self._cells[key]


_NONE = bytes(_RECORD.size)
