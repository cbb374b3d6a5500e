"""Reads what a load agent says: HAProxy's agent-check protocol (HAProxy configuration manual, "agent-check").

The agent answers a connection with one line of words: `up`, `down`, `stopped`, `fail`, `drain`, `maint`, `ready`, and a
percentage such as `75%`, in any order, separated by blanks, tabs or commas; what follows a `#` is for people. Words it
does not say change nothing, and only the agent takes back what it said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

LONGEST_LINE = 512
LARGEST_PERCENT = 1000


class Mode(StrEnum):
    """What an agent wants done with its server, beside how well it runs."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True)
class Report:
    """One line of an agent; None stands for what it did not say. `running` is false after down, stopped or fail."""

    running: bool | None = None
    mode: Mode | None = None
    percent: int | None = None
    note: str = ""


_RUNNING = {"up": True, "down": False, "stopped": False, "fail": False}
_PERCENT = re.compile(r"[0-9]{1,4}%")
_IGNORED = re.compile(r"maxconn:[0-9]+")


def parse_report(line: bytes) -> Report | None:
    """What a line says; None where a word of it is none of the protocol, or there is none at all."""
    text = re.split(rb"[\r\n]", line[:LONGEST_LINE], maxsplit=1)[0].decode("ascii", "replace")
    words, _, note = text.partition("#")
    running, mode, percent, down = None, None, None, ""
    found = re.split(r"[ \t,]+", words.strip(" \t,").lower())
    for word in found:
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
    """A note as it may stand in a status: printable, and short."""
    return "".join(letter if letter.isprintable() else "?" for letter in note)[:80]
