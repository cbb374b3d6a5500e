"""The chain of NSEC over the names that a zone has (RFC 4034 section 4): one signature proves all of a gap empty.

It costs a flood of names that do not exist next to nothing, and tells who asks for it every name of the zone. Compact
denial (`denial`) is the other way about.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels


def place_of(name: Labels) -> bytes:
    """Bytes that compare as names (lower case) do in canonical order (RFC 4034 section 6.1): labels from the root down,
    with a zero octet between."""
    joined = b"\0".join(name[::-1])
    if b"\1" not in joined and joined.count(b"\0") < max(len(name), 1):
        return joined
    return b"\0".join([label.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1") for label in reversed(name)])


def name_at(place: bytes) -> Labels:
    """The name of a place."""
    labels = place.split(b"\0")[::-1] if place else []
    if b"\1" in place:
        labels = [label.replace(b"\1\1", b"\0").replace(b"\1\2", b"\1") for label in labels]
    return tuple(labels)


def under(places: Sequence[bytes], top: Labels) -> slice:
    """Where in ordered places `top` and the names below it are."""
    if not top:
        return slice(0, len(places))
    head = place_of(top)
    start = bisect_left(places, head)
    return slice(start, bisect_left(places, head + b"\1", start))


def without_below(places: Sequence[bytes], tops: Iterable[bytes]) -> list[bytes]:
    """Ordered places without those below some, which are in order as well."""
    kept: list[bytes] = []
    at = 0
    for top in tops:
        start = bisect_left(places, top + b"\0", at)
        kept += places[at:start]
        at = bisect_left(places, top + b"\1", start)
    return [*kept, *places[at:]]


def own_names(apex: Labels, nodes: Mapping[Labels, Collection[int]]) -> list[bytes]:
    """The places of a zone's names with records, in order, without those that a delegation or DNAME hides. `nodes` are
    the types at each name."""
    hiding, owners = b"", []
    for place, types, name in sorted((place_of(name), types, name) for name, types in nodes.items() if types):
        if hiding and place.startswith(hiding):
            continue
        owners.append(place)
        hiding = place + b"\0" if Type.DNAME in types or (Type.NS in types and name != apex) else hiding
    return owners


class Chain:
    """The names at some places, of the zone at `apex`, which is one of them. Below those of `unknown`, names may exist
    that are not listed; nothing there is proven."""

    __slots__ = ("_apex", "_holes", "_places", "_wild")

    def __init__(self, apex: Labels, places: Iterable[bytes], unknown: Iterable[Labels]) -> None:
        bases = [*unknown]
        self._apex = apex
        self._places = sorted({*places, *map(place_of, bases)})
        self._wild: dict[Labels, int | None] = {}
        numbers = range(len(self._places))
        self._holes = frozenset(at for base in bases for at in numbers[under(self._places, base)])

    def __len__(self) -> int:
        return len(self._places)

    def gap(self, name: Labels) -> int | None:
        """The number of the gap that a name which does not exist is in; None where the chain proves nothing of it."""
        at = bisect_right(self._places, place_of(name)) - 1
        return None if at in self._holes else at

    def wild(self, encloser: Labels) -> int | None:
        """As `gap`, of the wildcard right below a name that exists."""
        if encloser not in self._wild:
            self._wild[encloser] = self.gap((b"*", *encloser))
        return self._wild[encloser]

    def at(self, name: Labels) -> int | None:
        """The number of the gap behind a name of the chain; None for any other, and where nothing of it is proven."""
        place = place_of(name)
        at = bisect_left(self._places, place)
        return at if at < len(self._places) and self._places[at] == place and at not in self._holes else None

    def ends(self, gap: int) -> tuple[Labels, Labels]:
        """The names before and behind a gap; behind the last is the apex."""
        following = name_at(self._places[gap + 1]) if gap + 1 < len(self._places) else self._apex
        return name_at(self._places[gap]), following
