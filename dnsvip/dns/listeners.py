"""Whom a listener answers: everybody, or only some networks and known clients. Strangers get REFUSED.

Compiled from the node file's listeners and the snapshot's DNS groups. A client is known by what it holds or by its
network, not by the listener itself or a place, which anybody can have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from dnsvip.dns.identity.identify import Address, Classified
from dnsvip.errors import Problem
from dnsvip.site import Site, Step
from dnsvip.site.identity.claims import PrefixTables, prefix_tables
from dnsvip.site.node_dns import Listener

KNOWN_BY = frozenset((Step.TSIG, Step.TLS, Step.TOKEN, Step.ECS, Step.SOURCE))
"""The steps that make a requester a known client."""


class Door(NamedTuple):
    """The rules of one listener. `allow` are its networks (None: any); `known` is whether only known clients are
    answered, those of `tiers` (None: of any)."""

    allow: PrefixTables | None
    known: bool
    tiers: Collection[str] | None

    def lets(self, source: Address) -> bool:
        """Whether the source is in one of its networks."""
        return self.allow is None or bool(self.allow[source.version].owner(int(source)))

    def knows(self, who: Classified) -> bool:
        """Whether the identity is enough."""
        if not self.known:
            return True
        if who.client is None or who.step not in KNOWN_BY:
            return False
        return self.tiers is None or who.client.tier in self.tiers


def doors_of(listeners: Iterable[Listener], site: Site) -> dict[str, Door]:
    """The doors of the listeners that are not open to everybody, by name. A group that the site lacks has no tiers."""
    doors = {}
    for listener in listeners:
        if listener.allow or listener.identity:
            allow = prefix_tables(map(str, listener.allow)) if listener.allow else None
            group = site.dns_groups.get(listener.group or "")
            tiers = None if listener.group is None else (group.tiers if group else ())
            doors[listener.name] = Door(allow, listener.identity == "required", tiers)
    return doors


def tiers_of(listeners: Iterable[Listener]) -> dict[str, str]:
    """The tier of whoever asks at a listener, for those that have one."""
    return {listener.name: listener.tier for listener in listeners if listener.tier}


def problems_of(listeners: Iterable[Listener], site: Site) -> list[Problem]:
    """What the node's listeners and the site do not agree on."""
    problems = []
    for listener in listeners:
        where = f"dns.listen.{listener.name}"
        if listener.group is not None and listener.group not in site.dns_groups:
            what = "nobody is answered there" if listener.identity else "it has no effect"
            problems.append(Problem(where, f"the site has no dns_group {listener.group!r}: {what}"))
        if listener.tier is not None and listener.tier not in site.tiers:
            problems.append(Problem(where, f"the site has no tier {listener.tier!r}: requesters get the default tier"))
        if listener.tier is not None and Step.LISTENER not in site.classify.order:
            problems.append(Problem(where, "tier has no effect: classify.order lacks the step listener"))
    return problems
