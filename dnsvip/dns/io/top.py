"""The names that are asked for most and who asks most, of a thinned stream of messages (telemetry/top.py).

Addresses are counted by the prefix that the query log would keep of them, names without the labels that name sessions.
What the kernel's program answers ahead of the server is not among it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dnsvip.dns.engine import Engine
from dnsvip.dns.protocol.message import Query
from dnsvip.dns.protocol.names import Labels, site_name
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.querylog import name_of, without_secrets
from dnsvip.telemetry.top import Thinning, Top

MOST = 20
LONGEST_NAME = 100
"""Letters that are shown of a name."""

ELSEWHERE = "(in no zone of the site)"

Anonymise = Callable[[IPv4Address | IPv6Address], str]


class DnsTop:
    """What a server is asked most. `picks` (see Thinning) is asked for every batch, `take` gets those picked."""

    def __init__(self, engine: Callable[[], Engine], anonymise: Callable[[], Anonymise]) -> None:
        self._engine, self._anonymise = engine, anonymise
        self._thinning = Thinning()
        self.picks = self._thinning.picks  # as it is: every batch asks
        now = time.monotonic()
        self._names: Top[tuple[str, str, str]] = Top(now)
        self._resolvers: Top[str] = Top(now)

    def take(self, source: IPv4Address | IPv6Address, wire: bytes) -> None:
        """Count a message that was picked."""
        weight, engine = self._thinning.weight, self._engine()
        self._resolvers.add(self._anonymise()(source), weight)
        query = parse(wire)
        if isinstance(query, Query):
            name = name_of(without_secrets(query.key, engine.session_bases))
            kind, owner = _owner_of(query.key, engine)
            # What is in no zone here is named by strangers, without end: one item for all.
            self._names.add((name[:LONGEST_NAME] if kind else ELSEWHERE, kind, owner), weight)

    def shown(self) -> dict[str, Any]:
        """Rows for people, as JSON values; `rate` is per second."""
        now = time.monotonic()
        self._thinning.relax()
        return {
            "names": [
                {"name": name, **({kind: owner} if kind else {}), "rate": rate}
                for (name, kind, owner), rate in self._names.most(MOST, now)
            ],
            "resolvers": [{"network": network, "rate": rate} for network, rate in self._resolvers.most(MOST, now)],
        }


def _owner_of(name: Labels, engine: Engine) -> tuple[str, str]:
    """Kind and name of the service that a name is, or of the zone that it is in; empty for neither."""
    if name in engine.zones.services:
        return "service", site_name(name)
    apex = engine.zones.apex_of(name)
    return ("", "") if apex is None else ("zone", site_name(apex))
