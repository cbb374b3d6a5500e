"""Filters of lists as SQL conditions: every field declared as filtered, and the special cases.

Each filter of clients has an index. Objects of the other kinds are few, and their filters scan them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, Boolean, ColumnElement, Double, Select, Text, and_, cast, func, literal, or_, select
from sqlalchemy.types import TypeEngine

from dnsvip.site import ClientState, Step, registry
from dnsvip.store.database.tables import KINDS, IsJson, client, client_match, read_field

Filters: TypeAlias = Mapping[str, str]
"""The name of a filter -> the value to match, a flag as `true` or `false`; an absent filter selects everything."""

Filter: TypeAlias = Callable[[str, Filters], ColumnElement[bool]]
"""From the value to match, and all filters of the query, to the condition."""

PREFIX_STEPS = (Step.SOURCE.value, Step.ECS.value)


def conditions(kind: str, filters: Filters) -> list[ColumnElement[bool]]:
    """The conditions of a query of a kind's table."""
    return [(_SPECIAL.get((kind, name)) or _field(kind, name))(value, filters) for name, value in filters.items()]


def around(value: str) -> list[str]:
    """All networks that contain an address or network, in canonical text; else the value itself."""
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return [value, value.lower().rstrip(".")]
    return [str(_shorter(network, length)) for length in range(network.prefixlen, -1, -1)]


def _shorter(network: IPv4Network | IPv6Network, length: int) -> IPv4Network | IPv6Network:
    return network.supernet(new_prefix=length)


def _field(kind: str, name: str) -> Filter:
    """A field of the object has the value: its column, or else the JSON of the object, which leaves defaults out."""
    table, declared = KINDS[kind], registry.KINDS[kind].fields[name]
    sql_type, parse = _TYPED.get(declared.plain_type, _TEXT)

    def condition(value: str, _filters: Filters) -> ColumnElement[bool]:
        wanted = literal(parse(value), sql_type)
        if name in table.c:
            return table.c[name] == wanted
        stored: ColumnElement[Any] = cast(read_field(name), sql_type)
        default = declared.default
        if isinstance(default, str | float | int):
            stored = func.coalesce(stored, literal(str(default) if isinstance(default, str) else default, sql_type))
        return and_(IsJson(), stored == wanted)

    return condition


_TEXT: tuple[TypeEngine[Any], Callable[[str], Any]] = (Text(), str)
_TYPED: Mapping[type, tuple[TypeEngine[Any], Callable[[str], Any]]] = {
    bool: (Boolean(), "true".__eq__),
    int: (BigInteger(), int),
    float: (Double(), float),
}
"""Type of a field -> its type in SQL, and its value from the text of a filter; SQLite has flags in JSON as 0 and 1,
PostgreSQL as text."""


def _either(*names: str) -> Filter:
    return lambda value, given: or_(*(_field("service", name)(value, given) for name in names))


def _tier(value: str, filters: Filters) -> ColumnElement[bool]:
    # With both filters the state is the rarer one: keep the planner from scanning the tier.
    rare = filters.get("state") not in (None, ClientState.ENABLED.value)
    return (func.coalesce(client.c.tier, "") if rare else client.c.tier) == value


def _match(value: str, _filters: Filters) -> ColumnElement[bool]:
    return client.c.name.in_(_claiming(value))


def _claiming(value: str) -> Select[Any]:
    values = around(value)
    steps = PREFIX_STEPS if len(values) > 2 or "/" in values[0] else tuple(step.value for step in Step)
    by_step = [(client_match.c.step == step) & client_match.c.value.in_(values) for step in steps]
    return select(client_match.c.client).where(or_(*by_step))


def _key_of_client(value: str, _filters: Filters) -> ColumnElement[bool]:
    return KINDS["tsig"].c.name.in_(_keys().where(client_match.c.client == value))


def _key_of_tier(value: str, _filters: Filters) -> ColumnElement[bool]:
    of_tier = select(client.c.name).where(client.c.tier == value)
    return KINDS["tsig"].c.name.in_(_keys().where(client_match.c.client.in_(of_tier)))


def _token_of_client(value: str, _filters: Filters) -> ColumnElement[bool]:
    tokens = select(client_match.c.value).where(client_match.c.step == Step.TOKEN.value)
    return KINDS["dns_token"].c.name.in_(tokens.where(client_match.c.client == value))


def _keys() -> Select[Any]:
    return select(client_match.c.value).where(client_match.c.step == Step.TSIG.value)


_SPECIAL: Mapping[tuple[str, str], Filter] = {
    ("client", "tier"): _tier,
    ("client", "match"): _match,
    ("service", "cluster"): _either("cluster", "cluster4"),
    ("tsig", "client"): _key_of_client,
    ("tsig", "tier"): _key_of_tier,
    ("dns_token", "client"): _token_of_client,
}
"""(kind, filter) -> its condition, where that is more than the equality of a field."""
