"""The straight ways of the program beside its long way, which every packet goes while packets are watched."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.xdp.structs import u32
from tests.bench.program import forget_decoded
from tests.dispatcher.build import NOW
from tests.dispatcher.io.xdp.kernel import Kernel, frame_of

START = int(NOW) * SECOND
TAG = b"\x81\x00\x00\x07"


def both_ways(program: Kernel, packets: Sequence[bytes], step: int = 0, *, crowded: bool = False) -> list[object]:
    """What becomes of packets and of all counters the one way and the other: two of the same where they are equal.
    Nothing is known before; a packet comes `step` nanoseconds after the one before it."""
    found: list[object] = []
    for watched in (0, 1):
        program.forget()
        forget_decoded(program)
        if crowded:
            program.crowd()
        program.writer.settings(watched=watched)
        before = totals(program)
        out = [program.run(frame_of(packet), START + n * step) for n, packet in enumerate(packets)]
        found.append((out, gone(before, totals(program))))
    program.writer.settings(watched=0)
    return found


def totals(program: Kernel) -> tuple[object, ...]:
    """All that packets are counted in."""
    writer = program.writer
    counters = writer.counters
    sides = {side: count for side, count in counters.auxiliary().items() if side != "event-lost"}
    usage = {n: used._asdict() for n, used in writer.usage().items()}
    return counters.by_action(), usage, counters.sent(), counters.policed(), sides


def gone(before: object, after: object) -> object:
    """What numbers of the same shape have grown by."""
    if isinstance(after, dict):
        known = before if isinstance(before, dict) else {}
        return {name: gone(known.get(name), value) for name, value in after.items()}
    if isinstance(after, tuple):
        return tuple(gone(a, b) for a, b in zip(before or (0,) * len(after), after, strict=True))  # type: ignore[arg-type]
    return after - (before or 0) if isinstance(after, int) and isinstance(before, int | None) else after


def last_port(program: Kernel, packet: bytes) -> int:
    """The port of the packet that the program has parsed last, after this one."""
    program.run(frame_of(packet), START)
    work = program.maps["works"].get_each(u32(0))[min(os.sched_getaffinity(0))]
    key = TYPES.struct("work").members["packet"].offset + TYPES.struct("packet").members["key"].offset
    at = key + TYPES.struct("flow_key").members["source_port"].offset
    return int.from_bytes(work[at : at + 2], "big")


def upper(program: Kernel) -> int:
    """Where the upper layer of the packet began that was parsed last."""
    work = program.maps["works"].get_each(u32(0))[min(os.sched_getaffinity(0))]
    at = TYPES.struct("work").members["packet"].offset + TYPES.struct("packet").members["upper"].offset
    return int.from_bytes(work[at : at + 4], "little")
