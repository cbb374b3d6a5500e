"""Whether a process may be sent work, and why not. Pure: what is the case is told by the shells."""

from __future__ import annotations

from dataclasses import dataclass

STALE_SECONDS = 3600.0
"""For how long a process without its database is still ready: it serves on, but may miss a revocation."""


@dataclass(frozen=True, slots=True)
class State:
    """What decides. `serving` names what is missing for taking work at all, empty where nothing is; `heard_at` is when
    the database answered last, or else when the process started, both unix seconds. `stale_seconds` 0: never stale."""

    serving: tuple[str, ...]
    heard_at: float
    stale_seconds: float = STALE_SECONDS


def problems(state: State, now: float) -> list[str]:
    """Why not, one sentence each; empty where it is ready. `now` in unix seconds."""
    found = list(state.serving)
    silent = now - state.heard_at
    if state.stale_seconds and silent > state.stale_seconds:
        found.append(f"the database has not answered for {silent:.0f} s (allowed: {state.stale_seconds:.0f} s)")
    return found
