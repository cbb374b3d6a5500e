"""CPU seconds and memory of a server with all its processes and threads, as Linux counts them in /proc.

CPU time is the scheduler's own, user and system together, in nanoseconds (/proc/PID/task/*/schedstat).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for process, parent in _parents():
        children.setdefault(parent, []).append(process)
    family_pids = [pid]
    for process in family_pids:  # grows during the walk
        family_pids += children.get(process, [])
    return family_pids


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, over their live threads."""
    return sum(task_seconds(task) for process in family(pid) for task in PROC.glob(f"{process}/task/*"))


def task_seconds(task: Path) -> float:
    """CPU time of one thread by its folder in /proc; 0 if it has ended."""
    text = _read(task / "schedstat")
    return int(text.split()[0]) / 1e9 if text else 0.0


def memory_bytes(pid: int) -> int:
    """Proportional set size (PSS) of a process and its descendants, which counts shared pages once."""
    texts = (_read(PROC / str(process) / "smaps_rollup") for process in family(pid))
    return 1024 * sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:"))


def prefer(pid: int) -> None:
    """Give the session of a process the priority that this one has, where sessions share the processors evenly
    (sched(7), autogroup); needs root for one above 0."""
    with suppress(OSError):
        (PROC / str(pid) / "autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))


def _parents() -> Iterator[tuple[int, int]]:
    for stat in PROC.glob("[0-9]*/stat"):
        if text := _read(stat):
            head, _, tail = text.rpartition(")")
            yield int(head.split()[0]), int(tail.split()[1])


def _read(path: Path) -> str:
    """The file's content; empty if the process has exited."""
    with suppress(OSError):
        return path.read_text()
    return ""
