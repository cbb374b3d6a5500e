"""/clusters: prefixes and what their addresses carry. Its keys are made and destroyed with it (operations/keys.py)."""

from __future__ import annotations

from dataclasses import dataclass

from dnsvip.admin.http.collection import Kind, routes
from dnsvip.admin.http.queries import PageQuery, Text


@dataclass(frozen=True, slots=True)
class ClustersQuery(PageQuery):
    """And of clusters: those whose plain addresses are in a tier, `default_tier`."""

    default_tier: Text | None = None


CLUSTER = Kind("cluster", "clusters", query=ClustersQuery)
ROUTES = routes(CLUSTER)
