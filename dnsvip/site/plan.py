"""The changes from one site to another: pure, and the same for `apply`, its dry run and the API.

What API and CLI set while the site runs (`Kind.runtime`) is kept, and only objects that a
site file made are deleted for being absent from one. It knows no database and no keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from dnsvip.errors import Problem
from dnsvip.site import Cluster, Site, Zone
from dnsvip.site.plain import SiteObject, collection
from dnsvip.site.registry import COLLECTIONS, KINDS, SINGLE
from dnsvip.site.unreadable import Unreadable

Action: TypeAlias = Literal["+", "~", "-"]
Origin: TypeAlias = Literal["site", "api"]
Origins: TypeAlias = Mapping[tuple[str, str], Origin]

_NONE: Mapping[tuple[str, str], Unreadable] = {}


@dataclass(frozen=True, slots=True)
class Change:
    """One object made (+), altered (~) or removed (-). `before` and `after` are equal where a site file
    only takes over an object that the API made. `unreadable` is in the place of a `before` that cannot be read.
    With `end_flows` the known flows of a client that is removed end."""

    kind: str
    name: str
    action: Action
    before: SiteObject | None
    after: SiteObject | None
    unreadable: Unreadable | None = None
    end_flows: bool = False

    @property
    def where(self) -> str:
        """The dotted path that an operator knows the object by."""
        return f"{self.kind}.{self.name}" if self.name else self.kind


def plan(
    old: Site, new: Site, origins: Origins, unreadable: Mapping[tuple[str, str], Unreadable] = _NONE
) -> tuple[Change, ...]:
    """The changes that turn a stored site into that of a site file; empty where they are equal.

    Parents come before children, removals last and children first. Of `unreadable` objects, by (kind, name), those that
    the site file names are replaced, and those that a site file made and this one does not name are removed.
    """
    changes = [change for kind in COLLECTIONS for change in _alter(kind, old, new, origins, unreadable)]
    if (SINGLE, "") in unreadable:
        changes.append(Change(SINGLE, "", "~", None, new.classify, unreadable[SINGLE, ""]))
    elif old.classify != new.classify:
        changes.append(Change(SINGLE, "", "~", old.classify, new.classify))
    for kind in reversed(tuple(COLLECTIONS)):
        changes += _remove(kind, old, new, origins)
        changes += _remove_unreadable(kind, new, origins, unreadable)
    return tuple(changes)


def keep_runtime(kind: str, before: SiteObject, after: SiteObject) -> SiteObject:
    """`after` with the fields that a site file does not set taken from `before`."""
    kept: Any = after
    if isinstance(after, Zone) and after.is_derived:
        kept = replace(after, text=before.text if isinstance(before, Zone) and before.is_derived else "")
    for path in KINDS[kind].runtime:
        head, _, tail = path.partition(".")
        if not hasattr(before, head) or not hasattr(after, head):
            continue
        value = _merge_items(getattr(before, head), getattr(after, head), tail) if tail else getattr(before, head)
        kept = replace(kept, **{head: value})
    return kept  # type: ignore[no-any-return]


def effects(changes: tuple[Change, ...]) -> list[Problem]:
    """What a plan breaks on purpose, to show before it is applied."""
    return [problem for change in changes for problem in _effects(change)]


def unsigned_warning(before: Zone, after: Zone | None) -> Problem | None:
    """What a zone that is no longer signed, or removed (None), needs at its parent."""
    if not before.is_signed or (after is not None and after.is_signed):
        return None
    what = "is no longer signed" if after is not None else "is removed and its keys are destroyed"
    text = f"{what}: while the parent has a DS record of it, validating resolvers fail for all its names"
    return Problem(f"zone.{before.name}", text, about=("zone", before.name))


def _alter(
    kind: str, old: Site, new: Site, origins: Origins, unreadable: Mapping[tuple[str, str], Unreadable]
) -> Iterator[Change]:
    existing = collection(old, kind)
    for name, wanted in collection(new, kind).items():
        broken = unreadable.get((kind, name))
        if broken is not None:
            after = keep_runtime(kind, broken.stand_in, wanted) if broken.stand_in else wanted
            yield Change(kind, name, "~", None, after, broken)
            continue
        before = existing.get(name)
        if before is None:
            yield Change(kind, name, "+", None, wanted)
            continue
        after = keep_runtime(kind, before, wanted)
        if after != before or origins.get((kind, name)) == "api":
            yield Change(kind, name, "~", before, after)


def _remove(kind: str, old: Site, new: Site, origins: Origins) -> Iterator[Change]:
    wanted = collection(new, kind)
    for name, before in collection(old, kind).items():
        if name not in wanted and origins.get((kind, name)) == "site":
            yield Change(kind, name, "-", before, None)


def _remove_unreadable(
    kind: str, new: Site, origins: Origins, unreadable: Mapping[tuple[str, str], Unreadable]
) -> Iterator[Change]:
    wanted = collection(new, kind)
    for (of_kind, name), broken in unreadable.items():
        if of_kind == kind and name not in wanted and origins.get((kind, name)) == "site":
            yield Change(kind, name, "-", None, None, broken)


def _merge_items(before: Any, after: Any, field: str) -> Any:
    known = {item.name: getattr(item, field) for item in before}
    return tuple(replace(item, **{field: known[item.name]}) if item.name in known else item for item in after)


def _effects(change: Change) -> Iterator[Problem]:
    before, after = change.before, change.after
    if change.unreadable and change.kind == "cluster" and not isinstance(after, Cluster):
        yield Problem(change.where, "its keys are destroyed; every address issued so far is rejected")
    if isinstance(before, Zone) and (warning := unsigned_warning(before, after if isinstance(after, Zone) else None)):
        yield warning
    if not isinstance(before, Cluster):
        return
    if after is None:
        yield Problem(change.where, "its keys are destroyed; every address issued so far is rejected")
    elif not isinstance(after, Cluster) or before.address_layout != after.address_layout:
        yield Problem(change.where, "addresses issued so far are rejected: prefix, layout, claims or tag_bits change")
