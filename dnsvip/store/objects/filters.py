"""What lists leave out besides by name: the filters of each kind of object, as conditions of a query.

Filters of clients have an index each. The other kinds are few, and their filters read them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, func, literal, or_, select

from dnsvip.site import ClientState, Step
from dnsvip.store.database.tables import KINDS, JsonField, client, client_match

Filters: TypeAlias = Mapping[str, str]
"""The name of a filter -> what is looked for; a filter that is not there leaves everything."""

Filter: TypeAlias = Callable[[str, Filters], ColumnElement[bool]]
"""The condition for what is looked for, beside all the filters that are given."""

PREFIX_STEPS = (Step.SOURCE.value, Step.ECS.value)


def conditions(kind: str, filters: Filters) -> list[ColumnElement[bool]]:
    """What a query of a kind's table must hold to."""
    return [FILTERS[kind][name](value, filters) for name, value in filters.items()]


def around(value: str) -> list[str]:
    """All networks around an address or network, in canonical text; the value itself where it is neither."""
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return [value, value.lower().rstrip(".")]
    return [str(_shorter(network, length)) for length in range(network.prefixlen, -1, -1)]


def _shorter(network: IPv4Network | IPv6Network, length: int) -> IPv4Network | IPv6Network:
    return network.supernet(new_prefix=length)


def _field(name: str, default: str | None = None) -> Filter:
    """A field of the object is what is looked for. Where the object does not name it, it is the default."""

    def condition(value: str, _filters: Filters) -> ColumnElement[bool]:
        field: Any = JsonField(name)
        return (field if default is None else func.coalesce(field, literal(default))) == value

    return condition


def _any(*filters: Filter) -> Filter:
    return lambda value, given: or_(*(each(value, given) for each in filters))


def _tier(value: str, filters: Filters) -> ColumnElement[bool]:
    # Where both are given, the state is the rarer one: keep the planner from walking the tier.
    rare = filters.get("state") not in (None, ClientState.ENABLED.value)
    return (func.coalesce(client.c.tier, "") if rare else client.c.tier) == value


def _state(value: str, _filters: Filters) -> ColumnElement[bool]:
    return client.c.state == value


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


def _keys() -> Select[Any]:
    return select(client_match.c.value).where(client_match.c.step == Step.TSIG.value)


FILTERS: Mapping[str, Mapping[str, Filter]] = {
    "client": {"tier": _tier, "state": _state, "match": _match},
    "tier": {"pool": _field("pool"), "action": _field("action", "forward")},
    "pool": {"forward": _field("forward", "direct"), "fallback": _field("fallback")},
    "cluster": {"default_tier": _field("default_tier")},
    "service": {"cluster": _any(_field("cluster"), _field("cluster4"))},
    "tsig": {
        "algorithm": _field("algorithm", "hmac-sha256"),
        "client": _key_of_client,
        "tier": _key_of_tier,
    },
}
"""Kind -> the name of each of its filters."""
