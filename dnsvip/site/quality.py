"""Quality of service of a tier: the limits on its new flows and on its packets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site.choices import Excess, Over, Per
from dnsvip.site.declare import About
from dnsvip.site.values import STRICT


@dataclass(frozen=True, slots=True)
class Rate:
    """Rate limit of a tier: a token bucket of new flows, and what happens to the flows that exceed it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    new_flows: Annotated[float, Field(gt=0), About("New flows", "New flows per second on average.", unit="flows/s")]
    burst: Annotated[float, Field(ge=1), About("Burst", "New flows that may arrive at once.", unit="flows")] = 1.0
    over: Annotated[Over, About("Over the rate", "What happens to a new flow that exceeds the rate.")] = Over.DROP
    per: Annotated[Per, About("Per", "Who shares the rate.")] = Per.TIER


@dataclass(frozen=True, slots=True)
class Policing:
    """Limit on the packets of a tier's clients, those of known flows too: token buckets of bytes and of packets."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    bytes: Annotated[
        Annotated[float, Field(ge=1000, le=1e12)] | None,
        About("Bytes", "Bytes of IP packets per second on average.", unit="bytes/s"),
    ] = None
    packets: Annotated[
        Annotated[float, Field(ge=1, le=1e9)] | None,
        About("Packets", "Packets per second on average.", unit="packets/s"),
    ] = None
    burst: Annotated[
        float,
        Field(ge=0.001, le=60),
        About("Burst", "How much of both may arrive at once, in seconds of it.", unit="s"),
    ] = 0.25
    over: Annotated[Excess, About("Over the limit", "What happens to a packet that exceeds a limit.")] = Excess.DROP
    per: Annotated[Per, About("Per", "Who shares the limits.")] = Per.TIER
