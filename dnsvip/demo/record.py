"""The record of a demo: commands, checks, acts, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ran:
    """One command as it ran: host, command line as typed, output (both streams), exit status.

    `status` is None for a program that runs on.
    """

    host: str
    line: str
    output: str
    status: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the demo proves: `held` is decided by a program's output, `seen` quotes it."""

    what: str
    held: bool
    seen: str


@dataclass
class Act:
    """The record of one act. `failure` says what ended it early."""

    name: str
    title: str
    commands: list[Ran] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    failure: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """What was measured, by its name."""

    @property
    def held(self) -> bool:
        """Whether every check of the act held."""
        return self.failure is None and bool(self.checks) and all(check.held for check in self.checks)
