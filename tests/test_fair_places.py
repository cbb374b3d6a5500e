"""Who may wait beside others."""

from __future__ import annotations

from collections import Counter

import pytest

from dnsvip.fair_places import may_wait


@pytest.mark.parametrize(
    ("waiting", "owner", "lets"),
    [
        ({}, "a", True),
        ({"a": 7}, "a", True),
        ({"a": 8}, "a", False),
        ({"a": 4, "b": 4}, "c", True),
        ({"a": 4, "b": 4, "c": 1}, "c", True),
        ({"a": 4, "b": 4, "c": 2}, "c", False),
        ({"a": 4, "b": 4, "c": 2}, "a", False),
        ({str(number): 1 for number in range(20)}, "a", True),
        ({str(number): 1 for number in range(20)}, "7", False),
    ],
)
def test_others_keep_nobody_out(waiting: dict[str, int], owner: str, lets: bool) -> None:
    """Of eight places all may be taken by others: who has less than its part of them waits beside them."""
    assert may_wait(Counter(waiting), owner, 8) is lets


def test_owners_that_push_are_bounded() -> None:
    """Sixteen owners that push without end have each its part; together at most what all owners came with."""
    waiting = Counter[str]()
    for _ in range(100):
        for number in range(16):
            if may_wait(waiting, str(number), 64):
                waiting[str(number)] += 1
    assert waiting.total() == 64
    assert may_wait(waiting, "newcomer", 64)
    assert set(waiting.values()) == {4}
