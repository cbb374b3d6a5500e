"""Which rows a caller may see, as conditions of a query: the patterns of its rights on the names of objects.

A condition selects exactly the names that `rights.fits_any` accepts; pages, cursors and counts hold
visible rows only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, String, and_, false, literal, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from dnsvip.site.rights import IN_ZONES

Visible: TypeAlias = Sequence[str] | None
"""Patterns that a visible object's name fits; None where all are visible."""

FEW = 12
"""Patterns that a statement spells out, for the index. More are one parameter: each term of a statement takes the event
loop's time, and SQLite has no more than a thousand."""


def name_fits(column: ColumnElement[str], kind: str, patterns: Sequence[str]) -> ColumnElement[bool]:
    """Whether the name of an object of a kind fits one of the patterns."""
    some = _fits_any(column, [text for pattern in patterns for text in _forms(kind, pattern)])
    if kind not in IN_ZONES:
        return some
    zone = _ClosestZone(column)
    return or_(_fits_any(zone, patterns), and_(zone.is_(None), some))


def rows_visible(kind: Any, name: Any, visible: Mapping[str, Visible], *, others: bool) -> ColumnElement[bool]:
    """Whether a row about an object, in two columns, is visible: `visible` by kind; kinds that it lacks by `others`."""
    whole = [key for key, patterns in visible.items() if patterns is None]
    some = [and_(kind == key, name_fits(name, key, patterns)) for key, patterns in visible.items() if patterns]
    rest = [kind.not_in(list(visible))] if others else []
    return or_(false(), kind.in_(whole), *some, *rest)


def _forms(kind: str, pattern: str) -> tuple[str, ...]:
    """The patterns of whole names: a service without a zone is at or below a pattern, a key's name is CLUSTER/SLOT."""
    if kind in IN_ZONES:
        return pattern, f"*.{pattern}"
    return (pattern, f"{pattern}/*") if kind == "key" else (pattern,)


def _fits_any(column: ColumnElement[str], patterns: Sequence[str]) -> ColumnElement[bool]:
    if len(patterns) <= FEW:
        return or_(false(), *(_fits(column, pattern) for pattern in patterns))
    return _AnyGlob(column, literal(json.dumps(patterns)), literal(json.dumps(list(map(_like_form, patterns)))))


def _fits(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    head, star, tail = pattern.partition("*")
    if not star:
        return column == pattern
    if not tail:  # a range, for the index
        return and_(column >= head, column < head + "\U0010ffff")
    return _Glob(column, literal(pattern), literal(_like_form(pattern)))


def _like_form(pattern: str) -> str:
    """A pattern as LIKE has it."""
    return pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")


class _ClosestZone(FunctionElement[str]):
    """The zone that a name is in: the longest suffix of it that is one; null where it is in none."""

    type = String()
    inherit_cache = True


_AROUND = (
    "(WITH RECURSIVE around(t) AS (SELECT {first} UNION ALL SELECT {root} UNION ALL SELECT {shorter} FROM around "
    "WHERE {dot} > 0) SELECT zone.name FROM around JOIN zone ON zone.name = around.t "
    "ORDER BY around.t = '.', length(around.t) DESC LIMIT 1)"
)


@compiles(_ClosestZone, "sqlite")
def _closest_sqlite(element: _ClosestZone, compiler: Any, **kw: Any) -> str:
    (column,) = element.clauses
    dot = "instr(t, '.')"
    return _AROUND.format(first=compiler.process(column, **kw), root="'.'", shorter=f"substr(t, {dot} + 1)", dot=dot)


@compiles(_ClosestZone)
def _closest(element: _ClosestZone, compiler: Any, **kw: Any) -> str:
    (column,) = element.clauses
    dot, plain = "strpos(t, '.')", 'COLLATE "C"'
    return _AROUND.format(
        first=f"CAST({compiler.process(column, **kw)} AS text) {plain}",
        root=f"CAST('.' AS text) {plain}",
        shorter=f"substr(t, {dot} + 1) {plain}",
        dot=dot,
    )


class _Glob(FunctionElement[bool]):
    """Whether a text fits a pattern, case by case; the second form of the pattern is LIKE's, which SQLite folds."""

    inherit_cache = True


@compiles(_Glob, "sqlite")
def _glob(element: _Glob, compiler: Any, **kw: Any) -> str:
    column, pattern, _ = element.clauses
    return f"{compiler.process(column, **kw)} GLOB {compiler.process(pattern, **kw)}"


@compiles(_Glob)
def _like(element: _Glob, compiler: Any, **kw: Any) -> str:
    column, _, like = element.clauses
    return f"{compiler.process(column, **kw)} LIKE {compiler.process(like, **kw)}"


class _AnyGlob(FunctionElement[bool]):
    """As `_Glob`, of many patterns: both forms are lists in JSON, which the database reads once."""

    inherit_cache = True


_SOME = (
    "EXISTS (WITH some(pattern) AS MATERIALIZED (SELECT value FROM json_each({patterns})) "
    "SELECT 1 FROM (SELECT {column} AS fitting LIMIT 1) JOIN some ON fitting GLOB pattern)"
)


@compiles(_AnyGlob, "sqlite")
def _any_glob(element: _AnyGlob, compiler: Any, **kw: Any) -> str:
    column, patterns, _ = element.clauses
    return _SOME.format(patterns=compiler.process(patterns, **kw), column=compiler.process(column, **kw))


@compiles(_AnyGlob)
def _any_like(element: _AnyGlob, compiler: Any, **kw: Any) -> str:
    column, _, likes = element.clauses
    some = f"ARRAY(SELECT json_array_elements_text(CAST({compiler.process(likes, **kw)} AS json)))"
    return f"({compiler.process(column, **kw)}) LIKE ANY ({some})"
