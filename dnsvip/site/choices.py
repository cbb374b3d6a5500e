"""The words that an operator chooses between."""

from __future__ import annotations

from enum import StrEnum


class Over(StrEnum):
    """What happens to a new flow over its tier's rate."""

    DROP = "drop"
    HOLD = "hold"
    PASS = "pass"  # noqa: S105 - the opposite of drop


class TierAction(StrEnum):
    """What happens to a tier's packets at all."""

    FORWARD = "forward"
    DROP = "drop"


class Fallback(StrEnum):
    """What becomes of an address that is not good enough: `Tier.unproven`."""

    DEFAULT_TIER = "default-tier"
    REJECT = "reject"


class OnInvalid(StrEnum):
    """What a cluster does with rejected addresses."""

    DROP = "drop"
    DEFAULT_TIER = "default-tier"


class Anonymous(StrEnum):
    """What an unclassified client is answered."""

    PLAIN = "plain"
    ENCODED = "encoded"


class Stickiness(StrEnum):
    """What a pool's ring is keyed by."""

    FLOW = "flow"
    CLIENT = "client"
    SESSION = "session"


class Forward(StrEnum):
    """How a packet reaches its server: destination unchanged, IPv6 in IPv6, or rewritten both ways."""

    DIRECT = "direct"
    ENCAP = "encap"
    NAT = "nat"


class ServerState(StrEnum):
    """An operator's word on a server. Drain keeps established flows; down and maint keep none."""

    UP = "up"
    DRAIN = "drain"
    DOWN = "down"
    MAINT = "maint"


class ClientState(StrEnum):
    """A disabled or revoked client's addresses are rejected; revoked ones stay so until enrolled anew."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    REVOKED = "revoked"


class Step(StrEnum):
    """A way to tell a client, strongest first; `classify.order` puts the ones in use in order."""

    TSIG = "tsig"
    TLS = "tls"
    TOKEN = "token"  # noqa: S105 - the name of a step
    ECS = "ecs"
    SOURCE = "source"
    GEO = "geo"
    LISTENER = "listener"
