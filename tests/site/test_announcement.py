"""How a prefix is announced, by what speaks against it and for how long."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dnsvip.site.announcement import Announcement, Standing, advance
from dnsvip.site.readiness import Code

UP, LEAVING, DOWN = Standing.PREFERRED, Standing.LEAVING, Standing.WITHDRAWN
DRAINED, FAILED = (Code.DRAINED,), (Code.SERVERS,)

Step = tuple[float, Sequence[Code], Standing]

COURSES: dict[str, list[Step]] = {
    "ready at once, as it was never withdrawn": [(0, (), UP), (9, (), UP)],
    "withdrawn at once, back after the hold": [(0, (), UP), (1, FAILED, DOWN), (5, (), DOWN), (10, (), UP)],
    "held from when it is ready again": [
        (0, (), UP),
        (1, FAILED, DOWN),
        (99, (), DOWN),
        (103, (), DOWN),
        (104, (), UP),
    ],
    "a relapse starts the hold anew": [
        (0, (), UP),
        (1, FAILED, DOWN),
        (3, (), DOWN),
        (4, FAILED, DOWN),
        (6, (), DOWN),
        (10, (), DOWN),
        (11, (), UP),
    ],
    "undrained after it has left": [
        (0, (), UP),
        (1, DRAINED, LEAVING),
        (3, DRAINED, DOWN),
        (9, (), DOWN),
        (14, (), UP),
    ],
    "drained in two steps": [
        (0, (), UP),
        (1, DRAINED, LEAVING),
        (2.9, DRAINED, LEAVING),
        (3, DRAINED, DOWN),
        (9, DRAINED, DOWN),
    ],
    "undrained while it leaves": [(0, (), UP), (1, DRAINED, LEAVING), (2, (), UP)],
    "drained and broken": [(0, (), UP), (1, DRAINED, LEAVING), (1.5, (*DRAINED, *FAILED), DOWN), (2, DRAINED, DOWN)],
    "started while it is drained": [(0, DRAINED, DOWN), (1, DRAINED, DOWN), (2, (), UP)],
    "stopping": [(0, (), UP), (1, (Code.STOPPING,), DOWN)],
    "drained, then stopping": [(0, (), UP), (1, DRAINED, LEAVING), (2, (*DRAINED, Code.STOPPING), DOWN)],
}
"""Second, reasons, and the standing that follows, with a grace of 2 and a hold of 5 seconds."""


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES.keys())
def test_courses(course: list[Step]) -> None:
    """Each step of a course has its standing."""
    now = Announcement()
    for at, codes, standing in course:
        now = advance(now, codes, at, 2.0, 5.0)
        assert now.standing is standing, at
