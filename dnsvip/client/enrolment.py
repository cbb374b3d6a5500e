"""The enrolment: all that a client needs to use its encoded addresses, as values and as a JSON document.

An operator makes it (`dnsvip.client.enrol`), the client imports it. It holds the client's keys, so the whole of it is
a secret, and reprs show none of the keys. README.md describes the document; `version` is 1.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.address.label import LabelFormat
from dnsvip.address.layout import MAX_CLAIM_BITS, Layout
from dnsvip.address.proof import Bind
from dnsvip.errors import ClientError, CodecError
from dnsvip.site import STRICT, Authorities, DnsName, DnsServer, Label, Name
from dnsvip.site.plain import problem_of
from dnsvip.site.server_forms import is_encrypted, parse_server
from dnsvip.site.values import HexKey

VERSION: Literal[1] = 1
SECRET_FIELDS = frozenset({"key", "secret", "token"})


def _base64(value: str) -> str:
    try:
        decoded = b64decode(value, validate=True)
    except ValueError:
        raise ValueError("must be base64") from None
    if not decoded:
        raise ValueError("must not be empty")
    return value


@dataclass(frozen=True, slots=True)
class ProofKey:
    """How the client proves its addresses to one cluster; `key` is 16 bytes, derived for `key_generation`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    key: HexKey = field(repr=False)
    bind: Bind = Bind.ADDRESS
    single_use: bool = False
    key_generation: Annotated[int, Field(ge=0, lt=1 << 32)] = 0


def first_name(services: Iterable[str]) -> str | None:
    """The first service that is no wildcard, at whose name something can be asked for; None without one."""
    return next((service for service in services if not service.startswith("*.")), None)


@dataclass(frozen=True, slots=True)
class EnrolledCluster:
    """A cluster from the client's point of view. `slot_seconds` is the length of a proof's time slot, `claims` and
    `label` what the client may say itself in address and flow label, `values` the words for that, and `source` whether
    it reads clients' own addresses.

    `proof` is None where the cluster's addresses carry no client, so that no dispatcher could verify a proof.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    prefix: IPv6Network
    plain: IPv6Address
    layout: tuple[tuple[Name, Annotated[int, Field(ge=1, le=64)]], ...]
    tag_bits: int
    slot_seconds: Annotated[int, Field(ge=1, le=3600)]
    services: tuple[DnsName, ...]
    proof: ProofKey | None = None
    claims: tuple[tuple[Name, Annotated[int, Field(ge=1, le=MAX_CLAIM_BITS)]], ...] = ()
    values: Mapping[Name, Mapping[str, int]] = field(default_factory=dict)
    label: Label | None = None
    source: bool = False

    @property
    def label_format(self) -> LabelFormat | None:
        """The bits of flow labels to the cluster; raises CodecError where they do not add up."""
        return LabelFormat(self.label.claims, self.label.mac_bits) if self.label else None

    @property
    def claimed(self) -> tuple[str, ...]:
        """The names of all that the client may say."""
        return tuple(name for name, _ in (*self.claims, *(self.label.claims if self.label else ())))

    @property
    def address_layout(self) -> Layout:
        """The address layout of the cluster; raises CodecError where the bits do not add up."""
        return Layout(self.prefix, self.layout, self.tag_bits, self.claims)


@dataclass(frozen=True, slots=True)
class TsigIdentity:
    """The TSIG key (RFC 8945) that identifies the client to the DNS servers; `secret` is base64."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    algorithm: Annotated[str, Field(pattern=r"^hmac-(sha1|sha224|sha256|sha384|sha512)$")]
    secret: Annotated[str, AfterValidator(_base64)] = field(repr=False)


TokenText = Annotated[str, Field(pattern=r"^[a-z0-9]{26,63}$")]
"""A token that says who asks, as text; a label of DNS names."""


