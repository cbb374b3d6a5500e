"""How often a server looks at its program in the kernel."""

from __future__ import annotations

from dnsvip.dns.io.xdp.pace import BUSY_SECONDS, REST_AFTER, REST_SECONDS, SECONDS, Pace


def test_rests_where_nothing_is_to_do() -> None:
    """Only after some time, and not any more from the first question on that goes up."""
    pace = Pace()
    for _ in range(REST_AFTER):
        assert pace.seconds(busy=False) == SECONDS
        pace.look(active=False)
    assert pace.seconds(busy=False) == REST_SECONDS
    assert pace.seconds(busy=True) == BUSY_SECONDS
    pace.look(active=True)
    assert pace.seconds(busy=False) == SECONDS
