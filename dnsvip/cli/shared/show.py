"""What commands print: tables by rich on a terminal, tab-separated lines in a pipe, or JSON."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dnsvip.printable import printable, printable_json
from dnsvip.site.plain import JsonObject

Columns: TypeAlias = Mapping[str, Callable[[JsonObject], Any]]
"""Heading -> the cell of an item under it."""

COLOURS: Mapping[str, str] = {
    **dict.fromkeys(("up", "enabled", "active", "live"), "green"),
    **dict.fromkeys(("drain", "published", "retiring", "disabled"), "yellow"),
    **dict.fromkeys(("down", "maint", "revoked", "silent"), "red"),
}
"""Words that stand out on a terminal."""


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON with what is not printable escaped."""
    return printable_json(json.dumps(value, indent=indent, ensure_ascii=False))


def say(text: str, *, err: bool = False, **style: Any) -> None:
    """Print what others wrote, in one style."""
    click.secho(printable(text), err=err, **style)


def rows(columns: Columns, items: Iterable[JsonObject], *, as_json: bool) -> None:
    """Print a list; in a pipe each item as soon as it arrives. Nothing is printed of a list that fails at once."""
    if as_json:
        click.echo(json_text(list(items), 2))
    elif sys.stdout.isatty():
        _table(columns, items)
    else:
        waiting = iter(items)
        first = list(itertools.islice(waiting, 1))  # the first page has come, or the list has failed
        click.echo("\t".join(heading.lower() for heading in columns))
        for item in itertools.chain(first, waiting):
            click.echo("\t".join(_cell(of(item)) for of in columns.values()))


def item(plain: JsonObject, *, as_json: bool) -> None:
    """Print one object: `key = value` lines, as `set` takes them."""
    if as_json:
        click.echo(json_text(plain, 2))
        return
    for key, value in flat(plain):
        click.echo(f"{click.style(printable(key), fg='cyan')} = {json_text(value)}")


def flat(plain: JsonObject, head: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in an object."""
    for key, value in plain.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{head}{key}.")
        else:
            yield f"{head}{key}", value


def moment(seconds: float | None) -> str:
    """Unix seconds as a date and time in UTC."""
    return "" if not seconds else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float) -> str:
    """A time span by its two largest units: 3 d 4 h."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def _table(columns: Columns, items: Iterable[JsonObject]) -> None:
    console, waiting = Console(), iter(items)
    # A long list comes in tables of a thousand rows, so that it need not be held whole.
    while some := list(itertools.islice(waiting, 1000)):
        table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in columns:
            table.add_column(heading, overflow="fold")  # nothing is cut off where a terminal is narrow
        for one in some:
            cells = [_cell(of(one)) for of in columns.values()]
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in cells))
        console.print(table)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case list() | tuple():
            return ", ".join(_cell(part) for part in value)
        case dict():
            return " ".join(f"{key}={_cell(part)}" for key, part in value.items())
        case bool():
            return "yes" if value else "no"
    return printable(" ".join(str(value).split()))
