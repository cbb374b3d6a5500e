"""Clients: how they are identified, and how they prove who they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from dnsvip.address.proof import Bind
from dnsvip.site.choices import ClientState, Networks, Step
from dnsvip.site.declare import About
from dnsvip.site.routing import MOST_OWN_SERVERS, OwnServer
from dnsvip.site.values import LONGEST_VALUE, STRICT, AttributeWords, Name, Network, certificate_name

MOST_MATCHES, MOST_TRUSTED = 4096, 4096
"""Matches of one client, and networks of trusted resolvers."""


@dataclass(frozen=True, slots=True)
class Match:
    """One way to identify a client: written `{ source = "2001:db8::/32" }`, held as step and canonical value."""

    step: Step
    value: str


def _read_match(entry: Any) -> Match:
    if isinstance(entry, Match):
        return entry
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError('must be a table with one key, such as { source = "2001:db8:77::/48" }')
    ((key, value),) = entry.items()
    if key not in tuple(Step):
        raise ValueError(f"unknown kind of match {key!r}: must be one of {', '.join(Step)}")
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: must be a string")
    if len(value) > LONGEST_VALUE:
        raise ValueError(f"{key}: must have at most {LONGEST_VALUE} characters (it has {len(value)})")
    step = Step(key)
    return Match(step, MATCH_FORMS.get(step, str)(value))


def _network(text: str) -> str:
    return str(ip_network(text))


def _place(text: str) -> str:
    kind, _, code = text.partition(":")
    code = code.upper().removeprefix("AS") if kind == "asn" else code.upper()
    if not re.fullmatch(PLACE_FORMS.get(kind, r"(?!)"), code):
        raise ValueError('must be "country:DE" (ISO 3166-1), "continent:EU" (AF AN AS EU NA OC SA) or "asn:64500"')
    return f"{kind}:{code}"


PLACE_FORMS: Mapping[str, str] = {
    "country": "[A-Z]{2}",
    "continent": "AF|AN|AS|EU|NA|OC|SA",
    "asn": "[1-9][0-9]{0,9}",
}
"""Kind of place in `{ geo = "KIND:CODE" }` -> pattern of its code."""

MATCH_FORMS: Mapping[Step, Callable[[str], str]] = {
    Step.SOURCE: _network,
    Step.ECS: _network,
    Step.GEO: _place,
    Step.TSIG: lambda name: name.lower().rstrip("."),
    Step.TLS: certificate_name,
}
"""Step -> the canonical form of its value; other steps keep the value as it is written."""

OBJECT_STEPS: Mapping[Step, str] = {Step.TSIG: "tsig", Step.TOKEN: "dns_token"}
"""Step whose value is the name of an object -> its kind."""

MatchEntry = Annotated[
    Match,
    BeforeValidator(_read_match),
    PlainSerializer(lambda match: {match.step.value: match.value}),
    WithJsonSchema(
        {
            "type": "object",
            "description": "One way to identify a client: one key, the step, and the value that the step compares.",
            "properties": {
                step.value: {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": LONGEST_VALUE,
                    "x-ui": {"label": step.label, "help": step.help, "order": order}
                    | ({"refers": OBJECT_STEPS[step]} if step in OBJECT_STEPS else {}),
                }
                for order, step in enumerate(Step)
            },
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "examples": [{"source": "2001:db8:77::/48"}],
        }
    ),
]


def _once_each(matches: tuple[Match, ...]) -> tuple[Match, ...]:
    seen: set[Match] = set()
    for match in matches:
        if match in seen:
            raise ValueError(f'has {{ {match.step.value} = "{match.value}" }} twice')
        seen.add(match)
    return matches


@dataclass(frozen=True, slots=True)
class Proof:
    """How a client proves that it holds its key."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    bind: Annotated[Bind, About("Bound to", "What a proof is bound to.")] = Bind.ADDRESS
    single_use: Annotated[bool, About("Single use", "A proven address opens one flow only.")] = False
    required: Annotated[bool, About("Requires proof", "Accept only proven addresses of this client.")] = False


@dataclass(frozen=True, slots=True)
class Client:
    """A known client."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the client.", listed=1)]
    id: Annotated[
        int,
        Field(strict=True, ge=1, lt=1 << 63),
        About("ID", "Number that an address carries for this client; never reuse one.", listed=2, sorted=True),
    ]
    tier: Annotated[Name, About("Tier", "Tier of the client.", listed=3, filtered=True, sorted=True, refers="tier")]
    match: Annotated[
        Annotated[tuple[MatchEntry, ...], AfterValidator(_once_each)],
        About(
            "Match",
            "How the client is identified; any of these suffices.",
            listed=5,
            filtered=True,
            most=MOST_MATCHES,
        ),
    ] = ()
    proof: Annotated[Proof, About("Proof", "How the client proves that it holds its key.")] = Proof()
    attributes: Annotated[
        AttributeWords,
        About("Attributes", "Values of the attributes in the clusters' layouts, as words or numbers."),
    ] = field(default_factory=dict)
    pool: Annotated[
        Name | None,
        About("Pool", "Pool that serves the client's flows, before any rule of a cluster.", refers="pool"),
    ] = None
    servers: Annotated[
        Annotated[tuple[OwnServer, ...], Field(max_length=MOST_OWN_SERVERS)],
        About(
            "Own servers",
            "Servers that serve the client's flows while one of them can, each as SERVER or POOL/SERVER. Excludes a "
            "pool.",
        ),
    ] = ()
    state: Annotated[
        ClientState,
        About(
            "State",
            "Whether the client's addresses are accepted.",
            listed=4,
            filtered=True,
            sorted=True,
            runtime=True,
        ),
    ] = ClientState.ENABLED
    key_generation: Annotated[
        int,
        Field(strict=True, ge=0, lt=1 << 32),
        About("Key generation", "Counts the client's keys; raising it voids the key it holds.", runtime=True),
    ] = 0
    end_flows: Annotated[
        bool,
        About(
            "End flows",
            "While the client is disabled or revoked, and once it is deleted, its known flows end too.",
            runtime=True,
        ),
    ] = False
    networks: Annotated[
        Networks,
        About(
            "Networks",
            'From where its issued addresses are accepted: with "only" from the networks (ecs and source) that '
            "identify it. Its tier may demand the same.",
        ),
    ] = Networks.ANY

    @property
    def is_ended(self) -> bool:
        """Whether the client's known flows have ended: none of its packets passes."""
        return self.end_flows and self.state is not ClientState.ENABLED


@dataclass(frozen=True, slots=True)
class Classify:
    """How DNS queries are classified: the order of the steps, and whose ECS (RFC 7871) is trusted."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    order: Annotated[
        tuple[Step, ...],
        About("Order", "Steps that identify a client, in order; the first that matches decides.", most=2 * len(Step)),
    ] = tuple(Step)
    trust_ecs_from: Annotated[
        tuple[Network, ...],
        About("Trusted resolvers", "Networks of the resolvers whose EDNS Client Subnet is trusted.", most=MOST_TRUSTED),
    ] = ()
