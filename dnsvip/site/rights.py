"""What a caller of the API may do: scopes, roles as named sets of scopes, and whether one covers another. Pure.

A scope allows actions on kinds of objects, and can be narrowed by patterns (`*` matches anything) to
clusters, zones, clients, tiers, TSIG keys and DNS tokens, and to networks and attributes. Rights are a set of scopes;
what no scope allows is denied. What a client reaches through its fields counts too: its tier, its networks, its TSIG
keys and DNS tokens, and its attributes, by which rules choose pools.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field

from dnsvip.errors import Problem
from dnsvip.site import OBJECT_STEPS, STRICT, Client, ClientState, Match, Step, registry
from dnsvip.site.patterns import all_inside, fits
from dnsvip.site.references import closest


class Action(StrEnum):
    """What a caller does to an object: read, create and change, delete, or rotate its keys."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ROTATE = "rotate"


ALL = "*"
OBJECTS = tuple(registry.KINDS)
LOOKS = ("audit", "status", "node", "metrics", "decode", "explain")
KINDS = (*OBJECTS, *LOOKS, "key", "cookies", "client_ca", "token", "site", "acme", "enrolment", "decoder", "session")
"""Everything that a scope can name. `site` is a whole site at once; `acme` are TXT records at `_acme-challenge`;
`enrolment` is what a client proves its identity by, which holds its keys; `decoder` are the keys that read a cluster's
addresses; `session` are names of sessions of a service. These take the action `write`: the right to look at everything
gives no keys."""

Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*/-]{1,254}$", examples=["acme-*"])]

MOST_PATTERNS = 64
"""In one narrowing of a scope."""

MOST_NAMED, MOST_TEXT = 1024, 1 << 15
"""Patterns of a new token in all, and their characters: each name that it is shown is compared with them."""


def _checked_network(text: str) -> str:
    return text if text == ALL else str(ip_network(text))


NetworkPattern = Annotated[str, AfterValidator(_checked_network), Field(max_length=49, examples=["192.0.2.0/24"])]
AttributePattern = Annotated[
    str, Field(pattern=r"^(\*|[A-Za-z0-9_.*-]{1,64}=[^\s,\[\]?]{1,200})$", examples=["plan=free", "lang=*"])
]
KindName = Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)}|\*)$", examples=["client"])]

NARROWED: Mapping[str, str] = {
    "cluster": "clusters",
    "key": "clusters",
    "decoder": "clusters",
    "zone": "zones",
    "acme": "zones",
    "service": "zones",
    "session": "zones",
    "client": "clients",
    "enrolment": "clients",
    "tier": "tiers",
    "tsig": "tsig",
    "dns_token": "tsig",
}
"""Kind -> the patterns that the name of one of its objects must fit; a service's is its zone."""

IN_ZONES = ("service", "session")
"""Kinds whose objects belong to the zone that they are in."""

NARROWINGS: Mapping[str, str] = {
    "clusters": "clusters, their keys and their decoders",
    "zones": "zones, and the services, names of sessions and ACME challenges in them",
    "clients": "clients and their enrolments",
    "tiers": "tiers, also as what a client is given",
    "tsig": "TSIG keys and DNS tokens, also as what a client is given",
    "networks": "networks that a client may be given",
    "attributes": "attributes, NAME=VALUE, that a client or a service may be given and may lose",
}
"""The fields by which a scope is narrowed, and to what."""


def _narrows(name: str) -> Any:
    """The form of a narrowing, with what it is about."""
    return Field(max_length=MOST_PATTERNS, description=f"Patterns of the {NARROWINGS[name]}.")


WHOLE = ("site",)
"""Kinds that hold objects of all others: no narrowed scope reaches them."""

PREFIX_STEPS = (Step.SOURCE, Step.ECS)
"""The steps that identify a client by its network."""

