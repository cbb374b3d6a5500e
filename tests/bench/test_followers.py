"""The bench of followers, with few: a change is at each of them within half a second, by two connections each."""

from __future__ import annotations

import pytest

from tests.bench.bench_followers import measure
from tests.bench.followers import recorded
from tests.postgres import running


@pytest.mark.slow
async def test_a_change_is_at_fifty_followers_within_half_a_second() -> None:
    """99 of 100 readings are that fast, in one of three tries: the machine may be busy with other things."""
    effects = []
    for _ in range(3):
        with running() as server:
            measured = await measure(server, 50, 6, pause=0.2, idle_seconds=1)
        assert 2 * 50 < measured.connections < 2 * 50 + 15
        assert 0 < measured.idle_cpu < 1
        effects.append(measured.figures["followers effect"])
        if effects[-1] <= 500:
            return
    raise AssertionError(effects)


def test_recorded_statements() -> None:
    """Statements are prepared as they are; parameters that change become places, others are quoted."""
    statements = [("SET x", ()), ("SELECT $1, $2", (7, "it's {")), ("SELECT 1", ())]
    prepare, execute = recorded("r", statements, {7: "after"})
    assert prepare == "PREPARE r1 AS SELECT $1, $2; PREPARE r2 AS SELECT 1"
    assert execute.format(after=8) == "SET x; EXECUTE r1('8', 'it''s {'); EXECUTE r2"
