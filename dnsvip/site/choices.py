"""The words that an operator chooses between, each with its label and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dnsvip.address.proof import Bind
from dnsvip.site.declare import Choice


class Over(Choice):
    """What happens to a new flow that exceeds its tier's rate."""

    DROP = "drop", "Drop", "The first packet is dropped; the client tries again."
    HOLD = "hold", "Hold", "The first packet waits until the rate allows it."
    PASS = "pass", "Pass", "The flow is forwarded and counted as over the rate."


class Excess(Choice):
    """What happens to a packet that exceeds its tier's policing."""

    DROP = "drop", "Drop", "The packet is dropped."
    MARK = "mark", "Mark", "The packet is forwarded with a DSCP by which networks drop it first."


class Per(Choice):
    """Who shares one bucket of a tier's limit."""

    TIER = "tier", "Tier", "All clients of the tier share one limit."
    CLIENT = "client", "Client", "Each client has the limit for itself, an anonymous one its source's /64 or /24."
    SOURCE = "source", "Source", "Each source network, a /64 or /24, has the limit for itself."


class TierAction(Choice):
    """What happens to the packets of a tier."""

    FORWARD = "forward", "Forward", "Packets go to a server of the tier's pool."
    DROP = "drop", "Drop", "Every packet is dropped."


class Fallback(Choice):
    """What happens to an address that lacks a required proof: `Tier.unproven`."""

    DEFAULT_TIER = "default-tier", "Default tier", "The flow is served in the default tier of its cluster."
    REJECT = "reject", "Reject", "The packet is rejected as invalid."


class OnInvalid(Choice):
    """What a cluster does with packets to rejected addresses."""

    DROP = "drop", "Drop", "The packet is dropped."
    DEFAULT_TIER = "default-tier", "Default tier", "The flow is served in the cluster's default tier."


class OnExpired(Choice):
    """What a cluster does with packets to an authentic address that has expired."""

    DROP = "drop", "Drop", "The packet is dropped."
    DEFAULT_TIER = "default-tier", "Default tier", "The flow is served in the cluster's default tier."
    RESET = (
        "reset",
        "Reset",
        "The sender gets a TCP reset (for other protocols an ICMP error) and asks DNS again at once.",
    )


class Anonymous(Choice):
    """Which address an unidentified client receives."""

    PLAIN = "plain", "Plain", "The cluster's plain address, the same for everyone."
    ENCODED = "encoded", "Encoded", "An encoded address of the default tier with client number 0."


class NonceOf(Choice):
    """What a nonce is made for: `Cluster.nonce`."""

    SLOT = "slot", "Renewal", "A client has the same nonce for the time of renew."
    ANSWER = "answer", "Answer", "Each answer has a nonce of its own, and costs an encryption."


class Networks(Choice):
    """From where an issued address of a client is accepted."""

    ANY = "any", "Any", "From any network."
    ONLY = "only", "Only its own", "From networks that identify the client; from others it counts as unproven."


class Stickiness(Choice):
    """What the consistent hash of a pool is keyed by."""

    FLOW = "flow", "Flow", "Each flow is balanced by itself."
    CLIENT = "client", "Client", "All flows of a client go to the same server."
    SESSION = "session", "Session", "All flows of a session go to the same server."


class SessionFrom(Choice):
    """What names the session of a requester."""

    LABEL = "label", "Label", "The first label of the name asked for, which the API has made; others do not exist."


class Forward(Choice):
    """How a packet reaches its server."""

    DIRECT = "direct", "Direct", "The packet is unchanged; the server answers the client itself."
    ENCAP = "encap", "Encapsulated", "The packet travels inside an IPv6 tunnel; the server answers the client itself."
    NAT = (
        "nat",
        "NAT",
        "The destination is rewritten to the server's address, of the packet's IP version; answers are rewritten back.",
    )