@dataclass(frozen=True, slots=True)
class ServerTrust:
    """What encrypted servers are verified by: `ca`, authorities (PEM) in place of the machine's, or `pins`, SHA-256
    digests of their public keys (base64). With both, both must hold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    ca: Authorities | None = None
    pins: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")], ...], Field(max_length=16)] = ()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A client's enrolment. `servers` are the DNS servers to query, in this order (`site.server_forms`). At encrypted
    ones a client without TSIG key says who it is by its `token`, or by a certificate, which is in a file of its own.

    Behind an encrypted server none is asked in plain text but with `plaintext_fallback`.

    `zones` are the zones of the services: aliases of a service live there, so that names below them are queried at
    these servers too. `services4` are those that have IPv4 addresses only.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    client: Name
    id: Annotated[int, Field(ge=1, lt=1 << 63)]
    servers: Annotated[tuple[DnsServer, ...], Field(min_length=1)]
    clusters: tuple[EnrolledCluster, ...]
    services4: tuple[DnsName, ...] = ()
    zones: tuple[DnsName, ...] = ()
    tsig: TsigIdentity | None = None
    token: TokenText | None = field(default=None, repr=False)
    trust: ServerTrust = ServerTrust()
    plaintext_fallback: bool = False
    version: Literal[1] = VERSION

    @property
    def asked_servers(self) -> tuple[str, ...]:
        """Those of the servers that are asked: whoever can break a channel must not turn queries into plain text."""
        if self.plaintext_fallback:
            return self.servers
        plain = len(self.servers) if self.tsig or not self.token else 0  # a token is for encrypted servers alone
        first = next((place for place, server in enumerate(self.servers) if is_encrypted(server)), len(self.servers))
        return tuple(
            server for place, server in enumerate(self.servers) if is_encrypted(server) or place < min(first, plain)
        )

    @property
    def audited(self) -> dict[str, Any]:
        """What an audit row tells of it besides its client: no secret."""
        return {"servers": list(self.servers), "token": self.token is not None}

    @property
    def services(self) -> tuple[str, ...]:
        """The names whose addresses are synthesized per client."""
        return (*(name for cluster in self.clusters for name in cluster.services), *self.services4)

    def is_service(self, name: str) -> bool:
        """Whether the addresses of a name (lower case, no trailing dot) are synthesized per client."""
        return name in self.services4 or any(name in cluster.services for cluster in self.clusters)

    def covers(self, name: str) -> bool:
        """Whether a name is queried at the enrolment's servers: a service, or a name in the zone of one."""
        inside = any(name == zone or name.endswith(f".{zone}") or zone == "." for zone in self.zones)
        return inside or self.is_service(name)

    def cluster_of(self, address: IPv6Address) -> EnrolledCluster | None:
        """The cluster whose prefix contains an address."""
        return next((cluster for cluster in self.clusters if address in cluster.prefix), None)


_ADAPTER: TypeAdapter[Enrolment] = TypeAdapter(Enrolment)


def parse(text: str, source: str) -> Enrolment:
    """The enrolment in a JSON document; raises ClientError with every problem, under `source` (a file's name)."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ClientError(f"{source}: is not an enrolment: not JSON ({error})") from None
    if not isinstance(data, dict) or "version" not in data:
        raise ClientError(f"{source}: is not an enrolment: make one with `dnsvip client enrol`")
    if data["version"] != VERSION:
        raise ClientError(f"{source}: version {data['version']!r}: this dnsvip reads version {VERSION}")
    try:
        enrolment = _ADAPTER.validate_python(data)
    except ValidationError as error:
        problems = [problem_of("", Enrolment, _without_secret(item)) for item in error.errors()]
        raise ClientError("\n".join(f"{source}: {problem}" for problem in problems)) from None
    problems_between = problems_of(enrolment)
    if problems_between:
        raise ClientError("\n".join(f"{source}: {problem}" for problem in problems_between))
    return enrolment


def dump(enrolment: Enrolment) -> str:
    """The JSON document of an enrolment, secrets included; `parse` is its inverse. What clients say and
    IPv4-only services are left out where there are none, so that earlier versions read it."""
    document = _ADAPTER.dump_python(enrolment, mode="json")
    for key in ("services4", "token", "plaintext_fallback"):
        if not document[key]:
            del document[key]
    if enrolment.trust == ServerTrust():
        del document["trust"]
    for cluster in document["clusters"]:
        for key in ("claims", "values", "label", "source"):
            if not cluster[key]:
                del cluster[key]
    return json.dumps(document, indent=2) + "\n"


def _without_secret(item: Mapping[str, Any]) -> dict[str, Any]:
    hidden = SECRET_FIELDS & {str(part) for part in item["loc"]}
    return {**item, "input": {}} if hidden else dict(item)


def problems_of(enrolment: Enrolment) -> list[str]:
    """What in an enrolment does not go together."""
    problems = []
    if not enrolment.asked_servers:
        problems.append("servers: none can be asked: a token is shown to encrypted servers only")
    if enrolment.token and not enrolment.tsig:
        nameless = [server for server in enrolment.servers if is_encrypted(server) and not parse_server(server).name]
        problems += [f"servers: {server} has no name, which a token needs: it goes behind #" for server in nameless]
    for number, cluster in enumerate(enrolment.clusters):
        where = f"clusters.{number}"
        try:
            layout, _ = cluster.address_layout, cluster.label_format
        except CodecError as error:
            problems.append(f"{where}: {error}")
            continue
        if cluster.plain not in cluster.prefix:
            problems.append(f"{where}.plain: {cluster.plain} is outside {cluster.prefix}")
        if cluster.proof and not layout.bits("client"):
            problems.append(f"{where}.proof: must be null, as the layout has no field 'client'")
    return problems
