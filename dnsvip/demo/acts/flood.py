"""What a flood of forged addresses costs those who are let in."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from dnsvip.demo.netns import stop
from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import PREFIX

CALM, FLOOD, AFTER = 2.0, 4.0, 1.5
"""Seconds before, during and after it."""

PER_SECOND = 4000
WORKERS = 6
FIXED_BITS = 3
"""Of the suffix: mode and epoch slot, which stay those of an address that was issued."""

SLICE = 0.2


def flood(stage: Stage) -> Iterator[Check]:
    """A flood of forged addresses is dropped, and clients are served all through."""
    vip = stage.dig(stage.hosts.gold, NAME)
    before, log = stage.counted("bad-tag"), stage.folder / "flood.log"
    bits = 128 - PREFIX.prefixlen - FIXED_BITS
    argv = (sys.executable, "-m", "dnsvip.demo.flooder", str(vip), str(bits), str(PER_SECOND), str(FLOOD))
    began = time.monotonic()
    with _in_background(stage, f"http://[{vip}]/") as load:
        time.sleep(CALM)
        flooder = stage.start(stage.hosts.plain, *argv, log=log)
        try:
            flooder.wait(FLOOD + 60)
        finally:
            stop(flooder)
        pages = json.loads(load.communicate(timeout=60)[0])
    began = pages[0]["at"] if pages else began  # the probe takes a while to start
    slices = json.loads(log.read_text().splitlines()[-1])
    time.sleep(0.3)  # what is on its way is counted
    dropped, sent = stage.counted("bad-tag") - before, sum(number for _, number in slices)
    first, last = slices[0][0], slices[-1][0]
    calm, under = (_per_second(pages, start, end) for start, end in ((began, first), (first, last)))
    failed = sum("error" in page for page in pages)
    stage.figure(
        "flood",
        {
            "per_second": PER_SECOND,
            "sent": sent,
            "dropped": dropped,
            "failed": failed,
            "calm_per_second": round(calm, 1),
            "flooded_per_second": round(under, 1),
            "from": round(first - began, 3),
            "to": round(last - began + 0.1, 3),
            "slices": _slices(pages, slices, began),
        },
    )
    yield Check(
        "a flood of forged addresses is dropped, clients are served",
        failed == 0 and dropped > 0 and under > 0,
        f"{sent} forged packets, {dropped} dropped; {calm:.0f} pages/s before, {under:.0f} during, {failed} failed",
    )


def _in_background(stage: Stage, url: str) -> subprocess.Popen[str]:
    seconds = CALM + FLOOD + AFTER
    argv = (sys.executable, "-m", "dnsvip.demo.probe", str(seconds), "1000000", str(WORKERS), url)
    return subprocess.Popen(stage.hosts.gold.command(*argv), stdout=subprocess.PIPE, text=True)


def _per_second(pages: list[dict[str, Any]], start: float, end: float) -> float:
    good = [page for page in pages if "error" not in page and start <= page["at"] < end]
    return len(good) / max(end - start, 0.1)


def _slices(pages: list[dict[str, Any]], slices: list[tuple[float, int]], began: float) -> list[dict[str, Any]]:
    """What came and what was sent, in each fifth of a second."""
    rows = []
    for number in range(int((CALM + FLOOD + AFTER) / SLICE)):
        start = began + number * SLICE
        here = [page for page in pages if start <= page["at"] < start + SLICE]
        good = [page["seconds"] for page in here if "error" not in page]
        rows.append(
            {
                "at": number * SLICE,
                "pages_per_second": len(good) / SLICE,
                "failed": len(here) - len(good),
                "median": round(statistics.median(good), 5) if good else None,
                "forged_per_second": sum(sent for at, sent in slices if start <= at < start + SLICE) / SLICE,
            }
        )
    return rows
