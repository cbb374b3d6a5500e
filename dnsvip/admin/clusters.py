"""/clusters: prefixes and what their addresses carry. Keys are made and destroyed with a cluster (keys.py)."""

from __future__ import annotations

from dnsvip.admin.collection import Kind, routes

CLUSTER = Kind("cluster", "clusters")
ROUTES = routes(CLUSTER)
