"""Objects of a site to and from plain data: one form for site file, API body and database.

`parse` turns plain data into a model object or raises InvalidSite with every problem in it, each
under the dotted path an operator knows; `dump` is its inverse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from ipaddress import ip_network
from math import isfinite
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from dnsvip.errors import CodecError, InvalidSite, Problem
from dnsvip.site import (
    ClassCluster,
    Classify,
    Client,
    Cluster,
    DnsGroup,
    DnsToken,
    Pool,
    Service,
    Site,
    Tier,
    TsigKey,
    Zone,
)
from dnsvip.site.declare import bounded, table_at
from dnsvip.site.registry import KINDS
from dnsvip.suggestion import did_you_mean, near

JsonObject: TypeAlias = dict[str, Any]
SiteObject: TypeAlias = (
    Cluster | ClassCluster | Tier | Pool | Zone | Service | DnsGroup | TsigKey | DnsToken | Client | Classify
)

_ADAPTERS: dict[type[SiteObject], TypeAdapter[Any]] = {}

MOST_PROBLEMS = 200
"""Problems of one object that are named; the others are counted."""


def check_counts(kind: str, name: str, data: Mapping[str, Any], before: SiteObject | None = None) -> None:
    """Raise InvalidSite where a list or table has more entries than it may, and more than in the object that was there
    `before`. No entry is looked at."""
    where = f"{kind}.{name}" if name else kind
    if problems := list(_too_many(where, KINDS[kind].class_of(data), data, before)):
        raise InvalidSite(problems)


def parse(kind: str, name: str, data: Mapping[str, Any], *, counted: bool = False) -> SiteObject:
    """The object `kind.name` from plain data without its name; raises InvalidSite. With `counted` the numbers of its
    entries have been checked."""
    where = f"{kind}.{name}" if name else kind
    if KINDS[kind].named and data.get("name", name) != name:
        raise InvalidSite([Problem(f"{where}.name", f"does not fit the name {name!r}")])
    body = {**data, "name": name} if KINDS[kind].named else dict(data)
    target = KINDS[kind].class_of(body)
    if not counted:
        check_counts(kind, name, data)
    if problems := list(_too_large(where, body)):
        raise InvalidSite(problems)
    try:
        parsed: SiteObject = adapter(target).validate_python(body)
        derive(parsed)
    except ValidationError as error:
        faults = error.errors()
        problems = [problem_of(where, target, fault) for fault in faults[:MOST_PROBLEMS]]
        if len(faults) > MOST_PROBLEMS:
            problems.append(Problem(where, f"has {len(faults) - MOST_PROBLEMS} more faults"))
        raise InvalidSite(problems) from None
    except CodecError as error:
        raise InvalidSite([Problem(where, str(error))]) from None
    return parsed


def dump(thing: SiteObject, *, defaults: bool = True) -> JsonObject:
    """Plain JSON-ready data for an object, its name included; without `defaults` only what differs from them."""
    plain: JsonObject = adapter(type(thing)).dump_python(thing, mode="json", exclude_defaults=not defaults)
    return plain


def dump_text(thing: SiteObject) -> str:
    """The same as compact JSON, in half the time."""
    return adapter(type(thing)).dump_json(thing).decode()


def collection(site: Site, kind: str) -> Mapping[str, Any]:
    """All objects of one kind by name."""
    mapping: Mapping[str, Any] = getattr(site, KINDS[kind].collection)
    return mapping


def canonical_name(kind: str, name: str) -> str:
    """The form of a name that an object of a kind is filed under; of kinds that are no objects, the name itself."""
    return KINDS[kind].canonical(name) if kind in KINDS else name


def adapter(target: type[SiteObject]) -> TypeAdapter[Any]:
    """What checks and dumps objects of a class; made when it is first needed, as that takes milliseconds."""
    if target not in _ADAPTERS:
        _ADAPTERS[target] = TypeAdapter(target)
    return _ADAPTERS[target]


def _too_many(where: str, target: type, body: Any, before: SiteObject | None) -> Iterator[Problem]:
    """Lists and tables with more entries than their declarations allow: before anything looks at the entries."""
    for path, field in bounded(target):
        value, known = body, before
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
            known = getattr(known, key, None)
        number = len(value) if isinstance(value, list | tuple | Mapping) else 0
        if number > field.about.most and number > (len(known) if isinstance(known, tuple | Mapping) else 0):
            yield Problem(
                f"{where}.{'.'.join(path)}", f"must have at most {field.about.most} entries (it has {number})"
            )


def _too_large(where: str, value: Any) -> Iterator[Problem]:
    """Numbers that neither JSON nor a database can hold: infinities, NaN, and whole numbers of more than 63 bits."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _too_large(f"{where}.{key}", item)
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _too_large(f"{where}.{at}", item)
    elif isinstance(value, float) and not isfinite(value):
        yield Problem(where, "must be a finite number")
    elif isinstance(value, int) and abs(value) >= 1 << 63:
        yield Problem(where, f"must be less than {1 << 63}")


