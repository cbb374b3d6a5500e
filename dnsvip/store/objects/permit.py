"""Whether rights reach what a client is given: its tier, its networks, its TSIG keys, and nobody else's traffic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from sqlalchemy import and_, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import Client, Step
from dnsvip.site.rights import PREFIX_STEPS, Action, Rights, new_matches, wanted
from dnsvip.store.access.visible import name_fits
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import client_match
from dnsvip.store.objects.filters import around

Place: TypeAlias = tuple[int, int, int]
"""Bits of an address, and a network's length and number."""


async def forbidden(connection: AsyncConnection, rights: Rights, before: Client | None, after: Client) -> str | None:
    """Why the client may not be written in place of `before`; None where it may. No other client is named."""
    if rights.writes_any_client:
        return None
    if not rights.allow(Action.WRITE, "client", after.name):
        return f"lacks the scope {wanted(Action.WRITE, 'client', after.name)}"
    if not rights.allow_client(before, after):
        return f"lacks a scope write:client that reaches the tier {after.tier} and every new match of {after.name}"
    matches = new_matches(before, after)
    for match in matches:
        if match.step is Step.TSIG and not rights.allow(Action.WRITE, "tsig", match.value):
            return f"lacks the scope {wanted(Action.WRITE, 'tsig', match.value)}, whose key the client would be given"
    if rights.patterns(Action.WRITE, "client") is None:
        return None
    networks = [match.value for match in matches if match.step in PREFIX_STEPS]
    inner = await _inside_others(connection, rights, after.name, networks)
    if inner is not None:
        return f"lacks the scope write:client for another client, inside whose network {inner} is"
    if any(match.step is Step.GEO for match in matches) and await _others_by_place(connection, rights, after.name):
        return "lacks the scope write:client for other clients that are known by place, which may lie around this one"
    return None


async def _others_by_place(connection: AsyncConnection, rights: Rights, name: str) -> bool:
    """Whether clients that the caller may not write are known by a place: a smaller place takes from a larger one."""
    patterns = rights.patterns(Action.WRITE, "client")
    if patterns is None:
        return False
    others = and_(client_match.c.client != name, not_(name_fits(client_match.c.client, "client", patterns)))
    query = select(client_match.c.client).where(client_match.c.step == Step.GEO.value, others).limit(1)
    return (await connection.execute(query)).first() is not None


async def _inside_others(connection: AsyncConnection, rights: Rights, name: str, networks: Sequence[str]) -> str | None:
    """The first of the networks that lies inside that of a client which the caller may not write. Each network around
    them is looked up once, BATCH at a time: a client may have thousands of matches."""
    seen: set[Place] = set()
    for some in in_batches((text for network in networks for text in _unseen(ip_network(network), seen)), BATCH):
        query = select(client_match.c.value, client_match.c.client).where(
            client_match.c.step.in_([step.value for step in PREFIX_STEPS]), client_match.c.value.in_(some)
        )
        theirs = {
            row.value
            for row in await connection.execute(query)
            if row.client != name and not rights.allow(Action.WRITE, "client", row.client)
        }
        if theirs:
            return next(network for network in networks if theirs.intersection(around(network)))
    return None


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
