"""What a node remembers of its database, so that it notices when the database goes back to an older state.

A restored backup, or a standby that lagged, counts the same generations again with other changes, and
fills the same key slots with other keys. Pure: it compares values; `now` is unix seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.site.epochs import Reserved, retires_at


class Course(StrEnum):
    """A database against its last mark: it moved forward, cannot be compared, or is another one or an older state."""

    ONWARD = "onward"
    UNKNOWN = "unknown"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in the history of a database: `stamp` is the unix second (to the microsecond or so) of the change that
    made `generation`, which no other history has at that generation."""

    identity: str
    generation: int
    stamp: float


@dataclass(frozen=True, slots=True)
class Known:
    """A key that a node held: its cluster, slot and id, and until when its addresses may live. In use, `until`
    is 0: its addresses may live `keep` seconds from the moment the key is lost."""

    cluster: str
    slot: int
    key_id: str
    keep: int
    until: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What a node keeps on its disk: the last mark, the keys it held then, those that the database has lost and must
    reserve the slots of, and when and how the database last went back."""

    mark: Mark | None = None
    keys: tuple[Known, ...] = ()
    lost: tuple[Reserved, ...] = ()
    back_at: float = 0.0
    back: str = ""


def course(mark: Mark | None, identity: str, generation: int, stamp: float | None) -> Course:
    """The course of a database at `generation` since a mark; `stamp` is its stamp of the mark's generation."""
    if mark is None:
        return Course.ONWARD
    if identity != mark.identity or generation < mark.generation:
        return Course.BACK
    if mark.generation == 0 or stamp == mark.stamp:
        return Course.ONWARD
    return Course.UNKNOWN if stamp is None else Course.BACK


def follow(memory: Memory, mark: Mark, keys: Mapping[str, Sequence[Epoch]], now: float, *, back: bool) -> Memory:
    """The memory after a state of the database with these keys, by cluster, was loaded."""
    held = tuple(known for name, epochs in sorted(keys.items()) for known in _known(name, epochs))
    if not back or memory.mark is None:
        return Memory(mark, held, memory.lost, memory.back_at, memory.back)
    lost = tuple(dict.fromkeys((*memory.lost, *_missing(memory.keys, held, now))))
    return Memory(mark, held, lost, now, _in_words(memory.mark, mark, len(lost)))


def _known(cluster: str, epochs: Sequence[Epoch]) -> Iterator[Known]:
    keep = max((epoch.keep_seconds for epoch in epochs), default=0)  # a published one does not know its own yet
    for epoch in epochs:
        until = retires_at(epoch) if epoch.state is EpochState.RETIRING else 0
        yield Known(cluster, epoch.slot, epoch.key_id, keep, until)


def _missing(before: Iterable[Known], held: Iterable[Known], now: float) -> Iterator[Reserved]:
    present = {(key.cluster, key.slot, key.key_id) for key in held}
    for key in before:
        until = key.until or math.ceil(now) + key.keep
        if now < until and (key.cluster, key.slot, key.key_id) not in present:
            yield Reserved(key.cluster, key.slot, key.key_id, until)


def _in_words(before: Mark, after: Mark, lost: int) -> str:
    what = "an older state of itself" if before.identity == after.identity else "another one"
    keys = f"; keys that addresses were given out with are gone: {lost}" if lost else ""
    return f"the database became {what}: from generation {before.generation} to {after.generation}{keys}"
