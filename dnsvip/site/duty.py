"""Which of many processes does what one alone should do: send NOTIFY, and fetch zones."""

from __future__ import annotations

from collections.abc import Iterable

from dnsvip.site.epochs import NodeReport

DUTY = "replicates"
"""What a process that can do it says in its report's details."""

OFFERS = "offers"
"""Under which a process reports the encrypted DNS that it publishes."""


def on_duty(reports: Iterable[NodeReport], now: float) -> str | None:
    """The instance that does it at `now` (unix seconds): of those whose reports are good, that which has run longest,
    so that a new one changes nothing; None where there is none."""
    able = [report for report in reports if report.detail.get(DUTY) is True and report.is_live(now)]
    return min(((report.started_at or now, report.instance) for report in able), default=(0.0, None))[1]
