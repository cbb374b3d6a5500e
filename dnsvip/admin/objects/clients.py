"""/clients: known clients with their identities, proof, attributes and state.

What must hold over a client's life and no rule of the site can see: an old key never becomes valid again by enabling
a revoked client. (Nor by lowering the key generation or deleting the client: the store sees to that.)
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from aiohttp import web
from pydantic import ConfigDict, StrictBool

from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.changing import change, changed_response
from dnsvip.admin.http.collection import delete, routes
from dnsvip.admin.http.operation import NOT_RESERVED, ROOT, Operation, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import Flag, read_body
from dnsvip.admin.http.resource import Resource, absent, name_of
from dnsvip.admin.http.work import aside, turn
from dnsvip.admin.node import NODE
from dnsvip.admin.operations import audit
from dnsvip.site import STRICT, Client, ClientState
from dnsvip.site.plain import SiteObject
from dnsvip.site.registry import KINDS
from dnsvip.site.rights import new_matches
from dnsvip.site.size import is_large

AT_ONCE = 64
"""New matches of a client that are examined out of turn, in some milliseconds."""


def settled(before: SiteObject | None, after: SiteObject) -> SiteObject:
    """The client to store for the requested one: leaving `revoked` takes a new key generation."""
    if not isinstance(before, Client) or not isinstance(after, Client):
        return after
    if before.state is not ClientState.ENABLED and after.state is ClientState.ENABLED and before.end_flows:
        after = replace(after, end_flows=False)  # to be asked for anew the next time
    left = before.state is ClientState.REVOKED and after.state is not ClientState.REVOKED
    if left and after.key_generation == before.key_generation:
        return replace(after, key_generation=before.key_generation + 1)
    return after


async def permit(request: web.Request, before: SiteObject | None, after: SiteObject | None) -> None:
    """Raise Refusal where the caller's rights do not reach the tier, the networks or the TSIG keys of a client."""
    if after is None:
        return
    old, new = cast("Client | None", before), cast("Client", after)
    added = await aside(request, new_matches, old, new, large=is_large(old, new))
    async with turn(request) if len(added) > AT_ONCE else nullcontext():
        why = await request.app[NODE].store().objects.forbidden(request[CALLER].rights, old, new)
    if why is not None:
        raise Refusal("forbidden", f"This token {why}.")


CLIENT = Resource(KINDS["client"], settled=settled, permit=permit, reserved=True)


async def raise_key(request: web.Request) -> web.Response:
    """Void the client's key: its next enrolment gets a new one."""
    name = name_of(CLIENT, request)

    def make(before: SiteObject | None) -> SiteObject:
        if before is None:
            raise absent(CLIENT, name)
        client = cast("Client", before)
        return replace(client, key_generation=client.key_generation + 1)

    return await changed_response(CLIENT, request, await change(CLIENT, request, name, make))


@dataclass(frozen=True, slots=True)
class Revocation:
    """Whether the client's known flows are to end too."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    end_flows: StrictBool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """Whether the known flows of the client that is deleted are to end too."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    end_flows: Flag = False


async def revoke(request: web.Request) -> web.Response:
    """Reject the client's addresses and, for good, its key; with `end_flows` its known flows end too."""
    wanted = await read_body(request, "revoke", Revocation) if request.can_read_body else Revocation()
    name = name_of(CLIENT, request)

    def make(before: SiteObject | None) -> SiteObject:
        if before is None:
            raise absent(CLIENT, name)
        client = cast("Client", before)
        return replace(client, state=ClientState.REVOKED, end_flows=wanted.end_flows or client.end_flows)

    return await changed_response(CLIENT, request, await change(CLIENT, request, name, make))


async def remove(request: web.Request) -> web.Response:
    """Delete a client; with `end_flows` its known flows end too."""
    return await delete(CLIENT, request, end_flows=query_of(request, Removal).end_flows)


async def history(request: web.Request) -> web.Response:
    """The changes of a client, by whom and when, newest first; also after it is deleted."""
    return await audit.history(request, {"kind": "client", "name": name_of(CLIENT, request)})


ROUTES = [
    *(operation for operation in routes(CLIENT) if operation.method != "DELETE"),
    Operation("DELETE", f"{ROOT}/clients/{{name{NOT_RESERVED}}}", remove, "client", query=Removal, status=204),
    Operation("POST", f"{ROOT}/clients/{{name}}/revoke", revoke, "client", body=Revocation, answer="client"),
    Operation("POST", f"{ROOT}/clients/{{name}}/new-key", raise_key, "client", answer="client"),
    Operation(
        "GET", f"{ROOT}/clients/{{name}}/history", history, "client", query=audit.HistoryQuery, answer=audit.AuditPage
    ),
]
