"""/services: names whose addresses are made per client."""

from __future__ import annotations

from dnsvip.admin.collection import Kind, routes

SERVICE = Kind("service", "services")
ROUTES = routes(SERVICE)
