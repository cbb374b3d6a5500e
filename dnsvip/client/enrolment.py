"""The enrolment: all that a client needs to use its encoded addresses, as values and as a JSON document.

An operator makes it (`dnsvip.client.enrol`), the client imports it. It holds the client's keys, so the whole of it is
a secret, and reprs show none of the keys. README.md describes the document; `version` is 1.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError

from dnsvip.address.layout import Layout
from dnsvip.address.proof import CLIENT_KEY_BYTES, Bind
from dnsvip.errors import ClientError, CodecError
from dnsvip.site import STRICT, DnsName, Endpoint, Name
from dnsvip.site.plain import problem_of

VERSION: Literal[1] = 1
SECRET_FIELDS = frozenset({"key", "secret"})


def _key_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        key = bytes.fromhex(value)
    except ValueError:
        raise ValueError("must be hexadecimal") from None
    if len(key) != CLIENT_KEY_BYTES:
        raise ValueError(f"must be {CLIENT_KEY_BYTES} bytes, {2 * CLIENT_KEY_BYTES} hexadecimal digits")
    return key


def _base64(value: str) -> str:
    try:
        decoded = b64decode(value, validate=True)
    except ValueError:
        raise ValueError("must be base64") from None
    if not decoded:
        raise ValueError("must not be empty")
    return value


ClientKey = Annotated[bytes, BeforeValidator(_key_bytes), PlainSerializer(bytes.hex)]


@dataclass(frozen=True, slots=True)
class ProofKey:
    """How the client proves its addresses to one cluster; `key` is 16 bytes, derived for `key_generation`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    key: ClientKey = field(repr=False)
    bind: Bind = Bind.ADDRESS
    single_use: bool = False
    key_generation: Annotated[int, Field(ge=0, lt=1 << 32)] = 0


@dataclass(frozen=True, slots=True)
class EnrolledCluster:
    """A cluster from the client's point of view. `slot_seconds` is the length of a proof's time slot.

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

    @property
    def address_layout(self) -> Layout:
        """The address layout of the cluster; raises CodecError where the bits do not add up."""
        return Layout(self.prefix, self.layout, self.tag_bits)


@dataclass(frozen=True, slots=True)
class TsigIdentity:
    """The TSIG key (RFC 8945) that identifies the client to the DNS servers; `secret` is base64."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    algorithm: Annotated[str, Field(pattern=r"^hmac-(sha1|sha224|sha256|sha384|sha512)$")]
    secret: Annotated[str, AfterValidator(_base64)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A client's enrolment. `servers` are the DNS servers to query, each ADDRESS:PORT, in this order.

    `zones` are the zones of the services: aliases of a service live there, so that names below them are queried at
    these servers too.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    client: Name
    id: Annotated[int, Field(ge=1, lt=1 << 63)]
    servers: Annotated[tuple[Endpoint, ...], Field(min_length=1)]
    clusters: tuple[EnrolledCluster, ...]
    zones: tuple[DnsName, ...] = ()
    tsig: TsigIdentity | None = None
    version: Literal[1] = VERSION

    def is_service(self, name: str) -> bool:
        """Whether the addresses of a name (lower case, no trailing dot) are synthesized per client."""
        return any(name in cluster.services for cluster in self.clusters)

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
    problems_between = _problems(enrolment)
    if problems_between:
        raise ClientError("\n".join(f"{source}: {problem}" for problem in problems_between))
    return enrolment


def dump(enrolment: Enrolment) -> str:
    """The JSON document of an enrolment, secrets included; `parse` is its inverse."""
    return json.dumps(_ADAPTER.dump_python(enrolment, mode="json"), indent=2) + "\n"


def _without_secret(item: Mapping[str, Any]) -> dict[str, Any]:
    hidden = SECRET_FIELDS & {str(part) for part in item["loc"]}
    return {**item, "input": {}} if hidden else dict(item)


def _problems(enrolment: Enrolment) -> list[str]:
    problems = []
    for number, cluster in enumerate(enrolment.clusters):
        where = f"clusters.{number}"
        try:
            layout = cluster.address_layout
        except CodecError as error:
            problems.append(f"{where}: {error}")
            continue
        if cluster.plain not in cluster.prefix:
            problems.append(f"{where}.plain: {cluster.plain} is outside {cluster.prefix}")
        if cluster.proof and not layout.bits("client"):
            problems.append(f"{where}.proof: must be null, as the layout has no field 'client'")
    return problems
