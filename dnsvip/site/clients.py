"""Who asks: clients, how they are told and how they prove who they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from dnsvip.address.proof import Bind
from dnsvip.site.choices import ClientState, Step
from dnsvip.site.values import STRICT, Name, Network


@dataclass(frozen=True, slots=True)
class Match:
    """One way to know a client: written `{ source = "2001:db8::/32" }`, held as step and canonical value."""

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
"""Kind of place in `{ geo = "KIND:CODE" }` -> the form of its code."""

MATCH_FORMS: Mapping[Step, Callable[[str], str]] = {
    Step.SOURCE: _network,
    Step.ECS: _network,
    Step.GEO: _place,
    Step.TSIG: lambda name: name.lower().rstrip("."),
}
"""How the value of a match is brought to its canonical form; other steps keep it as it stands."""

MatchEntry = Annotated[
    Match,
    BeforeValidator(_read_match),
    PlainSerializer(lambda match: {match.step.value: match.value}),
    WithJsonSchema(
        {
            "type": "object",
            "description": "One way to know a client: one key, a kind of match.",
            "properties": {step.value: {"type": "string", "minLength": 1} for step in Step},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
            "examples": [{"source": "2001:db8:77::/48"}],
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Proof:
    """How a client proves its key: what the proof is bound to, whether an address opens only one flow,
    and whether an unproven address of this client is good enough at all."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    bind: Bind = Bind.ADDRESS
    single_use: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """A known client. `id` 1 and up (0 is anonymous). `state` and `key_generation` are set by API and CLI."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    id: Annotated[int, Field(strict=True, ge=1, lt=1 << 63)]
    tier: Name
    match: tuple[MatchEntry, ...] = ()
    proof: Proof = Proof()
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    state: ClientState = ClientState.ENABLED
    key_generation: Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] = 0


@dataclass(frozen=True, slots=True)
class Classify:
    """In which order clients are told, and from which resolvers ECS (RFC 7871) counts."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    order: tuple[Step, ...] = tuple(Step)
    trust_ecs_from: tuple[Network, ...] = ()
