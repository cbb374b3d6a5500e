"""The networks of clients in the kernel's maps: whole, changed, and taken over from an earlier process."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.network_maps import NetworkMaps
from dnsvip.dispatcher.verify.networks import SourceNetworks
from dnsvip.site import ClientState, Site
from dnsvip.site.identity.claims import PREFIX_STEPS
from dnsvip.xdp.maps import ARRAY, HASH, Map
from dnsvip.xdp.structs import number_of, u32
from tests.samples import make_site

USED = {"cluster": {"web": {"identify_source": True}}}
FIRST = {"one": "198.18.0.0/15 2001:db8:7000::/36", "two": "198.18.1.0/24", "three": "source:2001:db8:7001::/48"}

pytestmark = pytest.mark.usefixtures("kernel")


class Maps:
    """Both maps, as one process after the other writes them."""

    def __init__(self, networks: Map, lengths: Map) -> None:
        self.networks, self.lengths = networks, lengths
        self.restart()

    def restart(self) -> None:
        """Begin anew, as a process that takes over what is pinned."""
        self.writer, self.before = NetworkMaps(self.networks, self.lengths), None

    def apply(self, site: Site) -> SourceNetworks:
        """Write the networks of a site, compiled from those before."""
        self.before: SourceNetworks | None = SourceNetworks(site, self.before)
        self.writer.apply(self.before)
        return self.before

    def held(self) -> dict[tuple[int, int, int], int]:
        """Client ids by kind, address in 128 bits and length."""
        kind = TYPES.struct("network_key")
        there = {}
        for data, values in self.networks.items():
            key = kind.unpack(data)
            high, low = struct.unpack("=QQ", key["address"])
            there[key["kind"], high << 64 | low, key["length"]] = number_of(values[0])
        return there

    def looked_for(self, four: bool) -> list[tuple[int, int]]:
        """Kinds and lengths in the order in which the program looks for them."""
        kind = TYPES.struct("network_lengths")
        data = self.lengths.get(u32(0)) or b""
        count = int.from_bytes(data[kind.members["count"].offset :][4 * four : 4 * four + 4], "little")
        start, room = kind.members["order"].offset, kind.members["order"].size // 4
        words = memoryview(data[start : start + 4 * room]).cast("H")
        return [divmod(words[room * four + at], 256) for at in range(count)]


@pytest.fixture
def maps() -> Iterator[Maps]:
    """Empty maps of the program's form."""
    with ExitStack() as stack:
        key, lengths = TYPES.struct("network_key").size, TYPES.struct("network_lengths").size
        yield Maps(
            stack.enter_context(Map.create(HASH, "networks", key, 8, 1 << 16)),
            stack.enter_context(Map.create(ARRAY, "lengths", 4, lengths, 1)),
        )


def site(networks: dict[str, str], more: dict[str, Any] | None = None, disabled: str = "") -> Site:
    """A site that asks for sources, with clients of these networks (`ecs` unless it says `source:`) alone."""
    clients: dict[str, Any] = {"acme": None, "newsreader": None}
    for number, (name, texts) in enumerate(networks.items(), 1):
        steps = [each.partition(":") if each.startswith("source:") else ("ecs", "", each) for each in texts.split()]
        match = [{step: text} for step, _, text in steps]
        clients[name] = {"id": number, "tier": "gold", "match": match}
    made = make_site({"tsig": {"acme-key": None}, "client": clients, **(USED if more is None else more)})
    off = {
        name: replace(client, state=ClientState.DISABLED) for name, client in made.clients.items() if name == disabled
    }
    return replace(made, clients={**made.clients, **off})


def expected(maps: Maps, networks: SourceNetworks) -> None:
    """The map has each network of the reference and no other, and every length is looked for in its order."""
    rows, lengths = {}, set()
    for step, version, address, length, number in networks.rows():
        kind, bits = 2 * PREFIX_STEPS.index(step) + (version == 4), length + (96 if version == 4 else 0)
        rows[kind, address, bits] = number
        lengths.add((kind, bits))
    assert maps.held() == rows
    for four in (False, True):
        looked = maps.looked_for(four)
        first = [2 * PREFIX_STEPS.index(step) + four for step in networks.order]
        assert looked == sorted(looked, key=lambda each: (first.index(each[0]), -each[1]))
        assert {each for each in lengths if each[0] % 2 == four} <= set(looked)


def test_all_are_written(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time every network is, over several system calls too."""
    monkeypatch.setattr("dnsvip.xdp.maps.BATCH", 3)
    many = {f"c{number}": f"198.18.{number}.0/24 2001:db8:{number:x}::/48" for number in range(1, 20)}
    networks = maps.apply(site(many))
    assert len(networks) == 38
    expected(maps, networks)


def test_changes_alone_are_written(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is added, moves to another client, changes its state or goes; a new length is looked for, before
    which nothing is written anew."""
    expected(maps, maps.apply(site(FIRST)))
    monkeypatch.setattr(NetworkMaps, "_write_all", None)
    added = FIRST | {"one": FIRST["one"] + " 203.0.113.7/32"}
    moved = {"one": "198.18.1.0/24", "two": "198.18.0.0/15", "three": FIRST["three"]}
    for networks in (added, FIRST, moved):
        expected(maps, maps.apply(site(networks)))
    assert (1, 128) in maps.looked_for(True)
    expected(maps, maps.apply(site(moved, disabled="two")))
    assert maps.held()[1, int(ip_address("198.18.0.0")), 96 + 15] == 0
    expected(maps, maps.apply(site({"one": "198.18.1.0/24"})))
    assert len(maps.held()) == 1


def test_a_new_process_takes_the_maps_over(maps: Maps) -> None:
    """What only an earlier process knew is removed, its lengths too, and the rest stays."""
    maps.apply(site(FIRST))
    maps.restart()
    networks = maps.apply(site({"two": "198.18.1.0/24 198.18.2.0/25"}))
    expected(maps, networks)
    assert maps.looked_for(True) == [(1, 121), (1, 120)]
    assert maps.looked_for(False) == []


def test_what_nothing_asks_for_is_removed(maps: Maps) -> None:
    """Without the settings the map is empty; with them again it is as before, at a new process and at the same."""
    for again in (False, True):
        expected(maps, maps.apply(site(FIRST)))
        if again:
            maps.restart()
        maps.apply(site(FIRST, more={}))
        assert maps.held() == {}
    expected(maps, maps.apply(site(FIRST)))


def test_a_failure_is_made_up_for(maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a change fails midway the next one writes everything."""
    maps.apply(site(FIRST))
    with monkeypatch.context() as broken:
        broken.setattr(Map, "put_many", _refuse)
        with pytest.raises(OSError, match="no room"):
            maps.apply(site({"one": "203.0.113.0/24"}))
    expected(maps, maps.apply(site({"one": "203.0.113.0/24", "two": "198.18.1.0/24"})))


def _refuse(*_: object) -> None:
    raise OSError("no room")
