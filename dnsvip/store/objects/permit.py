"""Whether rights reach what a client is given: its tier, networks, attributes, TSIG keys and DNS tokens, and nobody
else's traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from sqlalchemy import not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import OBJECT_STEPS, Client, Step
from dnsvip.site.rights import PREFIX_STEPS, Action, Rights, new_matches, wanted
from dnsvip.store.access.visible import name_fits
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import client_match
from dnsvip.store.objects.filters import around

Place: TypeAlias = tuple[int, int, int]
"""Bits of an address, and a network's length and number."""


async def forbidden(connection: AsyncConnection, rights: Rights, before: Client | None, after: Client) -> str | None:
    """Why the client may not be written in place of `before`; None where it may. No other client is named."""
    (why,) = await forbidden_each(connection, rights, [(before, after)])
    return why


async def forbidden_each(
    connection: AsyncConnection, rights: Rights, pairs: Sequence[tuple[Client | None, Client]]
) -> list[str | None]:
    """`forbidden` of each pair (before, after), with one look at the networks and places of all of them."""
    if rights.writes_any_client:
        return [None] * len(pairs)
    reasons = await asyncio.to_thread(lambda: [_beyond(rights, before, after) for before, after in pairs])
    if (patterns := rights.patterns(Action.WRITE, "client")) is None:
        return reasons
    new = {at: new_matches(*pairs[at]) for at, reason in enumerate(reasons) if reason is None}
    networks = {at: [m.value for m in matches if m.step in PREFIX_STEPS] for at, matches in new.items()}
    theirs = await _networks_of_others(connection, rights, (text for some in networks.values() for text in some))
    placed = [at for at, matches in new.items() if any(match.step is Step.GEO for match in matches)]
    by_place = bool(placed) and await _others_by_place(connection, patterns)
    for at in new:
        inner = next((network for network in networks[at] if theirs and theirs.intersection(around(network))), None)
        if inner is not None:
            reasons[at] = f"lacks the scope write:client for another client, inside whose network {inner} is"
        elif by_place and at in placed:
            reasons[at] = _BY_PLACE
    return reasons


_BY_PLACE = "lacks the scope write:client for other clients that are known by place, which may lie around this one"


def _beyond(rights: Rights, before: Client | None, after: Client) -> str | None:
    """Why the rights do not reach a client, as far as they alone tell."""
    if not rights.allow(Action.WRITE, "client", after.name):
        return f"lacks the scope {wanted(Action.WRITE, 'client', after.name)}"
    if not rights.allow_client(before, after):
        what = f"the tier {after.tier}, every new match and every attribute of {after.name} that it gives or takes"
        return f"lacks a scope write:client that reaches {what}"
    for match in new_matches(before, after):
        kind = OBJECT_STEPS.get(match.step)
        if kind and not rights.allow(Action.WRITE, kind, match.value):
            return f"lacks the scope {wanted(Action.WRITE, kind, match.value)}, whose key the client would be given"
        if match.step is Step.TLS and not _own_name(rights, after, match.value):
            scope = wanted(Action.WRITE, "client", match.value)
            return f"lacks the scope {scope}: certificates with that name may be another client's"
    return None


def _own_name(rights: Rights, client: Client, name: str) -> bool:
    """Whether a name in certificates is the client's own, or could be that of a client which the caller may write."""
    return name == client.name.lower() or rights.allow(Action.WRITE, "client", name)


async def _others_by_place(connection: AsyncConnection, patterns: Sequence[str]) -> bool:
    """Whether clients that the caller may not write are known by a place: a smaller place takes from a larger one."""
    others = not_(name_fits(client_match.c.client, "client", patterns))
    query = select(client_match.c.client).where(client_match.c.step == Step.GEO.value, others).limit(1)
    return (await connection.execute(query)).first() is not None


async def _networks_of_others(connection: AsyncConnection, rights: Rights, networks: Iterable[str]) -> set[str]:
    """The networks around some that clients have which the caller may not write. Each is looked up once, BATCH at a
    time: there may be thousands, many of them inside the same ones."""
    seen: set[Place] = set()
    theirs: set[str] = set()
    for some in in_batches((text for network in networks for text in _unseen(ip_network(network), seen)), BATCH):
        query = select(client_match.c.value, client_match.c.client).where(
            client_match.c.step.in_([step.value for step in PREFIX_STEPS]), client_match.c.value.in_(some)
        )
        rows = await connection.execute(query)
        theirs |= {row.value for row in rows if not rights.allow(Action.WRITE, "client", row.client)}
    return theirs


def _unseen(network: IPv4Network | IPv6Network, seen: set[Place]) -> Iterator[str]:
    """A network and those around it, but for the ones that have been seen."""
    kind, bits, number = type(network), network.max_prefixlen, int(network.network_address)
    for length in range(network.prefixlen, -1, -1):
        number = number >> bits - length << bits - length
        place = bits, length, number
        if place in seen:
            return  # and so has all around it
        seen.add(place)
        yield str(kind((number, length)))
