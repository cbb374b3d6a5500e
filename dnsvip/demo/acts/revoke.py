"""What an operator takes away while it is in use: a revoked client's running download ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from dnsvip.demo.netns import stop
from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage, until

SIZE, SECONDS = 4_000_000, 20
"""Of the download, which would take longer than the act."""
WITHIN, STILL = 3.0, 1.0
"""Seconds after which nothing of it comes any more, on a busy machine too, and for how long that is watched."""


def revocation(stage: Stage) -> Iterator[Check]:
    """A client is revoked through the API during its download, which ends within a second."""
    gold, file = stage.hosts.gold, stage.folder / "revoked"
    vip = stage.dig(gold, NAME)
    url = f"http://{NAME}/download?bytes={SIZE}&seconds={SECONDS}"
    to = ("--connect-to", f"{NAME}:80:[{vip}]:80")
    download = stage.start(gold, "curl", "-s", *to, "-o", file.name, url, log=stage.folder / "revoked.log")
    try:
        until(lambda: file.exists() and file.stat().st_size > 0, "the download", process=download)
        stage.api("POST", "clients/acme/revoke", '{"end_flows": true}')
        took, size = _last_growth(file)
        dropped = stage.counted("revoked")
        yield Check(
            "a revoked client's running download ends",
            took < WITHIN and size < SIZE and dropped > 0,
            f"{size} of {SIZE} bytes, the last {took:.1f} s after; {dropped} packets dropped as revoked",
        )
    finally:
        stop(download)
    stage.api("PATCH", "clients/acme", '{"state": "enabled", "end_flows": false}')
    stage.settle()


def _last_growth(file: Path) -> tuple[float, int]:
    """Seconds from now until a file has grown for the last time, and its size: it must then stay for STILL seconds."""
    begun = grown = time.monotonic()
    size = file.stat().st_size

    def still() -> bool:
        nonlocal grown, size
        if (now := file.stat().st_size) != size:
            grown, size = time.monotonic(), now
        return time.monotonic() - grown > STILL

    until(still, "the end of the download")
    return grown - begun, size
