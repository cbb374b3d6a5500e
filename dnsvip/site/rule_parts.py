"""What the rules of a site ask, in whichever module: a name refers to something, a number fits, nothing repeats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dnsvip.errors import Problem
from dnsvip.site import ClassCluster, Cluster
from dnsvip.suggestion import near


def refers(
    where: str, kind: str, name: str, known: Mapping[str, Any], family: type | None = None, *, suggest: bool = True
) -> Iterator[Problem]:
    """`name` is that of an object of the site, and one of `family` where that is given. Without `suggest`, for where a
    caller may name thousands, no near name is looked for."""
    if name in known and (family is None or isinstance(known[name], family)):
        return
    names = [key for key, value in known.items() if family is None or isinstance(value, family)]
    sort = {Cluster: "an IPv6 ", ClassCluster: "an IPv4 "}.get(family, "a ")  # type: ignore[arg-type]
    some, close = sorted(names)[:8], near(name, names) if suggest else []
    text = f"{name!r} is not {sort}{kind} of this site"
    meant = f"; did you mean {close[0]!r}?" if close else ""
    shown = f"{text}{meant} (there is: {', '.join(some) or 'none'})"
    yield Problem(where, shown, tuple((kind, known) for known in dict.fromkeys([*some, *close])), text)


def fits(where: str, field: str, bits: int, what: str, number: int) -> Iterator[Problem]:
    """A number fits into the bits of a field."""
    if not 0 <= number < 1 << bits:
        yield Problem(where, f"{what} is {number}: the field {field!r} has {bits} bits, so 0 to {(1 << bits) - 1}")


def attribute_fits(where: str, attribute: str, value: str | int, cluster: Cluster) -> Iterator[Problem]:
    """The value of an attribute, or claim, of a cluster is one that its addresses can carry."""
    table = cluster.values.get(attribute)
    if table is not None:
        if value not in table and value not in table.values():
            text = f"{value!r} is not in cluster.{cluster.name}.values: {', '.join(table)}"
            yield Problem(where, text, (("cluster", cluster.name),), f"{value!r} is not a value that a cluster knows")
    elif not isinstance(value, int):
        text = f"must be a number, as cluster.{cluster.name} has no table values.{attribute}"
        yield Problem(where, text, (("cluster", cluster.name),), "must be a number")
    else:
        yield from fits(where, attribute, cluster.widths[attribute], "value", value)


def repeated(items: Iterable[Any]) -> list[Any]:
    """What comes again, in the order that it does."""
    seen: set[Any] = set()
    return [item for item in items if item in seen or seen.add(item)]  # type: ignore[func-returns-value]
