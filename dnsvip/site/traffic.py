"""What becomes of traffic: tiers, pools, their servers and how these are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site.choices import Fallback, Forward, Over, ServerState, Stickiness, TierAction
from dnsvip.site.values import STRICT, Address, Authorities, Name


@dataclass(frozen=True, slots=True)
class Rate:
    """New flows per second and burst of a tier, and what happens over it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    new_flows: Annotated[float, Field(gt=0)]
    burst: Annotated[float, Field(ge=1)] = 1.0
    over: Over = Over.DROP


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of clients. `code` is what the address carries; `dscp` 0 to 63 marks its packets."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    code: Annotated[int, Field(strict=True, ge=0)]
    pool: Name | None = None
    action: TierAction = TierAction.FORWARD
    dscp: Annotated[int, Field(strict=True, ge=0, le=63)] | None = None
    rate: Rate | None = None
    require_proof: bool = False
    unproven: Fallback = Fallback.REJECT


@dataclass(frozen=True, slots=True)
class Server:
    """One backend. `weight` 0 takes no new flows; `state` is set by API and CLI, not by the site file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    address: Address
    weight: Annotated[int, Field(strict=True, ge=0, le=1000)] = 100
    state: ServerState = ServerState.UP


@dataclass(frozen=True, slots=True)
class Check:
    """A health check: `tcp` (port) or `http` (URL, `{address}` stands for the server), and `agent` (port of a load
    agent, HAProxy's agent-check protocol), which may also stand alone.

    `interval` and `timeout` in seconds; `fall` failures take a server out, `rise` successes bring it back. `host` is
    the Host header and, under https, the name in the certificate; `ca` (PEM) the authorities in place of the
    system's. Only `verify = false` takes any certificate.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    tcp: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = None
    http: Annotated[str, Field(pattern=r"^https?://", max_length=2000)] | None = None
    agent: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = None
    interval: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    timeout: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    fall: Annotated[int, Field(strict=True, ge=1, le=100)] = 2
    rise: Annotated[int, Field(strict=True, ge=1, le=100)] = 2
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")] | None = None
    verify: bool = True
    ca: Authorities | None = None


MAX_POOLS = 5
"""A pool and the at most four that follow one another by `fallback`."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Servers that do the same work. `fallback` names the pool that takes new flows while none of its own can."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    servers: tuple[Server, ...] = ()
    stickiness: Stickiness = Stickiness.FLOW
    forward: Forward = Forward.DIRECT
    check: Check | None = None
    fallback: Name | None = None
