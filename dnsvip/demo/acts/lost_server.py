"""What a killed server costs: until its health check has failed, and nothing after."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

from dnsvip.demo import programs
from dnsvip.demo.record import Check
from dnsvip.demo.stage import Stage
from dnsvip.demo.topology import PLAIN, SLOW

BEFORE, AFTER, BACK = 1.5, 5.5, 5.0
"""Seconds of load before the server is killed, until it is started again, and then."""

WORKERS = 2
WITHIN = 5.0
"""Seconds until nobody is sent to a dead server: three failed checks, a second apart, on a busy machine."""

LISTENING = "ss --no-header --listening --tcp --numeric --processes 'sport = :80'"
KILL = f"kill -KILL $({LISTENING} | grep -o 'pid=[0-9]*' | cut -d= -f2)"


def lost_server(stage: Stage) -> Iterator[Check]:
    """A server is killed under load: its checks fail, others take its clients, and it comes back."""
    name = next(reversed(SLOW))
    server = stage.hosts.servers[name]
    argv = (
        sys.executable,
        "-m",
        "dnsvip.demo.probe",
        str(BEFORE + AFTER + BACK),
        "1000000",
        str(WORKERS),
        f"http://[{PLAIN}]/",
    )
    began = time.monotonic()
    with subprocess.Popen(stage.hosts.plain.command(*argv), stdout=subprocess.PIPE, text=True) as load:
        time.sleep(BEFORE)
        stage.shell(server, KILL)
        killed = time.monotonic()
        time.sleep(AFTER)
        programs.start_web(server, stage.folder)
        back = time.monotonic()
        pages = json.loads(load.communicate(timeout=60)[0])
    began = pages[0]["at"] if pages else began  # the probe takes a while to start
    failed = [page["at"] for page in pages if "error" in page]
    out = max(failed, default=killed) - killed
    served = sum("error" not in page and killed + out < page["at"] < back for page in pages)
    again = any(page.get("server") == name for page in pages if page["at"] > back)
    stage.figure(
        "lost_server",
        {
            "name": name,
            "killed": round(killed - began, 3),
            "back": round(back - began, 3),
            "failed": len(failed),
            "seconds": round(out, 2),
            "pages": [
                [round(page["at"] - began, 3), page.get("server", ""), round(page.get("seconds", 0), 5)]
                for page in pages
            ],
        },
    )
    yield Check(
        "a killed server is left out, and used again when it is back",
        0 <= out < WITHIN and served > 0 and again,
        f"{len(failed)} pages failed within {out:.1f} s, then {served} of {served} came from others",
    )
