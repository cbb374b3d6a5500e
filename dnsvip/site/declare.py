"""How a field or a choice is declared: once, beside its type, with the words that people read about it.

Everything that shows or takes a field reads this declaration: site file reference, API queries and OpenAPI,
store filters, CSV, command line and console. It says what a field means, never how a program draws it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class About:
    """What a field is called and means. `help` is one or two sentences.

    `listed` is the column of lists that shows the field, counted from 1, and 0 where none does; `heading` is the
    column's heading where that is not the field's name. Lists can be `filtered` and `sorted` by it. `refers` is the
    kind of object that the value names. A `runtime` field is set while the site runs, by API and command line, and a
    site file neither names nor resets it. A `secret` is only ever written. `media` is the media type of a document.
    A list or table has at `most` so many entries when it is written (0: as many as anybody likes); what is stored since
    before the bound is read all the same.
    """

    label: str
    help: str
    unit: str = ""
    listed: int = 0
    heading: str = ""
    filtered: bool = False
    sorted: bool = False
    refers: str = ""
    runtime: bool = False
    secret: bool = False
    media: str = ""
    most: int = 0

    def ui(self) -> dict[str, Any]:
        """The same as the `x-ui` part of a JSON schema."""
        shown: dict[str, Any] = {"label": self.label, "help": self.help}
        shown |= {"listed": bool(self.listed), "filtered": self.filtered}
        some = {"unit": self.unit, "refers": self.refers, "runtime": self.runtime, "secret": self.secret}
        some["column"] = self.listed
        return shown | {key: value for key, value in some.items() if value}

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        """The schema of the annotated type, with the words added."""
        schema: dict[str, Any] = handler(core_schema)
        if self.most:
            schema |= {"maxProperties" if schema.get("type") == "object" else "maxItems": self.most}
        return schema | {"x-ui": self.ui()} | ({"contentMediaType": self.media} if self.media else {})


class Choice(StrEnum):
    """Words that an operator chooses between. Each member is `WORD = "word", "Label", "Help."`."""

    _value_: str
    label: str
    help: str

    def __new__(cls, word: str, label: str = "", about: str = "") -> Choice:
        """The member that is equal to `word`."""
        member = str.__new__(cls, word)
        member._value_, member.label, member.help = word, label, about
        return member


@dataclass(frozen=True, slots=True)
class Declared:
    """One field of one class: its name, its words, its type without them, its default (MISSING where it has none),
    and its place among the fields of its class, from 0."""

    name: str
    about: About
    hint: Any
    default: Any
    order: int

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def choices(self) -> tuple[StrEnum, ...]:
        """The words that the field, or each item of it, takes; empty where it takes others too."""
        enum = next((part for part in _parts(self.hint) if isinstance(part, type) and issubclass(part, StrEnum)), None)
        return tuple(enum) if enum else ()

    @property
    def model(self) -> type | None:
        """The class of the table, or of each table of the list, that the field holds; None where it holds none."""
        model = _table(self.hint)
        return model if model is not None and declared(model) else None

    @property
    def plain_type(self) -> type:
        """The type of the value, or of each item of it; `object` where that is a form of its own."""
        return next((part for part in _parts(self.hint) if isinstance(part, type)), object)

    @property
    def many(self) -> bool:
        """Whether it holds a list."""
        return any(get_origin(part) is tuple for part in _unions(self.hint))

    @property
    def mapping(self) -> bool:
        """Whether it holds a table whose keys the operator names."""
        return any(
            isinstance(get_origin(part), type) and issubclass(get_origin(part), Mapping) for part in _unions(self.hint)
        )


@cache
def declared(model: type[Any]) -> Mapping[str, Declared]:
    """The declared fields of a class by name, in their order; none where the class declares none."""
    hints = get_type_hints(model, include_extras=True)
    declarations: dict[str, Declared] = {}
    for order, field in enumerate(fields(model)):
        hint = hints[field.name]
        about = next((part for part in getattr(hint, "__metadata__", ()) if isinstance(part, About)), None)
        if about is not None:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            declarations[field.name] = Declared(field.name, about, hint, default, order)
    return declarations


def walk(model: type, head: str = "") -> Iterator[tuple[str, Declared]]:
    """Dotted path and declaration of every field of a class and of the tables in it."""
    for name, field in declared(model).items():
        yield f"{head}{name}", field
        if field.model is not None:
            yield from walk(field.model, f"{head}{name}.")


@cache
def bounded(model: type[Any]) -> Sequence[tuple[tuple[str, ...], Declared]]:
    """Path and declaration of each list and table that has a bound, in a class and the tables in it."""
    return tuple((tuple(path.split(".")), field) for path, field in walk(model) if field.about.most)


def table_at(model: type[Any], path: Sequence[str | int]) -> type[Any] | None:
    """The class of the table at a path into data of a class; None where the path leads to none."""
    for key in path:
        if isinstance(key, str):
            hint = get_type_hints(model, include_extras=True).get(key)
            table = None if hint is None else _table(hint)
            if table is None:
                return None
            model = table
    return model


def _table(hint: Any) -> type | None:
    return next((part for part in _parts(hint) if isinstance(part, type) and is_dataclass(part)), None)


def _parts(hint: Any) -> Iterator[Any]:
    """The types in a type: of a value that may be absent, of the items of a list."""
    for part in _unions(hint):
        if get_origin(part) is tuple:
            yield from (inner for item in get_args(part) if item is not Ellipsis for inner in _parts(item))
        else:
            yield part


def _unions(hint: Any) -> Iterator[Any]:
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _unions(get_args(hint)[0])
    elif origin in (Union, UnionType):
        yield from (part for member in get_args(hint) for part in _unions(member))
    elif hint is not NoneType:
        yield hint