class ServerState(Choice):
    """The administrative state of a server."""

    UP = "up", "Up", "The server takes new flows while it is healthy."
    DRAIN = "drain", "Drain", "Established flows stay, new ones go to other servers."
    DOWN = "down", "Down", "The server is not used; its flows go to other servers."
    MAINT = "maint", "Maintenance", "The server is being worked on and is not used."

    @property
    def out(self) -> bool:
        """Whether an operator has taken the server out of service: whether it passes its check matters to nobody."""
        return self in (ServerState.DOWN, ServerState.MAINT)


class ClientState(Choice):
    """Whether the addresses of a client are accepted."""

    ENABLED = "enabled", "Enabled", "The client's addresses are accepted."
    DISABLED = "disabled", "Disabled", "The client's addresses are rejected until it is enabled again."
    REVOKED = "revoked", "Revoked", "The client's addresses are rejected, and its key is void for good."


class Step(Choice):
    """A way to identify a client, strongest first; `classify.order` arranges the steps in use."""

    TSIG = "tsig", "TSIG key", "The name of the TSIG key that signed the query."
    TLS = "tls", "TLS certificate", "The identity in the client certificate of the TLS connection."
    TOKEN = "token", "Token", "The token that the query carries."
    ECS = "ecs", "EDNS Client Subnet", "A network around the client subnet that a trusted resolver reports (RFC 7871)."
    SOURCE = "source", "Source network", "A network around the source address of the query."
    GEO = "geo", "Place", "A country, continent or AS number of the requester, such as country:DE."
    LISTENER = "listener", "Listener", "The name of the DNS listener that received the query."


class TsigAlgorithm(Choice):
    """The MAC algorithms of TSIG (RFC 8945 section 6)."""

    SHA1 = "hmac-sha1", "HMAC-SHA-1", "For old peers only."
    SHA224 = "hmac-sha224", "HMAC-SHA-224", "HMAC with SHA-224."
    SHA256 = "hmac-sha256", "HMAC-SHA-256", "HMAC with SHA-256, which every peer must support."
    SHA384 = "hmac-sha384", "HMAC-SHA-384", "HMAC with SHA-384."
    SHA512 = "hmac-sha512", "HMAC-SHA-512", "HMAC with SHA-512."


class DnssecAlgorithm(Choice):
    """What a zone is signed with (RFC 8624 section 3.1)."""

    ECDSAP256SHA256 = (
        "ecdsap256sha256",
        "ECDSA P-256",
        "ECDSA P-256 with SHA-256, which all validators know (RFC 6605).",
    )
    ED25519 = "ed25519", "Ed25519", "Ed25519, which old validators take for unsigned (RFC 8080)."


class CatalogRole(Choice):
    """What a catalog zone is for (RFC 9432)."""

    PRODUCE = "produce", "Produce", "It is made here, and names the zones of the site that may be transferred."
    CONSUME = "consume", "Consume", "It is transferred from primaries, and the zones that it names with it."


class DnssecDenial(Choice):
    """How a signed zone proves that it has no such name or type."""

    COMPACT = (
        "compact",
        "Compact",
        "Compact denial, made for each name: nobody can list the zone, and a denial costs one signature (RFC 9824).",
    )
    NSEC = (
        "nsec",
        "NSEC chain",
        "The chain of the zone's names: all denials in a gap share a signature; anybody can list the zone (RFC 4034).",
    )
    NSEC3 = (
        "nsec3",
        "NSEC3 white lies",
        "NSEC3 made for each name: nobody can list the zone, and a denial costs up to three signatures (RFC 7129).",
    )


_BIND: Mapping[Bind, tuple[str, str]] = {
    Bind.NONE: ("Nothing", "The proof holds from any source address."),
    Bind.ADDRESS: ("Source address", "The proof holds from the source address it was made for."),
    Bind.ADDRESS_PORT: ("Address and port", "The proof holds from the source address and port it was made for."),
}
"""`Bind` belongs to the address format, which has no words for people; these are its."""


def words(choice: StrEnum) -> tuple[str, str]:
    """Label and help of a choice."""
    if isinstance(choice, Choice):
        return choice.label, choice.help
    return _BIND[Bind(choice)]
