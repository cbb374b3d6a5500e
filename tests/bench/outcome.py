"""The common frame of a bench part: its options, and printing, writing and judging its result.

Knows no figure by name: the part measures them, `goals` limits them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnsvip.errors import DnsvipError, PlatformError
from tests.bench.goals import judge, summary, verdict_table

README = Path(__file__).with_name("README.md")
LAST_RESULT = "## Last result"
"""The title of the section of a part's page that --record replaces."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a part: the `text` to print, the `figures` that its goals name, and `more` for the JSON.

    `page` is the page beside README.md that the recorded result is on; a part without one is not recorded. `machine` is
    the date and machine of the goals recorded in README.md.
    """

    part: str
    text: str
    figures: Mapping[str, float]
    more: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""
    machine: str = ""


def parser_of(doc: str | None, part: str) -> argparse.ArgumentParser:
    """The options of a part that takes long: --json, --record and --quick."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json",
        type=Path,
        default=Path(f"build/bench-{part}.json"),
        metavar="FILE",
        help="where the figures go (%(default)s)",
    )
    parser.add_argument(
        "--record", action="store_true", help="put the result on the part's page, and its goals into README.md"
    )
    parser.add_argument("--quick", action="store_true", help="a short run to see that it works; nothing is judged")
    return parser


@contextmanager
def measuring(missing: str | None) -> Iterator[None]:
    """Exit with 2, and say why, where this machine lacks something, or what is measured fails."""
    try:
        if missing:
            raise PlatformError(missing)
        yield
    except DnsvipError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def conclude(result: Result, path: Path | None = None, *, quick: bool = False, record: bool = False) -> int:
    """Print a result, write it to `path` as JSON and with `record` to the pages; return the exit code.

    The code is 1 if a goal is missed. A quick run is neither judged nor recorded.
    """
    verdicts = judge(result.part, result.figures)
    print(result.text)
    if path is not None:
        goals = [
            {"goal": v.goal.text, "most": v.goal.most, "unit": v.goal.unit, "figure": v.figure, "met": v.met}
            for v in verdicts
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**result.more, "figures": result.figures, "goals": goals}, indent=2) + "\n")
        print(f"\nJSON: {path}")
    if quick:
        print("a quick run: goals are not judged")
        return 0
    if record and result.page:
        write_section(README.with_name(result.page), LAST_RESULT, f"{result.text}\n\n{summary(verdicts)}")
        write_between(README, result.part, f"{result.machine}\n\n{verdict_table(verdicts)}")
    print(summary(verdicts))
    return 0 if all(verdict.met for verdict in verdicts) else 1


def write_section(page: Path, title: str, text: str) -> None:
    """Replace the section under a title; keep what follows it."""
    head, _, rest = page.read_text().partition(f"{title}\n")
    _, separator, tail = rest.partition("\n## ")
    page.write_text(f"{head}{title}\n\n{text}\n{separator}{tail}")


def write_between(page: Path, mark: str, text: str) -> None:
    """Replace what is between a page's comments `mark` and `end of mark`. Raises ValueError where it has none."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page}: no place for {mark}")
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def say(text: str) -> None:
    """Show progress on one line if standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
