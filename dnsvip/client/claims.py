"""What the client itself says of a connection: the words that a program names, as the numbers that addresses carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from dnsvip.address.fields import Fields, pack_claims
from dnsvip.client.enrolment import EnrolledCluster, Enrolment
from dnsvip.errors import ClientError, CodecError

Claims: TypeAlias = Mapping[str, str | int]
"""Name of a claim -> its number, or a word of the cluster's table."""


def check_claims(enrolment: Enrolment | None, said: Claims) -> None:
    """Raises ClientError for a claim that no cluster of the enrolment has, or with a value that one of them cannot
    carry."""
    clusters = enrolment.clusters if enrolment else ()
    known = sorted({name for cluster in clusters for name in cluster.claimed})
    for name in said:
        if enrolment is None:
            raise ClientError(f"claim {name!r}: claims need an enrolment, whose key proves them")
        if name not in known:
            raise ClientError(
                f"claim {name!r}: no cluster of the enrolment has it (there is: {', '.join(known) or 'none'})"
            )
    for cluster in clusters:
        claims_of(cluster, said)
        label_claims_of(cluster, said)


def claims_of(cluster: EnrolledCluster, said: Claims) -> int:
    """The claims that a cluster has of those, as the number that its addresses carry; raises ClientError."""
    return _packed(cluster, cluster.claims, said)


def label_claims_of(cluster: EnrolledCluster, said: Claims) -> int:
    """As `claims_of`, of the claims in flow labels."""
    return _packed(cluster, cluster.label.claims, said) if cluster.label else 0


def labelled(enrolment: Enrolment | None, said: Claims) -> list[str]:
    """Those of the claims that go into flow labels."""
    clusters = enrolment.clusters if enrolment else ()
    names = {name for cluster in clusters if cluster.label for name, _ in cluster.label.claims}
    return sorted(names & said.keys())


def parse_claims(texts: Iterable[str]) -> dict[str, str | int]:
    """Several of those, later ones before earlier ones; raises ValueError."""
    return dict(parse_claim(text) for text in texts)


def _packed(cluster: EnrolledCluster, fields: Fields, said: Claims) -> int:
    numbers = {name: _number(cluster, name, said[name]) for name, _ in fields if name in said}
    try:
        return pack_claims(fields, numbers)
    except CodecError as error:
        raise ClientError(f"claims of cluster {cluster.name!r}: {error}") from None


def parse_claim(text: str) -> tuple[str, str | int]:
    """NAME=VALUE as a claim; a value of digits is a number. Raises ValueError."""
    name, mark, value = text.partition("=")
    if not (name and mark and value):
        raise ValueError("must be NAME=VALUE, such as content=video")
    return name, int(value) if value.isascii() and value.isdigit() and len(value) < 10 else value


def _number(cluster: EnrolledCluster, name: str, value: str | int) -> int:
    table = cluster.values.get(name)
    if table is None:
        if isinstance(value, int):
            return value
        raise ClientError(f"claim {name}={value}: must be a number, as cluster {cluster.name!r} has no words for it")
    number = table.get(value) if isinstance(value, str) else value
    if number is None or (number and number not in table.values()):
        raise ClientError(f"claim {name}={value}: cluster {cluster.name!r} knows {', '.join(table)}")
    return number
