"""What a client holds for itself: tickets, and source addresses of its networks (address/README.md, "Where a client
gets them").

Pure: values, when they are due for renewal, and the JSON document in which they are kept. What is not to be used, of
another client or cluster or out of date, is left out without a word: it can be fetched again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.client.enrolment import EnrolledCluster, Enrolment, first_name
from dnsvip.site import STRICT, DnsName, Name

TICKET, SOURCE = "_ticket", "_source"
"""The labels before a service's name."""

Key: TypeAlias = tuple[str, IPv6Network | None]
"""The name at which something is asked for, and the client's network where that matters."""


@dataclass(frozen=True, slots=True)
class Held:
    """An address that the client was given. It is good from `since` to `until` (unix seconds)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    cluster: Name
    name: DnsName
    address: IPv6Address
    since: float
    until: float
    network: IPv6Network | None = None

    @property
    def key(self) -> Key:
        """What it is the answer to."""
        return self.name, self.network

    def is_good(self, now: float) -> bool:
        """Whether it may be used at `now`."""
        return now < self.until

    def is_due(self, now: float) -> bool:
        """Whether it is time to ask for another: half of its time is over, or the clock was put back."""
        return not self.since <= now < (self.since + self.until) / 2


@dataclass(frozen=True, slots=True)
class _Document:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    version: Literal[1]
    client: Name
    id: int
    held: Annotated[tuple[Held, ...], Field(max_length=10_000)]


_ADAPTER: TypeAdapter[_Document] = TypeAdapter(_Document)


def network_of(address: IPv6Address) -> IPv6Network:
    """The client's network around an address: its /64."""
    return IPv6Network((int(address) >> 64 << 64, 64))


def ticket_name(cluster: EnrolledCluster, name: str) -> str | None:
    """Where the ticket for a name is: at the name itself where it is a service of the cluster, else (an alias, a name
    of a wildcard) at the first that is; None without one."""
    service = name if name in cluster.services else first_name(cluster.services)
    return f"{TICKET}.{service}" if service else None


def source_name(cluster: EnrolledCluster, name: str) -> str | None:
    """As `ticket_name`, of the source address; None too where the cluster reads none."""
    ticket = ticket_name(cluster, name) if cluster.source else None
    return ticket.replace(TICKET, SOURCE, 1) if ticket else None


def is_usable(cluster: EnrolledCluster, held: Held) -> bool:
    """Whether an address is what it should be: an issued one of the cluster, or one of the network."""
    if held.network is not None:
        return held.address in held.network
    issued = not int(held.address) & cluster.address_layout.mode_bit
    return issued and held.address in cluster.prefix and held.address != cluster.plain


def parse(text: bytes, enrolment: Enrolment, now: float) -> dict[Key, Held]:
    """What a document holds for this enrolment that is still good; nothing of one that cannot be read."""
    try:
        document = _ADAPTER.validate_json(text)
    except ValidationError:
        return {}
    if (document.client, document.id) != (enrolment.client, enrolment.id):
        return {}
    clusters = {cluster.name: cluster for cluster in enrolment.clusters}
    return {
        held.key: held
        for held in document.held
        if held.is_good(now) and held.cluster in clusters and is_usable(clusters[held.cluster], held)
    }


def dump(enrolment: Enrolment, held: Iterable[Held]) -> bytes:
    """The document; `parse` is its inverse."""
    document = _Document(1, enrolment.client, enrolment.id, tuple(held))
    return json.dumps(_ADAPTER.dump_python(document, mode="json"), indent=2).encode() + b"\n"
