"""The conventional `process_` metrics, summed over the scraped process and its workers.

Ended workers stay included: the kernel adds their time to their parent's (proc(5), cutime).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import Metric

from dnsvip.telemetry.metrics.exposition import counter, gauge

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_UTIME, _STIME, _CUTIME, _CSTIME, _START, _RSS = 11, 12, 13, 14, 19, 21
"""Fields of /proc/PID/stat (proc(5)), counted from the one after the name in parentheses."""


def families(workers: Iterable[int] = (), proc: Path = Path("/proc")) -> Iterator[Metric]:
    """This process and its workers by PID; a worker that has just ended is skipped."""
    own = _stat(proc / "self")
    stats = [own, *filter(None, (_stat(proc / str(pid)) for pid in workers))]
    if own is None:
        return
    running = [stat for stat in stats if stat]
    ticks = sum(stat[_UTIME] + stat[_STIME] for stat in running) + own[_CUTIME] + own[_CSTIME]
    yield counter("process_cpu_seconds", "User and system CPU time, workers included.", ticks / _TICKS)
    memory = sum(stat[_RSS] for stat in running) * _PAGE
    yield gauge("process_resident_memory_bytes", "Resident memory, workers included.", memory)
    yield gauge("process_open_fds", "Open file descriptors of this process.", _fds(proc / "self"))
    start = _boot_time(proc) + own[_START] / _TICKS
    yield gauge("process_start_time_seconds", "When this process started, unix seconds.", start)
    yield gauge("dnsvip_processes", "Processes: this one and its workers.", len(running))


def _stat(folder: Path) -> list[int] | None:
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return [int(field) if field.lstrip("-").isdigit() else 0 for field in fields]


def _fds(folder: Path) -> int:
    try:
        return len(os.listdir(folder / "fd"))
    except OSError:
        return 0


def _boot_time(proc: Path) -> float:
    line = next(line for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
    return float(line.split()[1])
