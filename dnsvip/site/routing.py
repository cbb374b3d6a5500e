"""Which pool serves a flow, beside its tier: the rules of a cluster, and the words of their conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from dnsvip.address.layout import RESERVED_NAMES
from dnsvip.site.declare import About, Choice
from dnsvip.site.values import NAME_PATTERN, STRICT, Name

MOST_RULES = 64
"""Rules of one cluster: a mask of them fits a word of the kernel program."""

MOST_WORDS = 256
"""Words of one condition."""

MOST_CONDITIONS = 16
"""Conditions of one rule."""

MOST_OWN_SERVERS = 16
"""Servers of one client."""

TIER, CLIENT, PROOF = "tier", "client", "proof"
"""The conditions that are no attributes."""


class Evidence(Choice):
    """How an address that was accepted tells who its client is."""

    PROVEN = "proven", "Proven", "The client has proven with its key that the address is its own."
    ISSUED = "issued", "Issued", "DNS issued the address; nobody proved to be the one it was issued to."
    PLAIN = "plain", "Plain", "The address says nothing about its client: a plain one, or a class of IPv4."
    SOURCE = "source", "Source", "The client's own address says who it is."
    RESUMED = "resumed", "Resumed", "The flow is older than this dispatcher's memory of it."


Word = Annotated[str, Field(min_length=1, max_length=64)] | Annotated[int, Field(strict=True, ge=0)]


def _listed(value: Any) -> Any:
    words = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not words or any(isinstance(word, bool) or not isinstance(word, str | int) for word in words):
        raise ValueError("must be a word, a number, or a list of them")
    return words


def _shortest(words: tuple[str | int, ...]) -> Any:
    return words[0] if len(words) == 1 else list(words)


_WORD_SCHEMA: Mapping[str, Any] = {
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": 64}, {"type": "integer", "minimum": 0}]
}

Words = Annotated[
    tuple[Word, ...],
    Field(min_length=1, max_length=MOST_WORDS),
    BeforeValidator(_listed),
    PlainSerializer(_shortest),
    WithJsonSchema(
        {
            "description": "A word or number, or a list of which one must fit.",
            "anyOf": [
                *_WORD_SCHEMA["anyOf"],
                {"type": "array", "items": dict(_WORD_SCHEMA), "minItems": 1, "maxItems": MOST_WORDS},
            ],
        }
    ),
]


@dataclass(frozen=True, slots=True)
class SelectRule:
    """A rule of a cluster: where every condition of `when` fits, `pool` serves the flow."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    when: Annotated[
        Annotated[Mapping[Name, Words], Field(max_length=MOST_CONDITIONS)],
        About(
            "When",
            "What must fit: tier, client, proof (proven, issued, plain, source, resumed) or an attribute, each with a "
            "word, a number, or a list of them. Without any condition the rule fits always.",
        ),
    ]
    pool: Annotated[Name, About("Pool", "Pool that serves the flows that fit.", refers="pool")]
    dscp: Annotated[
        Annotated[int, Field(strict=True, ge=0, le=63)] | None,
        About("DSCP", "Differentiated services code point in place of the tier's."),
    ] = None
    priority: Annotated[
        Annotated[int, Field(strict=True, ge=0, le=7)] | None,
        About("Priority", "Priority in place of the tier's: which held packets and new flows go first, 7 before 0."),
    ] = None


Select = Annotated[
    tuple[SelectRule, ...],
    Field(max_length=MOST_RULES),
    About(
        "Selection",
        "Rules that pick a pool in place of the tier's, in this order: the first that fits decides.",
    ),
]

_NAME = NAME_PATTERN.strip("^$")
OwnServer = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,62})?$",
        examples=["fast-1", "fast/s1"],
    ),
]
"""SERVER or POOL/SERVER."""


def attributes_of(layout: Mapping[str, int]) -> dict[str, int]:
    """The attributes that conditions may name, of fields by their widths in bits."""
    return {name: bits for name, bits in layout.items() if name not in RESERVED_NAMES and name != PROOF}


def number_of(values: Mapping[str, Mapping[str, int]], attribute: str, word: str | int) -> int | None:
    """The number that an address carries for a word of an attribute; None where it has none."""
    number = values.get(attribute, {}).get(word, word)  # type: ignore[arg-type]  # a number is no key
    return number if isinstance(number, int) else None
