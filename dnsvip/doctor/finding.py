"""One result of a check: its severity, what is the case, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """A failure will not work; a warning works, but not well or not for long; an unknown could not be checked."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` names the check, such as "ports"; `mend` is the remedy, empty only where nothing is wrong."""

    check: str
    level: Level
    what: str
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, what)


def unknown(check: str, what: str, mend: str) -> Finding:
    """It could not be checked."""
    return Finding(check, Level.UNKNOWN, what, mend)


def warning(check: str, what: str, mend: str) -> Finding:
    """It works, but not well or not for long."""
    return Finding(check, Level.WARNING, what, mend)


def failure(check: str, what: str, mend: str) -> Finding:
    """It will not work."""
    return Finding(check, Level.FAILURE, what, mend)


EXIT_CODES = {Level.OK: 0, Level.UNKNOWN: 0, Level.WARNING: 6, Level.FAILURE: 1}
"""Exit code by the level of the worst finding; 2 means wrong usage, as everywhere."""


def exit_code(findings: Iterable[Finding]) -> int:
    """The exit code for the worst finding."""
    levels = {finding.level for finding in findings}
    worst = next((level for level in (Level.FAILURE, Level.WARNING) if level in levels), Level.OK)
    return EXIT_CODES[worst]
