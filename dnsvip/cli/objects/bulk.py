"""`dnsvip clients import` and `export`: very many clients, with a progress bar on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, problem_text, with_api
from dnsvip.cli.shared.nouns import json_option
from dnsvip.cli.shared.parameters import Choice
from dnsvip.errors import ConfigError
from dnsvip.printable import printable, printable_json
from dnsvip.site.io.safe_file import draft_of
from dnsvip.site.plain import JsonObject

CHUNK = 1 << 18
SHOWN = 20
NDJSON = "application/x-ndjson"
MEDIA = {"ndjson": NDJSON, "csv": "text/csv"}

EXAMPLES = """
\b
Examples:
  dnsvip clients import clients.ndjson --dry-run
  dnsvip clients export --tier gold | dnsvip clients import - --per-line
"""

format_option = click.option(
    "--format", "kind", type=Choice(list(MEDIA)), help="By default that of the file name's suffix, else ndjson."
)


@click.command("import", epilog=EXAMPLES + "\n" + EPILOG)
@click.argument("file", metavar="FILE|-")
@format_option
@click.option("--per-line", is_flag=True, help="Skip bad lines; by default one of them fails the import.")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@json_option
@with_api
def import_(api: Api, file: str, kind: str | None, *, per_line: bool, dry_run: bool, as_json: bool) -> None:
    """Create or replace clients, one per line, in one transaction. Exits 2 where any line is refused."""
    query = {
        "format": kind or ("csv" if file.endswith(".csv") else "ndjson"),
        "mode": "per-line" if per_line else "all-or-nothing",
        "dry_run": "true" if dry_run else "false",
    }
    headers = {"Content-Type": MEDIA[query["format"]], "Accept": NDJSON, "Transfer-Encoding": "chunked"}
    with _opened(file) as source, _bar() as bar:
        size = os.fstat(source.fileno()).st_size if file != "-" else None
        sending = bar.add_task("sending", total=size or None)
        body = _pieces(source, lambda n: bar.update(sending, advance=n))
        report = None
        for line in api.stream("POST", "clients", "import", query=query, body=body, headers=headers):
            report = _follow(bar, json.loads(line)) or report
    if report is None:
        raise ApiError("the API ended without a report of the import")
    _print(report, as_json=as_json)
    if report["failed"]:
        sys.exit(ConfigError.exit_code)


@click.command(epilog=EXAMPLES + "\n" + EPILOG)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@format_option
@click.option("--tier", help="Only those of this tier.")
@click.option("--state", help="Only those in this state.")
@click.option("--prefix", "q", help="Only those whose names start with this.")
@with_api
def export(api: Api, output: Path | None, kind: str | None, **some: str | None) -> None:
    """Print clients, one per line, in the form of import."""
    kind = kind or ("csv" if output and output.suffix == ".csv" else "ndjson")
    lines = api.stream("GET", "clients", "export", query={**some, "format": kind}, headers={})
    if output is None:
        seen = None if not sys.stdout.isatty() else printable if kind == "csv" else printable_json
        for line in lines:
            sys.stdout.buffer.write(seen(line.decode()).encode() if seen else line)
        sys.stdout.buffer.flush()  # at the end of the program it would be too late to say that it fails
        return
    with draft_of(output, mode=0o666, error=ConfigError) as draft:  # less the umask, as any exported file
        draft.file.writelines(lines)
        draft.commit()


def _opened(file: str) -> IO[bytes]:
    try:
        return sys.stdin.buffer if file == "-" else Path(file).open("rb")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _pieces(source: IO[bytes], sent: Callable[[int], object]) -> Iterator[bytes]:
    while piece := source.read(CHUNK):
        yield piece
        sent(len(piece))


def _follow(bar: Progress, line: JsonObject) -> JsonObject | None:
    """Advance the bar; returns the report, where the line is that. Raises ApiError for a problem."""
    if "problem" in line:
        problem = line["problem"]
        raise ApiError(problem_text(problem), problem.get("status", 0))
    if "progress" in line:
        task = next((task.id for task in bar.tasks if task.description == "storing"), None)
        task = bar.add_task("storing") if task is None else task
        bar.update(task, completed=line["progress"]["done"], total=line["progress"]["of"] or 1)
    return line.get("report")


def _print(report: JsonObject, *, as_json: bool) -> None:
    if as_json:
        click.echo(show.json_text(report, 2))
        return
    for error in report["errors"][:SHOWN]:
        show.say(f"line {error['line']}: {error['where']}: {error['message']}", err=True)
    if report["failed"] > SHOWN:
        click.echo(f"... and {report['failed'] - SHOWN} more", err=True)
    counts = ", ".join(f"{report[key]} {key}" for key in ("made", "changed", "unchanged", "failed"))
    end = f"applied as generation {report['generation']}" if report["generation"] is not None else "nothing stored"
    click.echo(f"{report['lines']} lines: {counts}; {end}")
