"""A change of one client: the work that it makes, and how fast it comes through beside a loop at full load."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.node.runtime_tuning import shorten_gil_interval
from dnsvip.site import Client, Match, Site, Snapshot, Step
from dnsvip.site.cow_map import CowMap
from tests.samples import make_site, snapshot_of

SITE = make_site({"client": {"acme": None, "newsreader": None}, "tsig": {"acme-key": None}})


def client(number: int) -> Client:
    network = f"2a01:{number >> 8:x}:{(number & 255) << 8:x}::/56"
    return Client(f"client-{number}", number + 1, "gold", (Match(Step.SOURCE, network), Match(Step.ECS, network)))


def of_many(number: int) -> Snapshot:
    clients = CowMap((one.name, one) for one in map(client, range(number)))
    return snapshot_of(replace(SITE, clients=clients))


def with_client(snapshot: Snapshot, one: Client) -> Snapshot:
    clients = snapshot.site.clients
    assert isinstance(clients, CowMap)
    site: Site = replace(snapshot.site, clients=clients.changed([], [(one.name, one)]))
    return replace(snapshot, generation=snapshot.generation + 1, site=site)


def instructions(call: Callable[[], object]) -> int:
    """How many instructions of Python a call runs, whatever the clock says."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


CHANGES: dict[str, Callable[[Client], Client]] = {
    "tier": lambda one: replace(one, tier="standard"),
    "prefix": lambda one: replace(one, match=(Match(Step.SOURCE, "2a02:db8::/32"),)),
    "new": lambda one: Client("another", 1 << 20, "gold", (Match(Step.ECS, "2a03:db8::/32"),)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_work_of_a_change_is_that_of_what_changed(change: Callable[[Client], Client]) -> None:
    """A client among 40,000 changes with as many instructions as one among 4,000."""
    counts = []
    for number in (4_000, 40_000):
        snapshot = of_many(number)
        fast = FastPath(Engine(snapshot))
        later = with_client(snapshot, change(client(1234)))
        counts.append(instructions(lambda: FastPath(Engine(later, fast.engine), fast)))  # noqa: B023
    assert 1000 < counts[1] < counts[0] * 1.1, counts


async def test_a_thread_beside_a_busy_loop_gets_its_turns() -> None:
    """What a thread compiles for some milliseconds is ready soon, though the loop never rests."""
    before = sys.getswitchinterval()
    shorten_gil_interval()
    ended = False

    def compile_something() -> None:
        start = time.thread_time()
        while time.thread_time() - start < 0.004:
            os.stat("/")  # lets go of the interpreter and has to get it back, as reading a database does

    async def answer_all_the_time() -> None:
        while not ended:
            start = time.perf_counter()
            while time.perf_counter() - start < 80e-6:
                pass
            await asyncio.sleep(0)

    loop = asyncio.ensure_future(answer_all_the_time())
    try:
        start = time.perf_counter()
        for _ in range(10):
            await asyncio.to_thread(compile_something)
        assert time.perf_counter() - start < 10 * 0.5
    finally:
        ended = True
        await loop
        sys.setswitchinterval(before)
