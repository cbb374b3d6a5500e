"""Whether rights reach what a client is given: its tier, its networks, its TSIG keys, and nobody else's traffic."""

from __future__ import annotations

from sqlalchemy import and_, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import Client, Step
from dnsvip.site.rights import PREFIX_STEPS, Action, Rights, new_matches, wanted
from dnsvip.store.access.visible import name_fits
from dnsvip.store.database.tables import client_match
from dnsvip.store.objects.listing import claimants


async def forbidden(connection: AsyncConnection, rights: Rights, before: Client | None, after: Client) -> str | None:
    """Why the client may not be written in place of `before`; None where it may. No other client is named."""
    if rights.writes_any_client:
        return None
    if not rights.allow(Action.WRITE, "client", after.name):
        return f"lacks the scope {wanted(Action.WRITE, 'client', after.name)}"
    if not rights.allow_client(before, after):
        return f"lacks a scope write:client that reaches the tier {after.tier} and every new match of {after.name}"
    for match in new_matches(before, after):
        if match.step is Step.TSIG and not rights.allow(Action.WRITE, "tsig", match.value):
            return f"lacks the scope {wanted(Action.WRITE, 'tsig', match.value)}, whose key the client would be given"
        if match.step in PREFIX_STEPS and await _inside_others(connection, rights, after.name, match.value):
            return f"lacks the scope write:client for another client, inside whose network {match.value} is"
        if match.step is Step.GEO and await _others_by_place(connection, rights, after.name):
            return (
                "lacks the scope write:client for other clients that are known by place, which may lie around this one"
            )
    return None


async def _others_by_place(connection: AsyncConnection, rights: Rights, name: str) -> bool:
    """Whether clients that the caller may not write are known by a place: a smaller place takes from a larger one."""
    patterns = rights.patterns(Action.WRITE, "client")
    if patterns is None:
        return False
    others = and_(client_match.c.client != name, not_(name_fits(client_match.c.client, "client", patterns)))
    query = select(client_match.c.client).where(client_match.c.step == Step.GEO.value, others).limit(1)
    return (await connection.execute(query)).first() is not None


async def _inside_others(connection: AsyncConnection, rights: Rights, name: str, network: str) -> bool:
    if rights.patterns(Action.WRITE, "client") is None:
        return False
    owners = [owner for step in PREFIX_STEPS for owner in await claimants(connection, step.value, network)]
    return any(owner != name and not rights.allow(Action.WRITE, "client", owner) for owner in owners)
