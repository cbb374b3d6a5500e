"""How a node detects a database that was restored or replaced."""

from __future__ import annotations

import pytest

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.site.epochs import Reserved
from dnsvip.site.history import Course, Mark, Memory, course, follow

SEEN = Mark("db", 100, 5.5)
OLD = Epoch(0, EpochState.RETIRING, b"o" * 32, retiring_since=900, keep_seconds=200)
USED = Epoch(1, EpochState.ACTIVE, b"u" * 32, keep_seconds=600)
WAITING = Epoch(2, EpochState.PUBLISHED, b"w" * 32)


@pytest.mark.parametrize(
    ("identity", "generation", "stamp", "expected"),
    [
        ("db", 100, 5.5, Course.ONWARD),
        ("db", 250, 5.5, Course.ONWARD),
        ("db", 250, None, Course.UNKNOWN),
        ("db", 99, None, Course.BACK),
        ("db", 250, 5.6, Course.BACK),
        ("other", 250, 5.5, Course.BACK),
    ],
)
def test_course(identity: str, generation: int, stamp: float | None, expected: Course) -> None:
    """History continues if the database is the same, no younger, and contains the last change seen."""
    assert course(SEEN, identity, generation, stamp) is expected


def test_course_of_an_empty_one() -> None:
    """An unseen or empty history contradicts no database."""
    assert course(None, "db", 7, None) is Course.ONWARD
    assert course(Mark("db", 0, 0.0), "db", 7, None) is Course.ONWARD


def test_going_on_loses_nothing() -> None:
    """While history continues, keys come and go without being reported as lost."""
    memory = follow(Memory(), SEEN, {"web": [OLD, USED]}, 1000.0, back=False)
    memory = follow(memory, Mark("db", 101, 6.0), {"web": [USED]}, 1000.0, back=False)
    assert (memory.lost, memory.back) == ((), "")


def test_keys_that_a_database_lost_are_kept_track_of() -> None:
    """After a restore, missing keys are tracked as long as their addresses may live."""
    memory = follow(Memory(), SEEN, {"web": [OLD, USED, WAITING]}, 1000.0, back=False)
    before = Epoch(2, EpochState.ACTIVE, b"b" * 32, keep_seconds=600)
    memory = follow(memory, Mark("db", 60, 3.0), {"web": [before]}, 1050.5, back=True)
    assert memory.lost == (
        Reserved("web", 0, OLD.key_id, 1100),
        Reserved("web", 1, USED.key_id, 1651),
        Reserved("web", 2, WAITING.key_id, 1651),
    )
    assert memory.back == (
        "the database became an older state of itself: from generation 100 to 60; "
        "keys that addresses were given out with are gone: 3"
    )
    assert (memory.mark, memory.back_at) == (Mark("db", 60, 3.0), 1050.5)


def test_keys_that_are_still_there_are_not_lost() -> None:
    """A key that the restored state has in the same slot, or whose addresses have expired, is not lost."""
    memory = follow(Memory(), SEEN, {"web": [OLD, USED]}, 1000.0, back=False)
    memory = follow(memory, Mark("new", 60, 3.0), {"web": [USED]}, 1200.0, back=True)
    assert memory.lost == ()
    assert memory.back == "the database became another one: from generation 100 to 60"
