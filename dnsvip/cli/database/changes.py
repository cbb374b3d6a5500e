"""Changes as people and machines read them; secrets and whole documents are named, never shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import click

from dnsvip.cli.shared.show import json_text
from dnsvip.dns.zones.record_diff import RecordDiff, record_diff
from dnsvip.printable import printable
from dnsvip.site import Zone
from dnsvip.site.changes import changed_fields, describe
from dnsvip.site.plain import JsonObject
from dnsvip.site.plan import Change

COLOURS: Mapping[str, str] = {"+": "green", "~": "yellow", "-": "red"}
MOST_RECORDS = 100
"""Lines about the records of one zone."""

VERBS: Mapping[str, str] = {"+": "made", "~": "altered", "-": "removed"}


def lines(change: Change) -> Iterator[str]:
    """The lines of one change: a heading, then one line per field."""
    head = click.style(printable(f"{change.action} {change.where}"), fg=COLOURS[change.action])
    if change.unreadable is not None:
        yield f"{head}  (what is stored cannot be read: {printable(change.unreadable.why)})"
        return
    if change.action == "-":
        yield head
        return
    fields = changed_fields(change)
    yield head if fields else f"{head}  (from now on kept by the site file)"
    difference = records_of(change)
    for path, (old, new) in fields.items():
        if path == "text" and difference is not None:
            yield from _records(difference)
        else:
            shown = f" = {_show(new)}" if change.action == "+" else f": {_transition(old, new)}"
            yield printable(f"    {path}{shown}")


def records_of(change: Change) -> RecordDiff | None:
    """What an altered zone's records were and are; None of other changes, and of texts that cannot be compared."""
    before, after = change.before, change.after
    if not isinstance(before, Zone) or not isinstance(after, Zone) or before.text == after.text:
        return None
    return record_diff(before, after)


def as_data(change: Change) -> JsonObject:
    """A change as JSON data, with the records of an altered zone."""
    difference = records_of(change)
    return {**describe(change), **({"records": asdict(difference)} if difference is not None else {})}


def _records(difference: RecordDiff) -> Iterator[str]:
    shown = list(islice(difference.lines(), MOST_RECORDS + 1))
    for line in shown[:MOST_RECORDS]:
        yield f"    {click.style(printable(line), fg=COLOURS.get(line[0]))}"
    if len(shown) > MOST_RECORDS:
        yield f"    ... and more; --json has all {len(list(difference.lines()))} lines"
    if not shown:
        yield "    text: (no record differs)"


def headline(changes: tuple[Change, ...]) -> str:
    """How many objects are created, changed and removed."""
    counts: Counter[str] = Counter(change.action for change in changes)
    return ", ".join(f"{counts[action]} {verb}" for action, verb in VERBS.items() if counts[action])


def _transition(old: Any, new: Any) -> str:
    if new == "(changed)":
        return str(new)
    return f"{_show(old)} -> {_show(new)}"


def _show(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, str) and value.startswith("("):
        return value
    return json_text(value)
