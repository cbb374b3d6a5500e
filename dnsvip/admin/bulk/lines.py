"""Clients as lines, NDJSON or CSV, read and written; pure but for the files it is given.

A line is read as strictly as the body of a PUT. What comes out is the canonical JSON of the client, as it is
stored, so that the second look at a million of them is cheap.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from operator import getitem
from typing import IO, Any, TypeAlias

from dnsvip.admin.http.json_objects import parse_object
from dnsvip.admin.http.problems import Refusal
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Step
from dnsvip.site.declare import Declared
from dnsvip.site.plain import JsonObject, dump_text, parse
from dnsvip.site.registry import KINDS
from dnsvip.store.objects.bulk import Line, LineProblem

LONGEST = 1 << 20
"""Bytes in one line."""

FIELDS: Mapping[str, Declared] = {
    path: declared_field for path, declared_field in KINDS["client"].walk() if declared_field.model is None
}
COLUMNS = tuple(FIELDS)
"""The columns of a CSV file, nested fields by their dotted path. A table (`attributes`) is a JSON object; columns
`attributes.NAME` are read as well. Matches are a JSON list where a value has spaces."""

_CELLS = [(path.split("."), field.default) for path, field in FIELDS.items()]
_RUNTIME = frozenset(KINDS["client"].runtime)

Found: TypeAlias = Line | tuple[LineProblem, ...]
"""A line to store, or all that is wrong with it."""


def ndjson(file: IO[bytes]) -> Iterator[tuple[int, JsonObject | Problem]]:
    """Number and object of each line; empty lines are skipped."""
    number = 0
    while raw := file.readline(LONGEST + 1):
        number += 1
        if len(raw) > LONGEST:
            while raw and not raw.endswith(b"\n"):  # the rest of it
                raw = file.readline(LONGEST)
            yield number, Problem("line", f"is longer than {LONGEST} bytes")
        elif raw.strip():
            try:
                yield number, parse_object(raw)
            except Refusal as refusal:
                yield number, Problem("line", str(refusal).replace("The body", "it"))


def csv_rows(file: IO[bytes]) -> Iterator[tuple[int, JsonObject | Problem]]:
    """The same of a CSV file (RFC 4180) whose first line names the columns; an empty cell is left out."""
    text = io.TextIOWrapper(file, "utf-8-sig", errors="strict", newline="")
    reader = csv.reader(text, strict=True)
    number = 1
    try:
        header = next(reader, [])
        if "name" not in header or len(set(header)) != len(header):
            yield 1, Problem("line", f"must name the columns, each once, such as {','.join(COLUMNS)}")
            return
        number = 2
        for row in reader:
            if row:
                yield number, _from_cells(header, row)
            number = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        yield number, Problem("line", f"is not CSV in UTF-8, so the rest is not read: {error}")


FORMATS: Mapping[str, Callable[[IO[bytes]], Iterator[tuple[int, JsonObject | Problem]]]] = {
    "ndjson": ndjson,
    "csv": csv_rows,
}
MEDIA = {"ndjson": "application/x-ndjson", "csv": "text/csv"}


def checked(pairs: Iterator[tuple[int, JsonObject | Problem]], most: int) -> list[Found]:
    """The next lines, at most this many, each ready to store or with every reason why not."""
    return [_checked(number, body) for number, body in islice(pairs, most)]


def _checked(number: int, body: JsonObject | Problem) -> Found:
    if isinstance(body, Problem):
        return (LineProblem(number, body.where, body.message),)
    name = body.pop("name", None)
    if not isinstance(name, str):
        return (LineProblem(number, "name", "missing" if name is None else "must be a string"),)
    try:
        client = parse("client", name, body)
    except InvalidSite as error:
        return tuple(LineProblem(number, problem.where, problem.message) for problem in error.problems)
    return Line(number, dump_text(client), _RUNTIME & body.keys())


def csv_header() -> str:
    """The first line of an export."""
    return _csv(COLUMNS)


def csv_line(plain: JsonObject) -> str:
    """A client as a line of an export."""
    return _csv([_cell(reduce(getitem, keys, plain), default) for keys, default in _CELLS])


def _cell(value: Any, default: Any) -> Any:
    """A value as its cell: matches as KIND=VALUE, names with spaces between, tables as JSON; empty for what it is by
    default. Matches with spaces in them are JSON: what follows a space could be read as a match, and a
    carriage return as the end of the line."""
    match value:
        case bool():
            return "" if value is default else str(value).lower()
        case [{}, *_] if any(text.split() != [text] for entry in value for text in entry.values()):
            return json.dumps(value, ensure_ascii=False)
        case [{}, *_]:
            return " ".join(f"{key}={text}" for entry in value for key, text in entry.items())
        case list():
            return " ".join(value)
        case dict():
            return json.dumps(value, ensure_ascii=False) if value else ""
    return value


def _csv(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _from_cells(header: Sequence[str], row: Sequence[str]) -> JsonObject | Problem:
    if len(row) != len(header):
        return Problem("line", f"has {len(row)} cells, the first line {len(header)}")
    if "\0" in "".join(row):
        return Problem("line", "has a character U+0000")
    body: JsonObject = {}
    for column, cell in zip(header, row, strict=True):
        if cell:
            head, _, tail = column.partition(".")
            place, key = (body.setdefault(head, {}), tail) if tail else (body, column)
            if not isinstance(place, dict):
                return Problem(head, "is not a table")
            place[key] = READERS.get(column, _value if head in _TABLES else str)(cell)
    return body


def _matches(cell: str) -> Any:
    """A JSON list; or `source=2001:db8::/32 tsig=key`, where a kind starts each, so that values may have spaces."""
    if cell.startswith("["):  # which no kind does
        matches = _object(f'{{"match": {cell}}}')
        return matches["match"] if isinstance(matches, dict) and len(matches) == 1 else cell
    entries: list[dict[str, str]] = []
    for word in cell.split(" "):
        step, equals, value = word.partition("=")
        if equals and step in tuple(Step):
            entries.append({step: value})
        elif entries:
            ((step, value),) = entries[-1].items()
            entries[-1] = {step: f"{value} {word}"}
        else:
            entries.append({step: value})
    return entries


def _number(cell: str) -> int | str:
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 20 else cell


def _flag(cell: str) -> bool | str:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _value(cell: str) -> int | str:
    """An attribute: a number where it reads as one, unless quoted as in JSON."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        return cell[1:-1]
    return _number(cell)


def _object(cell: str) -> Any:
    try:
        return parse_object(cell.encode())
    except Refusal:
        return cell


def _reader(field: Declared) -> Callable[[str], Any]:
    """How the cells of a field's column are read."""
    if field.name == "match":
        return _matches
    if field.mapping:
        return _object
    if field.many:
        return str.split
    return {bool: _flag, int: _number}.get(field.plain_type, str)


READERS: Mapping[str, Callable[[str], Any]] = {path: _reader(field) for path, field in FIELDS.items()}
_TABLES = frozenset(path for path, field in FIELDS.items() if field.mapping)
