"""The demo's output: a running account on the screen, or one JSON document.

It shows what it is given, in order, and decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dnsvip.demo.record import Act, Check, Ran
from dnsvip.demo.topology import PICTURE

HEAD, TAIL = 10, 2
"""Lines shown of a command's output, from its start and its end; the others are counted."""


WIDTH = 60
"""Width of the first column of the table."""


class Report:
    """Receives every event of a demo, and prints nothing."""

    def opening(self) -> None:
        """The hosts exist."""

    def act(self, act: Act) -> None:
        """An act begins."""

    def command(self, ran: Ran) -> None:
        """A command of the current act has ended."""

    def check(self, check: Check) -> None:
        """The current act's output has decided a check."""

    def failure(self, message: str) -> None:
        """The current act cannot continue."""

    def closing(self, acts: Sequence[Act], seconds: float, folder: Path) -> None:
        """All acts are over; their files are in `folder` while the world exists."""

    def kept(self, folder: Path, example: str) -> None:
        """The world stays until the user ends it; `example` is a command line into one host."""


class Screen(Report):
    """The account on the screen, in colour on a terminal and plain in a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def opening(self) -> None:
        """Show where it takes place."""
        self._line("Hosts, each a network namespace of this machine:", "bold")
        self._line(PICTURE, "dim")

    def act(self, act: Act) -> None:
        """Title of an act."""
        self._line(f"\n{act.title}", "bold cyan")

    def command(self, ran: Ran) -> None:
        """A command line and the essential part of its output."""
        self._console.print(Text.assemble((f"  {ran.host}$ ", "dim"), (ran.line, "bold")))
        lines = ran.output.splitlines()
        left_out = max(0, len(lines) - HEAD - TAIL)
        for line in lines[:HEAD] if left_out else lines:
            self._line(f"    {line}", "")
        if left_out:
            self._line(f"    ... {left_out} more lines", "dim")
            for line in lines[-TAIL:]:
                self._line(f"    {line}", "")

    def check(self, check: Check) -> None:
        """Whether a check held, and the evidence."""
        self._console.print(Text.assemble("  ", _mark(check.held), f"{check.what}: ", (check.seen, "italic")))

    def failure(self, message: str) -> None:
        """Why an act ended early."""
        self._console.print(Text.assemble("  ", _mark(False), message))

    def closing(self, acts: Sequence[Act], seconds: float, folder: Path) -> None:
        """The table of what was proven."""
        self._line("\nProven", "bold")
        for act in acts:
            for check in act.checks:
                self._console.print(
                    Text.assemble("  ", _mark(check.held), f"{check.what:{WIDTH}}", (check.seen, "dim"))
                )
            if act.failure is not None:
                self._console.print(Text.assemble("  ", _mark(False), f"{act.title}: ended early"))
        checks = [check for act in acts for check in act.checks]
        held, all_held = sum(check.held for check in checks), all(act.held for act in acts)
        verdict = f"{held} of {len(checks)} checks held in {seconds:.0f} s"
        self._line(f"\n{verdict}" + ("" if all_held else "; the demo FAILED"), "bold green" if all_held else "bold red")

    def kept(self, folder: Path, example: str) -> None:
        """How to look around."""
        self._line(
            f"""
The world stays. Look around in another terminal:
  cd {folder}
  ./enter client-gold dig AAAA www.example.test
  ./enter client-plain curl http://www.example.test/
  ./enter dispatcher dnsvip status
  ./enter fast-1 tcpdump -ni eth0 tcp port 80
  ./enter router                         (a shell there)
which is short for: {example}
Enter or Ctrl-C removes everything.""",
            "",
        )

    def _line(self, text: str, style: str) -> None:
        self._console.print(Text(text, style))


class Machine(Report):
    """One JSON document on standard output, at the end."""

    def closing(self, acts: Sequence[Act], seconds: float, folder: Path) -> None:
        """Print the document."""
        print(json.dumps(document_of(acts, seconds, folder), indent=2), flush=True)  # noqa: T201 - the output asked for


class Both(Report):
    """Hands every event on to several reports."""

    def __init__(self, *reports: Report) -> None:
        self._reports = reports

    def opening(self) -> None:
        """To each."""
        for report in self._reports:
            report.opening()

    def act(self, act: Act) -> None:
        """To each."""
        for report in self._reports:
            report.act(act)

    def command(self, ran: Ran) -> None:
        """To each."""
        for report in self._reports:
            report.command(ran)

    def check(self, check: Check) -> None:
        """To each."""
        for report in self._reports:
            report.check(check)

    def failure(self, message: str) -> None:
        """To each."""
        for report in self._reports:
            report.failure(message)

    def closing(self, acts: Sequence[Act], seconds: float, folder: Path) -> None:
        """To each."""
        for report in self._reports:
            report.closing(acts, seconds, folder)

    def kept(self, folder: Path, example: str) -> None:
        """To each."""
        for report in self._reports:
            report.kept(folder, example)


def document_of(acts: Sequence[Act], seconds: float, folder: Path) -> dict[str, Any]:
    """The whole demo as JSON data."""
    return {
        "held": all(act.held for act in acts),
        "seconds": round(seconds, 1),
        "folder": str(folder),
        "acts": [{**asdict(act), "held": act.held} for act in acts],
    }


def _mark(held: bool) -> tuple[str, str]:
    return ("ok      ", "bold green") if held else ("FAILED  ", "bold red")
