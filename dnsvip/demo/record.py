"""What is remembered of the demo: commands, checks, acts. Plain values; nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ran:
    """One command as it was run: where, how one would type it, what came out (both streams), its exit status.

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
    """One act as it went. A `failure` is what ended it early."""

    name: str
    title: str
    commands: list[Ran] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    failure: str | None = None

    @property
    def held(self) -> bool:
        """Whether it proved what it set out to."""
        return self.failure is None and bool(self.checks) and all(check.held for check in self.checks)
