"""Where traffic goes: tiers, pools, servers and their health checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dnsvip.site.choices import Fallback, Forward, Networks, ServerState, Stickiness, TierAction
from dnsvip.site.declare import About
from dnsvip.site.quality import Policing, Rate
from dnsvip.site.values import STRICT, Address, Authorities, Name, Port


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of clients that share a pool, a rate limit and a DSCP mark."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the tier.", listed=1)]
    code: Annotated[
        int, Field(strict=True, ge=0), About("Code", "Number that an address carries for this tier.", listed=2)
    ]
    pool: Annotated[
        Name | None,
        About(
            "Pool", "Pool that serves the tier, unless the action is to drop.", listed=4, filtered=True, refers="pool"
        ),
    ] = None
    action: Annotated[
        TierAction, About("Action", "What happens to the packets of the tier.", listed=3, filtered=True)
    ] = TierAction.FORWARD
    dscp: Annotated[
        Annotated[int, Field(strict=True, ge=0, le=63)] | None,
        About("DSCP", "Differentiated services code point that forwarded packets are marked with.", listed=5),
    ] = None
    rate: Annotated[
        Rate | None, About("Rate limit", "Limit on new flows of the tier; without it there is none.", listed=6)
    ] = None
    require_proof: Annotated[
        bool,
        About(
            "Requires proof",
            "Accept only addresses that their client has proven with its key.",
            listed=7,
            heading="PROOF",
            filtered=True,
        ),
    ] = False
    unproven: Annotated[
        Fallback,
        About(
            "Unproven addresses",
            "What happens to an address that lacks a required proof, or comes from another network than it must.",
        ),
    ] = Fallback.REJECT
    end_flows: Annotated[bool, About("End flows", "With the action to drop, known flows of the tier end too.")] = False
    policing: Annotated[
        Policing | None,
        About("Policing", "Limit on the packets of its clients, in known flows too; without it there is none."),
    ] = None
    priority: Annotated[
        Annotated[int, Field(strict=True, ge=0, le=7)],
        About(
            "Priority", "Which held packets go first, and which flows keep their place while too many wait: 7 before 0."
        ),
    ] = 0
    networks: Annotated[
        Networks,
        About(
            "Networks",
            "From where issued addresses of its clients are accepted, and IPv4 addresses of its class: with "
            '"only" from the networks (ecs and source) that identify the client, or one of the tier.',
            filtered=True,
        ),
    ] = Networks.ANY

    @property
    def is_ended(self) -> bool:
        """Whether the tier's known flows have ended: none of its packets passes."""
        return self.end_flows and self.action is TierAction.DROP


@dataclass(frozen=True, slots=True)
class Server:
    """One backend of a pool."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the server, unique in its pool.", listed=1)]
    address: Annotated[Address, About("Address", "IPv6 or IPv4 address of the server.", listed=2)]
    weight: Annotated[
        int,
        Field(strict=True, ge=0, le=1000),
        About("Weight", "Share of new flows relative to the pool's other servers; 0 takes none.", listed=3),
    ] = 100
    state: Annotated[
        ServerState,
        About("State", "Administrative state of the server.", listed=4, filtered=True, runtime=True),
    ] = ServerState.UP


@dataclass(frozen=True, slots=True)
class Check:
    """A health check: by TCP connect or by HTTP, a load agent beside either, or the agent alone."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    tcp: Annotated[
        Port | None, About("TCP port", "Port that must accept a connection. Excludes an HTTP check.", unit="port")
    ] = None
    http: Annotated[
        Annotated[str, Field(pattern=r"^https?://", max_length=2000)] | None,
        About(
            "HTTP URL", "URL that must answer with a 2xx or 3xx status; {address} is replaced by the server's address."
        ),
    ] = None
    agent: Annotated[
        Port | None,
        About("Agent port", "Port of a load agent that speaks HAProxy's agent-check protocol.", unit="port"),
    ] = None
    interval: Annotated[float, Field(ge=0.1, le=3600), About("Interval", "Time between two checks.", unit="s")] = 1.0
    timeout: Annotated[
        float, Field(ge=0.05, le=60), About("Timeout", "Time after which a check counts as failed.", unit="s")
    ] = 1.0
    fall: Annotated[
        int,
        Field(strict=True, ge=1, le=100),
        About("Fall", "Consecutive failures that take a server out of service.", unit="checks"),
    ] = 2
    rise: Annotated[
        int,
        Field(strict=True, ge=1, le=100),
        About("Rise", "Consecutive successes that bring a server back.", unit="checks"),
    ] = 2
    host: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")] | None,
        About("Host", "Host header of an HTTP check and, under https, the name expected in the certificate."),
    ] = None
    verify: Annotated[
        bool, About("Verify certificate", "Verify the server's certificate under https; off accepts any certificate.")
    ] = True
    ca: Annotated[
        Authorities | None,
        About(
            "Certificate authorities",
            "Authorities to trust under https in place of the system's, as PEM.",
            media="application/x-pem-file",
        ),
    ] = None


MAX_POOLS = 5
"""A pool and the at most four that follow one another by `fallback`."""


MOST_SERVERS = 4096
"""Servers of one pool: as many as the kernel program has of all pools."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Servers that do the same work."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Annotated[Name, About("Name", "Name of the pool.", listed=1)]
    servers: Annotated[tuple[Server, ...], About("Servers", "Servers of the pool.", listed=6, most=MOST_SERVERS)] = ()
    stickiness: Annotated[Stickiness, About("Stickiness", "What stays on the same server.", listed=3)] = Stickiness.FLOW
    forward: Annotated[Forward, About("Forwarding", "How packets reach the servers.", listed=2, filtered=True)] = (
        Forward.DIRECT
    )
    check: Annotated[
        Check | None, About("Health check", "How servers are checked; without it each counts as healthy.", listed=4)
    ] = None
    fallback: Annotated[
        Name | None,
        About(
            "Fallback",
            "Pool that takes new flows while no server of this one can.",
            listed=5,
            filtered=True,
            refers="pool",
        ),
    ] = None
