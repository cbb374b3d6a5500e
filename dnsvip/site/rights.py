"""What a caller of the API may do: scopes, roles as named sets of scopes, and whether one covers another. Pure.

A scope allows actions on kinds of objects, and can be narrowed by patterns (`*` matches anything) to
clusters, zones and clients. Rights are a set of scopes; what no scope allows is denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site import STRICT, registry


class Action(StrEnum):
    """What a caller does to an object: read, create and change, delete, or rotate its keys."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ROTATE = "rotate"


ALL = "*"
OBJECTS = tuple(registry.KINDS)
LOOKS = ("audit", "status", "node", "metrics", "decode", "explain")
KINDS = (*OBJECTS, *LOOKS, "key", "cookies", "token", "site", "acme")
"""Everything that a scope can name. `site` is a whole site at once; `acme` are TXT records at `_acme-challenge`."""

Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*/-]{1,254}$", examples=["acme-*"])]
KindName = Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)}|\*)$", examples=["client"])]

NARROWED: Mapping[str, str] = {
    "cluster": "clusters",
    "key": "clusters",
    "zone": "zones",
    "acme": "zones",
    "service": "zones",
    "client": "clients",
}
"""Kind -> the patterns that the name of one of its objects must fit; a service's is its zone."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on kinds, narrowed to objects whose names match. Kinds without patterns are not narrowed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    actions: tuple[Action, ...]
    kinds: tuple[KindName, ...]
    clusters: Annotated[tuple[Pattern, ...], Field(max_length=64)] = (ALL,)
    zones: Annotated[tuple[Pattern, ...], Field(max_length=64)] = (ALL,)
    clients: Annotated[tuple[Pattern, ...], Field(max_length=64)] = (ALL,)

    def allows(self, action: Action, kind: str, name: str | None) -> bool:
        """Whether it allows the action on the object; `name` None is any object of the kind."""
        if action not in self.actions or not {ALL, kind} & set(self.kinds):
            return False
        patterns = getattr(self, NARROWED[kind]) if kind in NARROWED else (ALL,)
        return name is None or any(_fits(kind, name, pattern) for pattern in patterns)

    def covers(self, other: Scope) -> bool:
        """Whether it allows everything that `other` allows. Patterns are compared as text."""
        return (
            set(self.actions) >= set(other.actions)
            and (ALL in self.kinds or set(self.kinds) >= set(other.kinds))
            and all(
                ALL in getattr(self, patterns) or set(getattr(self, patterns)) >= set(getattr(other, patterns))
                for patterns in ("clusters", "zones", "clients")
            )
        )

    def __str__(self) -> str:
        narrow = (
            f" {what}={','.join(getattr(self, what))}"
            for what in ("clusters", "zones", "clients")
            if getattr(self, what) != (ALL,)
        )
        return f"{','.join(self.actions)}:{','.join(self.kinds)}{''.join(narrow)}"


@dataclass(frozen=True, slots=True)
class Rights:
    """Everything that a caller is allowed to do."""

    scopes: tuple[Scope, ...] = field(default=())

    def allow(self, action: Action, kind: str, name: str | None = None) -> bool:
        """Whether any scope allows it."""
        return any(scope.allows(action, kind, name) for scope in self.scopes)

    def cover(self, others: Iterable[Scope]) -> bool:
        """Whether each of the scopes lies within one of these: nobody grants more than they have."""
        return all(any(own.covers(other) for own in self.scopes) for other in others)


READ, WRITE, DELETE, ROTATE = Action.READ, Action.WRITE, Action.DELETE, Action.ROTATE
_VISIBLE = tuple(kind for kind in KINDS if kind not in ("token", "audit"))

ROLES: Mapping[str, tuple[Scope, ...]] = {
    "admin": (Scope(tuple(Action), (ALL,)),),
    "operator": (
        Scope((READ,), (ALL,)),
        Scope((WRITE, DELETE), ("client", "tier", "pool", "service", "zone")),
        Scope((ROTATE,), ("key", "cookies")),
    ),
    "viewer": (Scope((READ,), _VISIBLE),),
    "auditor": (Scope((READ,), (ALL,)),),
    "client-editor": (Scope((READ,), ("client", "tier")), Scope((WRITE, DELETE), ("client",))),
    "zone-editor": (Scope((READ, WRITE), ("zone",)),),
    "acme": (Scope((READ,), ("zone",)), Scope((WRITE,), ("acme",))),
    "metrics": (Scope((READ,), ("metrics", "status")),),
}
"""Role -> its scopes."""

EVERYTHING = Rights(ROLES["admin"])
"""The rights of tokens from before scopes existed."""


def wanted(action: Action, kind: str, name: str | None = None) -> str:
    """The missing scope in the words of a 403."""
    if name is not None and kind in NARROWED:
        return f"{action.value}:{kind} {NARROWED[kind]}={name}"
    return f"{action.value}:{kind}"


def _fits(kind: str, name: str, pattern: str) -> bool:
    if kind == "service":  # of a zone: at its apex or below
        return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")
    return fnmatchcase(name, pattern)
