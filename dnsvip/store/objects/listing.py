"""Pages of objects: filtered, sorted, and as fast among a million as among ten.

Pagination is by key, never by offset: a page starts after the last row of the previous one. Every order has an index,
and so has every filter of clients except the search inside names, which scans them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from dnsvip.store.access.visible import Visible, name_fits
from dnsvip.store.database.damage import place
from dnsvip.store.database.tables import KINDS, client_match
from dnsvip.store.objects.filters import Filters, around, conditions
from dnsvip.store.objects.rows import columns_of

COUNTED = 10_000
"""Matches of a filter are counted up to here."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Which objects of a kind, in which order: one of the kind's `sorts`.

    `after` is the position of the last object seen, (value, name). `prefix` is the start of a name and `inside` text in
    it; `filters` are the kind's own. `visible` are patterns that names must fit, None where all objects are visible.
    """

    kind: str
    limit: int
    sort: str = "name"
    descending: bool = False
    after: tuple[str | int, str] | None = None
    prefix: str | None = None
    inside: str | None = None
    filters: Filters = field(default_factory=dict)
    visible: Visible = None

    @property
    def filtered(self) -> bool:
        """Whether it selects some of the objects only."""
        return bool(self.prefix or self.inside or self.filters or self.visible is not None)


async def listed(connection: AsyncConnection, wanted: Listing) -> Sequence[Any]:
    """The rows: name, spec, the secret of a TSIG key, and `place`, the value they are sorted by."""
    table = KINDS[wanted.kind]
    by = _place(table, wanted.sort)
    query = _filtered(select(*columns_of(table), by.label("place")), table, wanted)
    order = [by] if by is table.c.name else [by, table.c.name]
    if wanted.after is not None:
        value, name = wanted.after
        here = tuple_(*order) if len(order) > 1 else by
        there = tuple_(place(value), place(name)) if len(order) > 1 else place(name)
        query = query.where(here < there if wanted.descending else here > there)
    ordered = [column.desc() for column in order] if wanted.descending else order
    rows: Sequence[Any] = (await connection.execute(query.order_by(*ordered).limit(wanted.limit))).all()
    return rows


async def counted(connection: AsyncConnection, wanted: Listing, most: int = COUNTED) -> int:
    """The number of matching objects, at most `most` + 1: counting them all would take as long as reading them."""
    table = KINDS[wanted.kind]
    some = _filtered(select(table.c.name), table, replace(wanted, after=None)).limit(most + 1)
    return int((await connection.execute(select(func.count()).select_from(some.subquery()))).scalar_one())


async def claimants(connection: AsyncConnection, step: str, value: str) -> list[str]:
    """The clients that claim a value, or a network that contains an address; the longest prefix comes first."""
    order = {text: at for at, text in enumerate(around(value))}
    rows = await connection.execute(
        select(client_match.c.value, client_match.c.client).where(
            client_match.c.step == step, client_match.c.value.in_(list(order))
        )
    )
    return [row.client for row in sorted(rows, key=lambda row: order[row.value])]


class _Inside(FunctionElement[bool]):
    """Whether a text contains another, byte for byte: several times faster than LIKE."""

    inherit_cache = True


@compiles(_Inside, "sqlite")
def _instr(element: _Inside, compiler: Any, **kw: Any) -> str:
    return f"instr({compiler.process(element.clauses, **kw)}) > 0"


@compiles(_Inside)
def _strpos(element: _Inside, compiler: Any, **kw: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **kw)}) > 0"


def _place(table: Any, sort: str) -> ColumnElement[Any]:
    column: ColumnElement[Any] = table.c["generation" if sort == "changed" else sort]
    return column


def _filtered(query: Select[Any], table: Any, wanted: Listing) -> Select[Any]:
    if wanted.prefix:
        query = query.where(table.c.name >= wanted.prefix, table.c.name < wanted.prefix + "\U0010ffff")
    if wanted.inside:
        query = query.where(_Inside(table.c.name, literal(wanted.inside)))
    if wanted.visible is not None:
        query = query.where(name_fits(table.c.name, wanted.kind, wanted.visible))
    return query.where(*conditions(wanted.kind, wanted.filters))
