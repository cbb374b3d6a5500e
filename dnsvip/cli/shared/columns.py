"""The columns and filters of lists, made from the declarations of their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.parameters import Choice
from dnsvip.site.declare import About, Declared, declared
from dnsvip.site.plain import JsonObject
from dnsvip.site.registry import Kind

Cell: TypeAlias = Callable[[JsonObject], Any]


def columns(fields: Mapping[str, Declared], extras: Mapping[str, About] | None = None, kind: str = "") -> show.Columns:
    """The listed fields, in the order of their columns, each under its heading."""
    cells: dict[str, tuple[int, Cell]] = {}
    for name, field in fields.items():
        heading = field.about.heading or name.upper()
        if field.about.listed:
            cells.setdefault(heading, (field.about.listed, _SPECIAL.get((kind, heading)) or _cell(field)))
    for name, about in (extras or {}).items():
        heading = about.heading or name.upper()
        cells[heading] = about.listed, _SPECIAL.get((kind, heading)) or _item(name)
    ordered = {heading: cell for heading, (_, cell) in sorted(cells.items(), key=lambda entry: entry[1][0])}
    return {heading: _readable(place, cell) for place, (heading, cell) in enumerate(ordered.items())}


def _readable(place: int, cell: Cell) -> Cell:
    """A cell that says, of an object that cannot be read, its name in the first column and what is wrong next to it."""
    broken: tuple[Cell, ...] = (_item("name"), lambda item: f"(cannot be read: {item['unreadable']})")
    instead = broken[place] if place < len(broken) else lambda _: ""
    return lambda item: instead(item) if "unreadable" in item else cell(item)


def filters(kind: Kind) -> list[click.Option]:
    """An option for each filter of a kind's lists."""
    return [option(name, about, kind.fields.get(name)) for name, about in kind.list_filters.items()]


def option(name: str, about: About, field: Declared | None) -> click.Option:
    """The option of one filter; that of a field with choices takes one of them, that of a flag true or false."""
    is_flag = field is not None and field.plain_type is bool
    choices = ["true", "false"] if is_flag else [choice.value for choice in (field.choices if field else ())]
    kind = Choice(choices) if choices else click.STRING
    label = f"{about.label[0].lower()}{about.label[1:]}"
    text = f"Only those with this {label}." if field else f"Only {about.help[0].lower()}{about.help[1:]}"
    text = f'Only those with this value of "{label}".' if is_flag else text
    metavar = None if choices else (about.refers or "value").upper()
    return click.Option([f"--{name.replace('_', '-')}"], type=kind, metavar=metavar, help=text)


def _cell(field: Declared) -> Cell:
    named = field.many and field.model is not None and "name" in declared(field.model)
    if named:
        return lambda item: [part["name"] for part in item[field.name]]
    return _item(field.name)


def _item(name: str) -> Cell:
    return lambda item: item[name]


def _carries(cluster: JsonObject) -> str:
    if "classes" in cluster:
        return ", ".join(f"{tier} {numbers}" for tier, numbers in cluster["classes"].items())
    return ", ".join(f"{field} {bits}" for field, bits in [*cluster["layout"], ["tag", cluster["tag_bits"]]])


def _check(pool: JsonObject) -> str:
    check = pool["check"] or {}
    return ", ".join(f"{way} {check[way]}" for way in ("tcp", "http", "agent") if check.get(way))


def _time(name: str) -> Cell:
    return lambda item: show.moment(item[name])


_SPECIAL: Mapping[tuple[str, str], Cell] = {
    ("cluster", "CARRIES"): _carries,
    ("pool", "CHECK"): _check,
    **{("dns_token", name.upper()): _time(name) for name in ("previous_until", "used_at", "previous_used_at")},
}
"""(kind, heading) -> a cell that says more, or less, than one field."""
