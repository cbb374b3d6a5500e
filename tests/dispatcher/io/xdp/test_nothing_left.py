"""After random sites, one after the other, the kernel's maps hold what a new process that got the last one alone has
written, and nothing else; 300 sites with DNSVIP_LONG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.errors import PlatformError
from dnsvip.site import Snapshot
from dnsvip.xdp.maps import Map
from tests.dispatcher.io.xdp.kernel import Kernel, loaded
from tests.dispatcher.io.xdp.worlds import World
from tests.long import long_or

SITES, RESTARTS = long_or(24, long=300), 8
"""Sites that are applied, and how many of them to each that a new process takes over."""
TABLES = "values", "masks"
"""Maps whose keys begin with the number of a table: any will do."""
MAPS = "clients", "client_keys", "client_masks", "networks", "prefixes6", "prefixes4", "translated", "rings"


def held(program: Kernel) -> dict[str, object]:
    """What the maps hold, whatever the numbers of tables."""
    found: dict[str, object] = {}
    for name in MAPS:
        table = program.maps[name]
        found[name] = set(table.keys()) if name == "rings" else {key: values[0] for key, values in table.items()}
    unpack = TYPES.struct("value_key").unpack
    for name in TABLES:
        tables = defaultdict(set)
        for key, values in program.maps[name].items():
            place = unpack(key)
            tables[place["table"]].add((place["value"], values[0]))
        found[name] = sorted(map(sorted, tables.values()))
    return found


def restart(program: Kernel) -> None:
    """As a new process does that takes the maps over."""
    program.writer = MapWriter(program.maps, program.programs)


def begin_anew(program: Kernel, like: Kernel) -> None:
    """As the first process of a program, but that names have the numbers that they have in another one."""
    for name in (*MAPS, *TABLES, "names"):
        program.maps[name].delete_many(list(set(program.maps[name].keys())))
    program.maps["names"].put_all((key, values[0]) for key, values in like.maps["names"].items())
    restart(program)


def follow(random: Random, world: World) -> tuple[World, Snapshot]:
    """Another site: mostly the same one changed, without some of its objects, or quite another."""
    if random.random() < 0.3:
        world = World(random.randrange(40))
    world.change()
    snapshot = world.snapshot()
    if random.random() < 0.5:
        some = {name: one for name, one in snapshot.site.clusters.items() if random.random() < 0.5}
        return world, replace(snapshot, site=replace(snapshot.site, clusters=some))
    return world, snapshot


class Killed(BaseException):
    """The end of a process amid a change."""


@contextmanager
def ending_after(patch: pytest.MonkeyPatch, writes: int, error: type[BaseException]) -> Iterator[None]:
    """Has a write into maps raise, after so many."""
    left = count(writes, -1)

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any) -> Any:
            if next(left) <= 0:
                raise error("ended")
            return write(*arguments)

        return instead

    with patch.context() as context:
        for name in ("put", "put_many", "put_map", "delete"):
            context.setattr(Map, name, counted(getattr(Map, name)))
        with suppress(error):
            yield


def check_nothing_left(program: Kernel, other: Kernel, snapshot: Snapshot, at: int) -> None:
    """The program's maps hold what those of a process do that has had this site alone."""
    begin_anew(other, program)
    other.writer.apply(DispatchTables(snapshot))
    assert held(program) == held(other), at


@pytest.mark.timeout(long_or(300, long=7200))
def test_nothing_is_left_of_earlier_sites(kernel: None) -> None:
    """Objects that come, change and go, and processes that take over, leave nothing behind."""
    random = Random(11)
    world = World(0)
    with loaded(4096) as program, loaded(4096) as other:
        for at in range(SITES):
            if at % RESTARTS == RESTARTS - 1:
                restart(program)
            world, snapshot = follow(random, world)
            program.writer.apply(DispatchTables(snapshot))
            check_nothing_left(program, other, snapshot, at)


@pytest.mark.parametrize("error", [PlatformError, Killed])
@pytest.mark.timeout(long_or(300, long=7200))
def test_nothing_is_left_of_changes_that_end_amid(
    kernel: None, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """A change that the kernel refuses amid, or whose process is killed, leaves nothing behind after the next one."""
    random = Random(12)
    world = World(0)
    with loaded(4096) as program, loaded(4096) as other:
        for at in range(SITES):
            for _ in range(2):
                world, snapshot = follow(random, world)
                with ending_after(monkeypatch, random.randrange(150), error):
                    program.writer.apply(DispatchTables(snapshot))
            if error is Killed:
                restart(program)
            world, snapshot = follow(random, world)
            program.writer.apply(DispatchTables(snapshot))
            check_nothing_left(program, other, snapshot, at)
