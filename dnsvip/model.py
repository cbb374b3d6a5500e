"""What a site is made of: frozen values, and the Snapshot that every decision reads.

The shape of each class is the shape of its table in the site file and of its body in the HTTP API;
`dnsvip.spec` reads and writes all three from these annotations. Nothing here does I/O, and what must
hold *between* objects is in `dnsvip.rules`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, ClassVar

from cryptography.x509 import load_pem_x509_certificates
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from dnsvip.codec.classes import ClassTable
from dnsvip.codec.keyring import Keyring
from dnsvip.codec.layout import Layout
from dnsvip.codec.proof import Bind

NAME_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
DNS_LABEL = re.compile(r"[a-z0-9_*/-]{1,63}")


def _checked_dns_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if len(name) > 253 or (name and not all(map(DNS_LABEL.fullmatch, name.split(".")))):
        raise ValueError(
            "must be labels of 1 to 63 letters, digits, - and _ (also * and /) joined by dots, 253 characters in all"
        )
    return name or "."


DnsName = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(_checked_dns_name)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(ip_network)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(ip_address)]

STRICT = ConfigDict(extra="forbid")


def parse_endpoint(text: str) -> tuple[str, int]:
    """Address and port of "192.0.2.1:53" or "[2001:db8::1]:53"; raises ValueError."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("must be ADDRESS:PORT, an IPv6 address in brackets: [2001:db8::1]:53")
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("must end in :PORT, 0 to 65535")
    return str(ip_address(host)), int(port)


def _checked_endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


Endpoint = Annotated[str, AfterValidator(_checked_endpoint)]


def _checked_base64(text: str) -> str:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64, as `tsig-keygen` writes it") from error
    return text


Base64 = Annotated[str, Field(min_length=4), AfterValidator(_checked_base64)]


def _checked_authorities(text: str) -> str:
    try:
        load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ValueError("must be certificates in PEM form") from error
    return text


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
    code: Annotated[int, Field(ge=0)]
    pool: Name | None = None
    action: TierAction = TierAction.FORWARD
    dscp: Annotated[int, Field(ge=0, le=63)] | None = None
    rate: Rate | None = None
    require_proof: bool = False
    unproven: Fallback = Fallback.REJECT


@dataclass(frozen=True, slots=True)
class Server:
    """One backend. `weight` 0 takes no new flows; `state` is set by API and CLI, not by the site file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    address: Address
    weight: Annotated[int, Field(ge=0, le=1000)] = 100
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
    tcp: Annotated[int, Field(ge=1, le=65535)] | None = None
    http: Annotated[str, Field(pattern=r"^https?://", max_length=2000)] | None = None
    agent: Annotated[int, Field(ge=1, le=65535)] | None = None
    interval: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    timeout: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    fall: Annotated[int, Field(ge=1, le=100)] = 2
    rise: Annotated[int, Field(ge=1, le=100)] = 2
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")] | None = None
    verify: bool = True
    ca: Annotated[str, Field(max_length=65_536), AfterValidator(_checked_authorities)] | None = None


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


@dataclass(frozen=True)
class Cluster:
    """An IPv6 cluster: where its prefix is, what its addresses carry, how they live.

    `layout` lists (field, bits); `values` gives an attribute's table, value -> number. `address_layout`
    is derived and raises CodecError where the numbers do not add up. A new key epoch is published every
    `rotate_every` seconds; without it only when an operator asks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    prefix: IPv6Network
    plain: IPv6Address
    layout: tuple[tuple[Name, Annotated[int, Field(ge=1, le=64)]], ...]
    tag_bits: int
    default_tier: Name
    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    expiry_unit: Seconds = 900
    ttl: Annotated[int, Field(ge=0, le=86_400)] = 60
    renew: Seconds | None = None
    anonymous: Anonymous = Anonymous.PLAIN
    on_invalid: OnInvalid = OnInvalid.DROP
    slot_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    session_lifetime: Seconds = 3600
    rotate_every: Seconds | None = None

    @property
    def address_layout(self) -> Layout:
        """The bits of this cluster's addresses."""
        return Layout(self.prefix, self.layout, self.tag_bits)

    @property
    def renew_seconds(self) -> int:
        """How long a client keeps the same nonce and expiry; the TTL where the site does not say."""
        return self.renew or max(self.ttl, 1)


@dataclass(frozen=True)
class ClassCluster:
    """An IPv4 cluster: host numbers of its subnet stand for tiers, without cryptography."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    prefix: IPv4Network
    plain: IPv4Address
    classes: Mapping[Name, tuple[int, ...]]
    default_tier: Name
    ttl: Annotated[int, Field(ge=0, le=86_400)] = 60

    @property
    def table(self) -> ClassTable:
        """The addresses by tier; raises CodecError for numbers that cannot be used."""
        return ClassTable(self.prefix, self.plain, self.classes)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Who may have a whole zone (AXFR): who asks from one of `to` and signs with the key `tsig`; both, where both
    are given."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    to: tuple[Network, ...] = ()
    tsig: DnsName | None = None


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone as the text of its zone file (RFC 1035 section 5). Without `transfer` nobody gets it whole."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    text: str = field(repr=False)
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A name whose AAAA (and A, and HTTPS/SVCB hints) are made per client."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    cluster: Name
    cluster4: Name | None = None


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret of RFC 8945; `secret` is base64 as in every other name server's config."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    secret: Base64 = field(repr=False)
    algorithm: Annotated[str, Field(pattern=r"^hmac-(sha1|sha224|sha256|sha384|sha512)$")] = "hmac-sha256"


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
    id: Annotated[int, Field(ge=1, lt=1 << 63)]
    tier: Name
    match: tuple[MatchEntry, ...] = ()
    proof: Proof = Proof()
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    state: ClientState = ClientState.ENABLED
    key_generation: Annotated[int, Field(ge=0, lt=1 << 32)] = 0


@dataclass(frozen=True, slots=True)
class Classify:
    """In which order clients are told, and from which resolvers ECS (RFC 7871) counts."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    order: tuple[Step, ...] = tuple(Step)
    trust_ecs_from: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """Everything an operator decides, by name. Clusters of both families share one space of names."""

    clusters: Mapping[str, Cluster | ClassCluster] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    tsig_keys: Mapping[str, TsigKey] = field(default_factory=dict)
    clients: Mapping[str, Client] = field(default_factory=dict)
    classify: Classify = Classify()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable state of a site with its keys, as of one generation of the store.

    `keyrings` and `masters` (32-byte client masters) are by name of IPv6 cluster. `cookie_secrets` (16 bytes each)
    are for DNS cookies: made with the first, taken from all; with none there are no cookies.
    """

    generation: int = 0
    site: Site = Site()
    keyrings: Mapping[str, Keyring] = field(default_factory=dict)
    masters: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    cookie_secrets: tuple[bytes, ...] = field(default=(), repr=False)
