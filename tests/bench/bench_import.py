"""A million clients imported by the API, listed, edited and exported.

    python -m tests.bench.bench_import [--clients N]

For each database (SQLite, and PostgreSQL if installed) a real node starts with the example site, whose `client`
field holds a million ids. Reported per database: wall-clock seconds of the import, CPU seconds of the node and its
peak resident size before and during it; milliseconds of the first page in each order; seconds from the commit until
DNS answers reflect it; seconds from an edit to its answer; time and additional memory of the exports.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.node.serving import Node, node
from tests.postgres import running

PAGES = [
    "",
    "sort=-name",
    "sort=id",
    "sort=tier",
    "sort=-changed",
    "sort=state",
    "tier=gold",
    "state=revoked&tier=gold",
]
PAGES += ["q=c0005", "match=2001:db8:77::1", "count=true&tier=gold", "contains=99999"]


def lines(count: int) -> Iterator[bytes]:
    """Clients c0000000 and so on, each with its own source prefix and ECS prefix."""
    for number in range(count):
        body = {
            "name": f"c{number:07}",
            "id": 10_000 + number,
            "tier": ("gold", "standard")[number % 2],
            "match": [
                {"source": f"2001:{0xDB9 + (number >> 16):x}:{number & 0xFFFF:x}::/48"},
                {"ecs": f"{20 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.0/24"},
            ],
        }
        yield json.dumps(body).encode() + b"\n"


def imported(api: Node, file: Path) -> tuple[float, dict[str, Any]]:
    """Seconds and report of an import."""
    connection = http.client.HTTPConnection("127.0.0.1", api.api, timeout=600)
    start = time.perf_counter()
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/x-ndjson"}
    with file.open("rb") as body:
        connection.request("POST", "/api/v1/clients/import", body, headers, encode_chunked=True)
    answer = connection.getresponse()
    return time.perf_counter() - start, json.loads(answer.read())


def timed(api: Node, path: str, times: int = 5) -> float:
    """Median milliseconds of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", api.api, timeout=60)
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        connection.request("GET", f"/api/v1/{path}", headers={"Authorization": f"Bearer {api.token}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, path
        taken.append(1000 * (time.perf_counter() - start))
    return median(taken)


def until(seconds: float, true: Any) -> float:
    """Seconds until a condition holds."""
    start = time.perf_counter()
    while not true():
        assert time.perf_counter() - start < seconds, "never came true"
        time.sleep(0.02)
    return time.perf_counter() - start


def settled(pid: int) -> float:
    """Seconds until a process has been nearly idle for one second."""
    start, before = time.perf_counter(), usage(pid)[0]
    while True:
        time.sleep(1)
        now = usage(pid)[0]
        if now - before < 0.1:
            return time.perf_counter() - start - 1
        before = now


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds and largest resident MiB of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) >> 10


def exported(api: Node, pid: int, kind: str) -> tuple[float, int, int]:
    """Seconds of an export, the process's resident MiB before it, and its peak increase during it."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # reset the peak
    _, before = usage(pid)
    start = time.perf_counter()
    timed(api, f"clients/export?format={kind}", 1)
    return time.perf_counter() - start, before, usage(pid)[1] - before


def run(folder: Path, count: int, database: str | None) -> None:
    """Measure everything on one database."""
    file = folder / "clients.ndjson"
    with file.open("wb") as out:
        out.writelines(lines(count))
    with node(folder) as api:
        if database:
            text = (folder / "node.toml").read_text()
            lines_ = [f'database = "{database}"' if line.startswith("database") else line for line in text.splitlines()]
            (folder / "node.toml").write_text("\n".join(lines_) + "\n")
        api.apply()
        api.start("--token-file", "token")
        assert api.process is not None
        cpu, peak = usage(api.process.pid)
        seconds, report = imported(api, file)
        assert report.get("made") == count, report
        after, during = usage(api.process.pid)
        print(f"  import of {count}: {seconds:.1f} s, {after - cpu:.1f} CPU s, largest {peak} then {during} MiB")
        asked = f"+subnet={20 + (count - 1 >> 16)}.{count - 1 >> 8 & 255}.{count - 1 & 255}.0/24"
        plain = "2001:db8:a:1::1"
        name = f"c{count - 1:07}"
        ask = lambda: api.dig(asked, "AAAA", "www.example.test")  # noqa: E731
        print(f"  answered by it after {until(300, lambda: ask() not in ('', plain)):.1f} s more")
        print(f"  busy with it for {settled(api.process.pid):.0f} s more")
        for page in PAGES:
            print(f"  GET /clients?{page}: {timed(api, f'clients?{page}'):.1f} ms")
        edits = []
        for state, right in (("disabled", lambda: ask() == plain), ("enabled", lambda: ask() != plain)) * 3:
            assert api.curl("PATCH", f"clients/{name}", {"state": state})[0] == 200
            edits.append(until(60, right))
        print(f"  from an edit to its answer: median {median(edits):.2f} s, longest {max(edits):.2f} s")
        print(f"  largest until here: {usage(api.process.pid)[1]} MiB")
        for kind in ("ndjson", "csv"):
            seconds, resident, more = exported(api, api.process.pid, kind)
            print(f"  export as {kind}: {seconds:.1f} s; {resident} MiB resident before, at most {more} more during it")
        again, report = imported(api, file)
        print(f"  the same import again: {again:.1f} s, {report['unchanged']} unchanged")


def main() -> int:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dnsvip-import-") as folder:
        for kind in ("sqlite", "postgresql"):
            if options.only in (None, kind):
                print(kind)
                place = Path(folder) / kind
                place.mkdir()
                if kind == "sqlite":
                    run(place, options.clients, None)
                else:
                    with running() as server:
                        run(place, options.clients, server.database())
    return 0


if __name__ == "__main__":
    sys.exit(main())
