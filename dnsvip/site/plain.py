"""Objects of a site to and from plain data: one form for site file, API body and database.

`parse` turns plain data into a model object or raises InvalidSite with every problem in it, each
under the dotted path an operator knows; `dump` is its inverse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from dnsvip.errors import CodecError, InvalidSite, Problem
from dnsvip.site import ClassCluster, Classify, Client, Cluster, Pool, Service, Site, Tier, TsigKey, Zone

JsonObject: TypeAlias = dict[str, Any]
SiteObject: TypeAlias = Cluster | ClassCluster | Tier | Pool | Zone | Service | TsigKey | Client | Classify

COLLECTIONS: Mapping[str, str] = {
    "cluster": "clusters",
    "tier": "tiers",
    "pool": "pools",
    "zone": "zones",
    "service": "services",
    "tsig": "tsig_keys",
    "client": "clients",
}
"""Kind of object (a table of the site file) -> the Site's mapping that holds it. Parents come first."""

SINGLE = "classify"
"""The one kind that exists once and has no name."""

RUNTIME_FIELDS: Mapping[str, tuple[str, ...]] = {"client": ("state", "key_generation"), "pool": ("servers.state",)}
"""What API and CLI set while the site runs; a site file does not name it and does not reset it."""

TYPES: Mapping[str, type[SiteObject]] = {
    "tier": Tier,
    "pool": Pool,
    "zone": Zone,
    "service": Service,
    "tsig": TsigKey,
    "client": Client,
    "classify": Classify,
}
"""Kind of object -> its class; a cluster has two, see `type_of`."""


_ADAPTERS: Mapping[type[SiteObject], TypeAdapter[Any]] = {
    target: TypeAdapter(target) for target in (*TYPES.values(), Cluster, ClassCluster)
}


def parse(kind: str, name: str, data: Mapping[str, Any]) -> SiteObject:
    """The object `kind.name` from plain data without its name; raises InvalidSite."""
    where = f"{kind}.{name}" if name else kind
    if kind != SINGLE and data.get("name", name) != name:
        raise InvalidSite([Problem(f"{where}.name", f"does not fit the name {name!r}")])
    body = dict(data) if kind == SINGLE else {**data, "name": name}
    target = type_of(kind, body)
    try:
        thing: SiteObject = _adapter(target).validate_python(body)
        _derive(thing)
    except ValidationError as error:
        raise InvalidSite([problem_of(where, target, item) for item in error.errors()]) from None
    except CodecError as error:
        raise InvalidSite([Problem(where, str(error))]) from None
    return thing


def dump(thing: SiteObject, *, defaults: bool = True) -> JsonObject:
    """Plain JSON-ready data for an object, its name included; without `defaults` only what differs from them."""
    plain: JsonObject = _adapter(type(thing)).dump_python(thing, mode="json", exclude_defaults=not defaults)
    return plain


def dump_text(thing: SiteObject) -> str:
    """The same as compact JSON, in half the time."""
    return _adapter(type(thing)).dump_json(thing).decode()


def type_of(kind: str, body: Mapping[str, Any]) -> type[SiteObject]:
    """The class for a kind; a cluster's family is that of its prefix."""
    if kind == "cluster":
        return Cluster if ":" in str(body.get("prefix", ":")) else ClassCluster
    return TYPES[kind]


def collection(site: Site, kind: str) -> Mapping[str, Any]:
    """All objects of one kind by name."""
    mapping: Mapping[str, Any] = getattr(site, COLLECTIONS[kind])
    return mapping


def canonical_name(kind: str, name: str) -> str:
    """The form of a name that a kind is filed under: DNS names in lower case and without a last dot."""
    return name.lower().rstrip(".") or "." if kind in ("zone", "service", "tsig") else name


def _adapter(target: type[SiteObject]) -> TypeAdapter[Any]:
    return _ADAPTERS[target]


def _derive(thing: SiteObject) -> None:
    """Run what an object derives from its numbers, so that a wrong one is found now."""
    if isinstance(thing, Cluster):
        _ = thing.address_layout
    elif isinstance(thing, ClassCluster):
        _ = thing.table


def problem_of(where: str, target: type[Any], item: Any) -> Problem:
    """One of pydantic's errors (an item of `ValidationError.errors()`) in an operator's words."""
    path = ".".join(filter(None, [where, *(str(part) for part in item["loc"])]))
    kind, value = item["type"], item.get("input")
    if kind == "unexpected_keyword_argument":
        known = ", ".join(f.name for f in fields(target) if f.name != "name")
        depth = " one" if len(item["loc"]) > 1 else f" one; known here: {known}"
        return Problem(path, f"unknown key, or not a settable{depth}")
    if kind in ("missing", "missing_argument"):
        return Problem(path, "missing")
    message = item["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(value, dict | list | tuple) or "secret" in path else f" (it is {value!r})"
    return Problem(path, message[:1].lower() + message[1:] + shown)
