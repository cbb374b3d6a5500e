"""/tsig: shared secrets (RFC 8945). A secret is only ever written: no answer holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dnsvip.admin.http.collection import Kind, routes
from dnsvip.admin.http.queries import PageQuery, Text
from dnsvip.site.plain import JsonObject, SiteObject, dump


def without_secret(thing: SiteObject) -> JsonObject:
    """A TSIG key as it is shown."""
    return {key: value for key, value in dump(thing).items() if key != "secret"}


@dataclass(frozen=True, slots=True)
class TsigQuery(PageQuery):
    """And of keys: those of an `algorithm`, and those that a `client`, or any client of a `tier`, is known by."""

    algorithm: Text | None = None
    client: Text | None = None
    tier: Text | None = None

    def discloses(self) -> Sequence[tuple[str, str]]:
        """The clients that are known by a key."""
        clients = (self.client, "*" if self.tier is not None else None)
        return [("client", name) for name in clients if name is not None]


TSIG = Kind("tsig", "tsig", query=TsigQuery, shown=without_secret, listed=without_secret)
ROUTES = routes(TSIG)
