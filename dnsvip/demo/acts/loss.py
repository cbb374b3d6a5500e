"""What a loss costs: one of two dispatchers is killed, and no connection ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

from dnsvip.demo.growth import growth_of
from dnsvip.demo.netns import stop
from dnsvip.demo.programs import wait_ready
from dnsvip.demo.record import Check
from dnsvip.demo.site import NAME
from dnsvip.demo.stage import Stage, until
from dnsvip.demo.topology import NAME_SERVER, PREFIX, SECOND
from dnsvip.demo.webserver import content

SIZE, SECONDS = 4_000_000, 60
"""Of the download, which is slow only until the other dispatcher has its packets."""
ENOUGH = 40_000
"""Bytes that have come before the dispatcher is killed."""
NODE = "node-2.toml"


def lost_dispatcher(stage: Stage) -> Iterator[Check]:
    """A second dispatcher is killed during a download through it, and the first one takes the connection over."""
    gold, file, moved = stage.hosts.gold, stage.folder / "taken-over", stage.folder / "moved"
    second = _start_second(stage)
    vip = stage.dig(gold, NAME)
    _route(stage, SECOND)
    before = stage.status()["dispatcher"]["counters"].get("resumed", 0)
    url = f"http://{NAME}/download?bytes={SIZE}&seconds={SECONDS}&until={moved.name}"
    to = ("--connect-to", f"{NAME}:80:[{vip}]:80")
    download = stage.start(gold, "curl", "-sN", *to, "-o", file.name, url, log=stage.folder / "taken-over.log")
    marks: dict[str, float] = {}
    try:
        with growth_of(file) as growth:
            until(lambda: file.exists() and file.stat().st_size > ENOUGH, "the download", process=download)
            _kill(stage, second)
            marks["killed"], had = growth.now(), file.stat().st_size
            _route(stage, NAME_SERVER)
            marks["moved"] = growth.now()
            moved.touch()
            until(lambda: download.poll() is not None, "the end of the download", seconds=60)
    finally:
        stop(download)
    killed = second.returncode == -signal.SIGKILL
    whole = download.returncode == 0 and file.read_bytes() == content(SIZE)
    rest = "the rest after, all as sent" if whole else "not all after"
    resumed = stage.counted("resumed") - before
    stage.figure("lost_dispatcher", {"size": SIZE, "had": had, "whole": whole, **marks, "samples": growth.samples})
    yield Check(
        "a killed dispatcher's connection goes on at another one",
        killed and had < SIZE and whole and resumed > 0,
        f"{had} of {SIZE} bytes before, {rest}; resumed counted {resumed} more",
    )


def _start_second(stage: Stage) -> subprocess.Popen[bytes]:
    """A dispatcher on dispatcher-2, a node of the same site."""
    log = stage.folder / "dispatch-2.log"
    process = stage.start(stage.hosts.second, "dnsvip", "dispatch", NODE, log=log)
    wait_ready(process, log, lambda: "dispatching" in log.read_text())
    return process


def _kill(stage: Stage, process: subprocess.Popen[bytes]) -> None:
    """Kill it; what it leaves in the kernel would forward without it, so that goes too."""
    stage.shell(stage.hosts.second, f"kill -KILL {process.pid}")
    until(lambda: process.poll() is not None, "the end of dispatcher-2")
    if stage.xdp:
        stage.run(stage.hosts.second, "dnsvip", "xdp", "detach", NODE, timeout=120)


def _route(stage: Stage, gateway: str) -> None:
    """Send the cluster's packets to one dispatcher."""
    stage.run(stage.hosts.router, "ip", "-6", "route", "replace", str(PREFIX), "via", gateway)
