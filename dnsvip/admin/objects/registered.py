"""/clusters, /tiers, /services, /dns-groups, /tsig: the kinds that need nothing beyond what every kind
has, made from the registry.

The others have files of their own beside this one. A cluster's keys are made and destroyed with it
(operations/keys.py); a TSIG key's secret is only written, no answer holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from dnsvip.admin.http.collection import routes
from dnsvip.admin.http.resource import Resource
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import of_zone
from dnsvip.dns.zones.examine import service_problems
from dnsvip.errors import InvalidSite
from dnsvip.site import Zone
from dnsvip.site.plain import JsonObject
from dnsvip.site.references import closest
from dnsvip.site.registry import KINDS


async def check_service(request: web.Request, name: str, _body: JsonObject) -> None:
    """Raise InvalidSite where the service's zone delegates, redirects or aliases its name: no query would reach it."""
    node = request.app[NODE]
    zone = await node.store().objects.find("zone", closest(name, node.snapshot().site.zones) or "")
    if isinstance(zone, Zone) and (problems := await of_zone(request, service_problems, zone, name)):
        raise InvalidSite(problems)


def owners_of_keys(query: Any) -> Sequence[tuple[str, str]]:
    """The clients that a list of TSIG keys reveals."""
    clients = (query.client, "*" if query.tier is not None else None)
    return [("client", name) for name in clients if name is not None]


RESOURCES = (
    Resource(KINDS["cluster"]),
    Resource(KINDS["tier"]),
    Resource(KINDS["service"], check=check_service),
    Resource(KINDS["dns_group"]),
    Resource(KINDS["tsig"], discloses=owners_of_keys),
)
ROUTES = [operation for resource in RESOURCES for operation in routes(resource)]
