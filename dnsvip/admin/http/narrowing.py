"""What a look at the whole site (status, nodes, metrics) shows of objects that its scope does not reach: nothing.

Such a look tells of objects by the keys of its tables, the fields of its rows, the labels of its samples and the
warnings of its nodes. Each is left out where no scope of the look reaches the object, whoever added it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import Metric

from dnsvip.site.plain import JsonObject
from dnsvip.site.rights import NARROWED, Action, Rights, fits_any

TABLES: Mapping[str, str] = {
    "tiers": "tier",
    "new_flows": "tier",
    "clusters": "cluster",
    "zones": "zone",
    "broken_zones": "zone",
    "services": "service",
    "clients": "client",
}
"""Key of a table, or of a list of names -> the kind of the objects that it tells of by name."""

OBJECTS, PLACES = ("broken_objects",), ("where", "object")
"""Keys of lists, and of fields, with objects as KIND.NAME."""

WARNINGS, ABOUT = "warnings", "about"
"""Texts of a node, and for each the (kind, name) that it is about, "" for none."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The objects that a look shows: by kind the patterns of their names; a kind that is not there is shown whole."""

    patterns: Mapping[str, tuple[str, ...]]
    zones: Collection[str] = field(default=(), compare=False, repr=False)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def shows(self, kind: str, name: str) -> bool:
        """Whether the look reaches an object."""
        return kind not in self.patterns or fits_any(kind, name, self.patterns[kind], self.zones)

    def document(self, value: Any) -> Any:
        """JSON data without what tells of hidden objects."""
        if not self.patterns:
            return value
        if isinstance(value, Mapping):
            return {key: self._entry(key, entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(entry) for entry in value if self._shows_row(entry)]
        return value

    def node(self, detail: Mapping[str, Any]) -> JsonObject:
        """A node's account of itself: without warnings about hidden objects, or about nobody knows what."""
        texts, about = list(detail.get(WARNINGS, ())), list(detail.get(ABOUT, ()))
        if self.patterns:
            known = [pair for pair in zip(texts, about, strict=False) if len(pair[1]) == 2]
            shown = [text for text, (kind, name) in known if self.shows(kind, name)]
            hidden = len(texts) - len(shown)
            texts = [*shown, f"{hidden} more, which this token may not see"] if hidden else shown
        rest = {key: value for key, value in detail.items() if key not in (WARNINGS, ABOUT)}
        return {**self.document(rest), WARNINGS: texts}

    def totals(self, names: Iterable[str]) -> set[str]:
        """The names of counters, SOURCE.TABLE.NAME, that tell of no hidden object."""
        parts = {name: name.split(".", 2) for name in names}
        return {
            name
            for name, (_, *rest) in parts.items()
            if len(rest) < 2 or rest[0] not in TABLES or self.shows(TABLES[rest[0]], rest[1])
        }

    def metrics(self, families: Iterable[Metric]) -> Iterator[Metric]:
        """Metrics without the samples of hidden objects, nor counts that include them."""
        for family in families:
            kept = copy(family)
            kept.samples = [sample for sample in family.samples if self._shows_row(sample.labels)]
            yield kept

    def _entry(self, key: str, entry: Any) -> Any:
        kind = TABLES.get(key)
        if key in OBJECTS and isinstance(entry, list | tuple):
            return [item for item in entry if self._shows_place(item)]
        if kind in self.patterns and isinstance(entry, Mapping):
            return {name: self.document(value) for name, value in entry.items() if self.shows(kind or "", str(name))}
        if kind in self.patterns and isinstance(entry, list | tuple):
            rows = [row for row in entry if not isinstance(row, str) or self.shows(kind or "", row)]
            return self.document(rows)
        return self.document(entry)

    def _shows_row(self, row: Any) -> bool:
        """Whether a row names no hidden object: by a field or label called as its kind is, or as the kind counted."""
        if not isinstance(row, Mapping):
            return True
        named = all(not isinstance(row.get(kind), str) or self.shows(kind, row[kind]) for kind in self.patterns)
        placed = all(self._shows_place(row[key]) for key in PLACES if key in row)
        return named and placed and row.get("kind") not in self.patterns

    def _shows_place(self, place: object) -> bool:
        kind, _, name = str(place).partition(".")
        return self.shows(kind, name)


def narrowed(rights: Rights, look: str) -> Narrowed:
    """What a look shows that rights allow."""
    by_kind = {kind: rights.patterns(Action.READ, kind, look) for kind in NARROWED}
    return Narrowed({kind: patterns for kind, patterns in by_kind.items() if patterns is not None}, rights.zones)
