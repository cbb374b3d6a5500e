"""The chain of NSEC: canonical order, gaps, and names that nothing is proven of."""

from __future__ import annotations

from random import Random

import dns.name

from dnsvip.dns.dnssec.chain import Chain, name_at, own_names, place_of, under, without_below
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.zone import compile_zone
from dnsvip.site import Dnssec, DnssecDenial, Zone

APEX = (b"example", b"test")
OCTETS = (b"\0", b"\1", b"\2", b"-", b"a", b"\xff")


def some_names(seed: int, number: int, top: Labels = APEX) -> list[Labels]:
    """Names of few, odd octets, so that many are neighbours."""
    pick = Random(seed)
    labels = (b"".join(pick.choices(OCTETS, k=pick.choice((1, 1, 2)))) for _ in range(number * 3))
    return [(*(next(labels) for _ in range(pick.choice((1, 2, 3)))), *top) for _ in range(number)]


def test_places_compare_as_names_do() -> None:
    """Whatever octets they have, in the order that dnspython knows; and they can be read back."""
    names = [*some_names(1, 1500), *some_names(2, 500, ()), APEX, ()]
    places = [place_of(name) for name in names]
    assert [name_at(place) for place in places] == names
    by_place = sorted(set(names), key=place_of)
    assert by_place == [name.labels[:-1] for name in sorted(dns.name.Name((*name, b"")) for name in set(names))]


def test_names_under_another() -> None:
    """A range of the places, those of the name itself and all below."""
    names = some_names(3, 1500)
    places = sorted({place_of(name) for name in (*names, APEX)})
    for top in (*names[:200], APEX, (), (b"nothing", *APEX)):
        found = [name_at(place) for place in places[under(places, top)]]
        below = {name for name in (*names, APEX) if name[len(name) - len(top) :] == top and len(name) >= len(top)}
        assert (set(found), len(found)) == (below, len(below))
    tops = sorted(place_of(name) for name in names[:20])
    hidden = [name_at(place) for place in tops]
    kept = without_below(places, tops)
    expected = [
        place
        for place in places
        if not any(len(n := name_at(place)) > len(top) and n[-len(top) :] == top for top in hidden)
    ]
    assert kept == expected


def test_every_gap() -> None:
    """A name that is not in the chain is in the gap whose ends it lies between; nothing is said below some names."""
    names = sorted({APEX, *some_names(4, 300)}, key=place_of)
    unknown = names[100]
    chain = Chain(APEX, map(place_of, names), [unknown])
    known = set(names)
    for name in some_names(5, 2000):
        hidden = [top for top in names if place_of(top) < place_of(name)][-1]
        gap = chain.gap(name)
        if name in known:
            assert chain.at(name) == gap
        elif hidden[-len(unknown) :] == unknown:
            assert gap is None
        else:
            assert gap is not None
            before, behind = chain.ends(gap)
            assert before == hidden
            assert behind == APEX or place_of(behind) > place_of(name)
            assert chain.at(name) is None
    assert chain.ends(len(chain) - 1)[1] == APEX


def test_a_zones_own_names() -> None:
    """Those with records, but nothing below a delegation or DNAME; compiled with the zone where it is to deny so."""
    text = "\n".join(
        [
            "@ 60 SOA ns h 1 1 1 1 1",
            "@ 60 NS ns",
            "ns 60 A 192.0.2.1",
            "a.empty 60 A 192.0.2.1",
            "cut 60 NS ns.cut",
            "ns.cut 60 A 192.0.2.1",
            "cut-not 60 A 192.0.2.1",
            "moved 60 DNAME a",
        ]
    )
    compiled = compile_zone(Zone("example.test", text))
    assert compiled.own_names is None
    found = own_names(APEX, compiled.nodes)
    labels = [b".".join(name_at(place)[:-2]) for place in found]
    assert labels == [b"", b"cut", b"cut-not", b"a.empty", b"moved", b"ns"]
    assert Type.NS in compiled.nodes[b"cut", *APEX]
    chained = Zone("example.test", text, dnssec=Dnssec(True, denial=DnssecDenial.NSEC))
    assert compile_zone(chained).own_names == found
