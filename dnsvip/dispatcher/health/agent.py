"""Parses the line of a load agent: HAProxy's agent-check protocol (HAProxy configuration manual, "agent-check").

The agent answers a connection with one line of words: `up`, `down`, `stopped`, `fail`, `drain`, `maint`, `ready`, and a
percentage such as `75%`, in any order, separated by blanks, tabs or commas; a note for
operators may follow a `#`. What a line does not mention keeps its value; only the agent itself reverts what it set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

LONGEST_LINE = 512
LARGEST_PERCENT = 1000


class Mode(StrEnum):
    """The administrative mode that an agent sets for its server."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True)
class Report:
    """One line of an agent; None for what it does not mention. `running` is false after down, stopped or fail."""

    running: bool | None = None
    mode: Mode | None = None
    percent: int | None = None
    note: str = ""


_RUNNING = {"up": True, "down": False, "stopped": False, "fail": False}
_PERCENT = re.compile(r"[0-9]{1,4}%")
_IGNORED = re.compile(r"maxconn:[0-9]+")


def parse_report(line: bytes) -> Report | None:
    """The report in a line; None for an empty line or one with a word outside the protocol."""
    text = re.split(rb"[\r\n]", line[:LONGEST_LINE], maxsplit=1)[0].decode("ascii", "replace")
    words, _, note = text.partition("#")
    running, mode, percent, down = None, None, None, ""
    for word in re.split(r"[ \t,]+", words.strip(" \t,").lower()):
        if word in _RUNNING:
            running, down = _RUNNING[word], "" if _RUNNING[word] else word
        elif word in tuple(Mode):
            mode = Mode(word)
        elif _PERCENT.fullmatch(word):
            percent = min(int(word[:-1]), LARGEST_PERCENT)
        elif not _IGNORED.fullmatch(word):
            return None
    return Report(running, mode, percent, _shown(note.strip() or down))


def _shown(note: str) -> str:
    """A note as a status shows it: printable, 80 characters at most."""
    return "".join(letter if letter.isprintable() else "?" for letter in note)[:80]