PLACE_STEPS = (*PREFIX_STEPS, Step.GEO, Step.LISTENER)
"""The steps that identify a client by where it is, not by what it holds."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on kinds, narrowed to objects whose names match. Kinds without patterns are not narrowed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    actions: tuple[Action, ...]
    kinds: tuple[KindName, ...]
    clusters: Annotated[tuple[Pattern, ...], _narrows("clusters")] = (ALL,)
    zones: Annotated[tuple[Pattern, ...], _narrows("zones")] = (ALL,)
    clients: Annotated[tuple[Pattern, ...], _narrows("clients")] = (ALL,)
    tiers: Annotated[tuple[Pattern, ...], _narrows("tiers")] = (ALL,)
    tsig: Annotated[tuple[Pattern, ...], _narrows("tsig")] = (ALL,)
    networks: Annotated[tuple[NetworkPattern, ...], _narrows("networks")] = (ALL,)
    attributes: Annotated[tuple[AttributePattern, ...], _narrows("attributes")] = (ALL,)

    def allows(self, action: Action, kind: str, name: str | None, zones: Collection[str] = ()) -> bool:
        """Whether it allows the action on the object; `name` None is any object of the kind. `zones`: all that
        there are."""
        if action not in self.actions or not {ALL, kind} & set(self.kinds):
            return False
        if kind in WHOLE and self.is_narrowed:
            return False
        return name is None or fits_any(kind, name, self.patterns(kind), zones)

    @property
    def is_narrowed(self) -> bool:
        """Whether it reaches only some of the objects of some kind."""
        return any(ALL not in getattr(self, patterns) for patterns in NARROWINGS)

    def patterns(self, kind: str) -> tuple[str, ...]:
        """The patterns that the name of an object of a kind must fit."""
        patterns: tuple[str, ...] = getattr(self, NARROWED[kind]) if kind in NARROWED else (ALL,)
        return patterns

    def holds(self, tier: str | None, matches: Iterable[Match], *, routed: bool = False) -> bool:
        """Whether a client may get the tier (None: it keeps its own) and the matches: networks within its `networks`,
        and where those are narrowed neither a place nor a listener. One that is `routed` gets a pool or servers of its
        own, whichever tier they are for."""
        if tier is not None and not fits_any("tier", tier, self.tiers):
            return False
        if routed and ALL not in self.tiers:
            return False
        places = [match for match in matches if match.step in PLACE_STEPS]
        return ALL in self.networks or (
            all(match.step in PREFIX_STEPS for match in places)
            and all_inside((match.value for match in places), self.networks)
        )

    def gives(self, attributes: Iterable[str]) -> bool:
        """Whether attributes, NAME=VALUE, may be given and taken."""
        return ALL in self.attributes or all(
            any(fits(text, pattern) for pattern in self.attributes) for text in attributes
        )

    def covers(self, other: Scope) -> bool:
        """Whether it allows everything that `other` allows. Patterns are compared as text, networks as networks."""
        return (
            set(self.actions) >= set(other.actions)
            and (ALL in self.kinds or set(self.kinds) >= set(other.kinds))
            and all(
                ALL in getattr(self, patterns) or set(getattr(self, patterns)) >= set(getattr(other, patterns))
                for patterns in NARROWINGS
                if patterns != "networks"
            )
            and (ALL in self.networks or all_inside(other.networks, self.networks))
        )

    def __str__(self) -> str:
        narrow = (f" {what}={','.join(getattr(self, what))}" for what in NARROWINGS if getattr(self, what) != (ALL,))
        return f"{','.join(self.actions)}:{','.join(self.kinds)}{''.join(narrow)}"


@dataclass(frozen=True, slots=True)
class Rights:
    """Everything that a caller is allowed to do. `zones` are all zones of the site: a service is judged by the one that
    it is in."""

    scopes: tuple[Scope, ...] = field(default=())
    zones: Collection[str] = field(default=(), compare=False, repr=False)

    def allow(self, action: Action, kind: str, name: str | None = None) -> bool:
        """Whether any scope allows it."""
        return any(scope.allows(action, kind, name, self.zones) for scope in self.scopes)

    def patterns(self, action: Action, kind: str, of: str | None = None) -> tuple[str, ...] | None:
        """The patterns that the name of an object of a kind must fit so that the action is allowed; None: any name.

        With `of` the right is one to that kind of look at the site (status, explain, decode), which tells about
        objects of `kind` as far as its scopes are narrowed.
        """
        patterns = [p for scope in self.scopes if scope.allows(action, of or kind, None) for p in scope.patterns(kind)]
        return None if ALL in patterns else tuple(dict.fromkeys(patterns))

    def allow_client(self, before: Client | None, after: Client) -> bool:
        """Whether one scope allows a client to be written with the tier and the matches that it did not have before.

        Its tier, its attributes, and a pool or servers of its own, count too where they are given to more: by a new
        match, or by enabling the client. An attribute that it loses counts like one that it gets.
        """
        matches = new_matches(before, after)
        enabled = after.state is ClientState.ENABLED and before is not None and before.state is not after.state
        same = before is not None and (before.pool, before.servers) == (after.pool, after.servers)
        given = bool(matches) or enabled
        tier = None if before is not None and before.tier == after.tier and not given else after.tier
        routed = bool(after.pool or after.servers) and (given or not same)
        attributes = new_attributes(before, after) | (_pairs(after) if given else set())
        return any(
            scope.allows(Action.WRITE, "client", after.name)
            and scope.holds(tier, matches, routed=routed)
            and scope.gives(attributes)
            for scope in self.scopes
        )

    def gives(self, kind: str, name: str, attributes: Iterable[str], action: Action = Action.WRITE) -> bool:
        """Whether one of the scopes that allow to write an object, or to delete it, gives and takes these attributes,
        NAME=VALUE."""
        given = list(attributes)
        return any(scope.allows(action, kind, name, self.zones) and scope.gives(given) for scope in self.scopes)

    def unreached(self, kind: str, name: str, references: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
        """One of the objects (kind, name) that an object is to refer to newly and that no scope which allows to write
        it reaches; None where one scope reaches all."""
        missed = [
            next((one for one in references if not self._reaches(scope, kind, *one)), None)
            for scope in self.scopes
            if scope.allows(Action.WRITE, kind, name, self.zones)
        ]
        return None if not missed or None in missed else missed[0]

    def _reaches(self, scope: Scope, kind: str, other: str, name: str) -> bool:
        """Whether what a scope allows to write may refer to another object. A scope for some zones only gives TSIG keys
        that it names itself, or that its token may read: those of all others are not meant."""
        if kind == "zone" and other == "tsig" and ALL not in scope.zones and ALL in scope.tsig:
            return self.allow(Action.READ, other, name)
        return fits_any(other, name, scope.patterns(other), self.zones)

    def shown(self, problem: Problem) -> Problem:
        """A problem as the caller may read it: without the names of objects that it may neither read nor write."""
        if problem.about is not None and not self._knows(*problem.about):
            kind = problem.about[0]
            return Problem(kind, f"concerns a {kind} that this token may not see")
        if not all(self._knows(kind, name) for kind, name in problem.names):
            return Problem(problem.where, problem.hidden or "collides with an object that this token may not see")
        return problem

    def _knows(self, kind: str, name: str) -> bool:
        return self.allow(Action.READ, kind, name) or self.allow(Action.WRITE, kind, name)

    @property
    def writes_any_client(self) -> bool:
        """Whether every client may be written, with every tier, network, TSIG key, DNS token and attribute."""
        return all(self.patterns(Action.WRITE, kind) is None for kind in OBJECT_STEPS.values()) and any(
            scope.allows(Action.WRITE, "client", None)
            and ALL in scope.clients
            and ALL in scope.tiers
            and ALL in scope.networks
            and ALL in scope.attributes
            for scope in self.scopes
        )

    def cover(self, others: Iterable[Scope]) -> bool:
        """Whether each of the scopes lies within one of these: nobody grants more than they have."""
        return all(any(own.covers(other) for own in self.scopes) for other in others)


def excess(scopes: Iterable[Scope]) -> str | None:
    """Why scopes name more than those of a token may; None where they do not."""
    named = [text for scope in scopes for what in NARROWINGS for text in getattr(scope, what) if text != ALL]
    size = sum(map(len, named))
    if len(named) <= MOST_NAMED and size <= MOST_TEXT:
        return None
    most = f"at most {MOST_NAMED:,} of {MOST_TEXT:,} characters in all"
    return f"name {len(named):,} patterns and networks of {size:,} characters, and a token has {most}"


READ, WRITE, DELETE, ROTATE = Action.READ, Action.WRITE, Action.DELETE, Action.ROTATE
_VISIBLE = tuple(kind for kind in KINDS if kind not in ("token", "audit"))

ROLES: Mapping[str, tuple[Scope, ...]] = {
    "admin": (Scope(tuple(Action), (ALL,)),),
    "operator": (
        Scope((READ,), (ALL,)),
        Scope((WRITE, DELETE), ("client", "tier", "pool", "service", "zone", "dns_group")),
        Scope((WRITE,), ("enrolment", "session", "node")),
        Scope((ROTATE,), ("key", "cookies")),
    ),
    "viewer": (Scope((READ,), _VISIBLE),),
    "auditor": (Scope((READ,), (ALL,)),),
    "client-editor": (Scope((READ,), ("client", "tier")), Scope((WRITE, DELETE), ("client",))),
    "zone-editor": (Scope((READ, WRITE), ("zone",)),),
    "acme": (Scope((READ,), ("zone",)), Scope((WRITE,), ("acme",))),
    "metrics": (Scope((READ,), ("metrics", "status")),),
    "decoder": (Scope((WRITE,), ("decoder",)),),
}
"""Role -> its scopes."""

EVERYTHING = Rights(ROLES["admin"])
"""The rights of tokens from before scopes existed."""


def wanted(action: Action, kind: str, name: str | None = None) -> str:
    """The missing scope in the words of a 403."""
    if name is not None and kind in NARROWED:
        return f"{action.value}:{kind} {NARROWED[kind]}={name}"
    return f"{action.value}:{kind}"


def new_matches(before: Client | None, after: Client) -> list[Match]:
    """The matches of a client that it did not have before."""
    old = set(before.match) if before is not None else set()
    return [match for match in after.match if match not in old]


def new_attributes(before: Any, after: Any) -> set[str]:
    """The attributes, NAME=VALUE, that an object has and did not have before, or had and has no longer; none of a kind
    without attributes."""
    return _pairs(before) ^ _pairs(after)


def _pairs(thing: Any) -> set[str]:
    return {f"{name}={value}" for name, value in getattr(thing, "attributes", {}).items()}


def fits_any(kind: str, name: str, patterns: Iterable[str], zones: Collection[str] = ()) -> bool:
    """Whether the name of an object of a kind fits one of the patterns: of a service the name of the closest of the
    `zones`, so that who has a zone has no service of a zone below it; where it is in none, its own."""
    if kind in IN_ZONES and (zone := closest(name, zones)) is not None:
        kind, name = "zone", zone
    return any(_fits(kind, name, pattern) for pattern in patterns)


def _fits(kind: str, name: str, pattern: str) -> bool:
    if kind in IN_ZONES:  # at the apex of a zone or below
        return fits(name, pattern) or fits(name, f"*.{pattern}")
    if kind == "key":  # CLUSTER/SLOT
        return fits(name, pattern) or fits(name, f"{pattern}/*")
    return fits(name, pattern)
