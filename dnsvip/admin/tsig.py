"""/tsig: shared secrets (RFC 8945). A secret is only ever written: no answer holds it."""

from __future__ import annotations

from dnsvip.admin.collection import Kind, routes
from dnsvip.spec import Plain, Thing, dump


def without_secret(thing: Thing) -> Plain:
    """A TSIG key as it is shown."""
    return {key: value for key, value in dump(thing).items() if key != "secret"}


TSIG = Kind("tsig", "tsig", shown=without_secret, listed=without_secret)
ROUTES = routes(TSIG)