def _unknown(key: str, table: type[Any] | None) -> str:
    """What to say of an unknown key: the known ones, and that which is probably meant."""
    known = [known_field.name for known_field in fields(table) if known_field.name != "name"] if table else []
    meant = did_you_mean(key, known)
    return f"unknown key{meant}" + (f"{' K' if meant else '; k'}nown here: {', '.join(known)}" if known else "")


def derive(thing: SiteObject) -> None:
    """Compute what an object derives from its numbers, so that wrong numbers are refused here; raises CodecError."""
    if isinstance(thing, Cluster):
        _ = thing.address_layout, thing.label_format, thing.source_format
    elif isinstance(thing, ClassCluster):
        _ = thing.table


def problem_of(where: str, target: type[Any], item: Any) -> Problem:
    """One of pydantic's errors (an item of `ValidationError.errors()`) as operators read it."""
    path = ".".join(filter(None, [where, *(str(part) for part in item["loc"])]))
    kind, value = item["type"], item.get("input")
    if kind == "unexpected_keyword_argument":
        return Problem(path, _unknown(str(item["loc"][-1]), table_at(target, item["loc"][:-1])))
    if kind in ("missing", "missing_argument"):
        return Problem(path, "missing")
    shown = "" if isinstance(value, dict | list | tuple) or "secret" in path else f" (it is {value!r})"
    return Problem(path, _message(item, shown))


def _message(item: Any, shown: str) -> str:
    """What is wrong with one value, in words: its choices where it has some, and the one that is probably meant."""
    kind, context = item["type"], item.get("ctx", {})
    value = item.get("input") if shown else None
    word = value if isinstance(value, str) else ""
    text = str(item["msg"]).removeprefix("Value error, ")
    message = text[:1].lower() + text[1:]
    if kind in ("enum", "literal_error"):
        known = _QUOTED.findall(str(context.get("expected", "")))
        return f"{message}{shown}{did_you_mean(word, known)}"
    if kind == "string_pattern_mismatch" and (choices := _CHOICES.fullmatch(context["pattern"])):
        known = [word.replace("\\", "") for word in choices[2].split("|")]
        sign = "-" if choices[1] and word.startswith("-") else ""
        close = near(word.removeprefix("-"), known)
        meant = f"; did you mean {sign + close[0]!r}?" if close else ""
        return f"must be one of {', '.join(known)}{', or one after a -' if choices[1] else ''}{shown}{meant}"
    network, host_bits, _ = message.partition(" has host bits set")
    if host_bits or "network" in kind:
        return _masked(network if host_bits else word) or message + shown
    return message + shown


_QUOTED = re.compile(r"'([^']*)'")
_CHOICES = re.compile(r"\^(-\?)?\(((?:[\w-]+|\\\*)(?:\|(?:[\w-]+|\\\*))*)\)\$")
"""A pattern that is nothing but words to choose from, perhaps after a minus."""

LONGEST_NETWORK = 49


def _masked(text: str) -> str:
    """What is wrong with a network that has host bits, and the one that is probably meant; empty for anything else."""
    try:
        network = ip_network(text, strict=False) if len(text) <= LONGEST_NETWORK else None
    except ValueError:
        return ""
    return f"{text} has host bits set; did you mean {network}?" if network and str(network) != text else ""


def merged(target: Any, patch: Any) -> Any:
    """`target` with a JSON merge patch put on it (RFC 7396): null removes a key, objects merge, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
