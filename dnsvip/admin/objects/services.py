"""/services: names whose addresses are made per client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from dnsvip.admin.http.collection import Kind, routes
from dnsvip.admin.http.queries import PageQuery, Text
from dnsvip.admin.node import NODE
from dnsvip.admin.objects.zones import closest
from dnsvip.dns.engine import check_services
from dnsvip.errors import InvalidSite
from dnsvip.site import Service, Site, Zone
from dnsvip.site.plain import JsonObject


async def check(request: web.Request, name: str, _body: JsonObject) -> None:
    """Raise InvalidSite where the service's zone delegates, redirects or aliases its name: nobody could ask for it."""
    node = request.app[NODE]
    zone = await node.store().get("zone", closest(name, node.snapshot().site.zones) or "")
    if isinstance(zone, Zone):
        site = Site(zones={zone.name: zone}, services={name: Service(name, "")})
        if problems := await asyncio.to_thread(check_services, site):
            raise InvalidSite(problems)


@dataclass(frozen=True, slots=True)
class ServicesQuery(PageQuery):
    """And of services: those whose addresses, of either family, are made in a `cluster`."""

    cluster: Text | None = None


SERVICE = Kind("service", "services", check=check, query=ServicesQuery)
ROUTES = routes(SERVICE)
