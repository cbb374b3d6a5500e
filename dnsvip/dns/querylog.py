"""One query and its response as a line of the query log: dnstap's fields under dnstap's meaning, as JSON.

The requester is written as the prefix that is kept of its address; so is the query's ECS option. The address in the
response, which would identify the client, is not written at all, nor are the labels that name sessions. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, TypeAlias

from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.protocol.message import Edns, Flag, Malformed, Query, Rcode, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.reply import Reply

Address: TypeAlias = IPv4Address | IPv6Address
Anonymise: TypeAlias = Callable[[Address], str]


class Sample(NamedTuple):
    """A message that came at `now` (unix seconds), and the reply as it was sent, by the program `in_kernel` or here."""

    now: float
    transport: Transport
    listener: str
    source: Address
    wire: bytes
    reply: Reply
    in_kernel: bool = False


def record(sample: Sample, anonymise: Anonymise, secret: Container[Labels] = ()) -> Mapping[str, Any]:
    """The fields of one line; of names below those in `secret` (lower case) only that they are. What the fast path
    recognized by its bytes is parsed here, for the first time."""
    reply = sample.reply
    answered = reply.wire is not None and reply.more is None
    line: dict[str, Any] = {
        "type": "CLIENT_RESPONSE" if answered else "CLIENT_QUERY",
        "time": datetime.fromtimestamp(sample.now, UTC).isoformat(timespec="microseconds"),
        "socket_family": f"INET{'6' if sample.source.version == 6 else ''}",
        "socket_protocol": sample.transport.dnstap,
        "listener": sample.listener,
        "query_address": anonymise(sample.source),
        "query_size": len(sample.wire),
    }
    line |= _asked(reply.query or parse(sample.wire), anonymise, secret)
    return line | _answered(reply) if answered else line


def _asked(query: Query | Malformed, anonymise: Anonymise, secret: Container[Labels]) -> dict[str, Any]:
    if isinstance(query, Malformed):
        return {"malformed": query.flaw.value}
    return {
        "qname": name_of(without_secrets(query.key, secret)),
        "qtype": _named(Type, query.qtype, "TYPE"),
        "qclass": "IN" if query.qclass == 1 else f"CLASS{query.qclass}",
        "rd": bool(query.flags & Flag.RD),
        **_edns(query.edns, anonymise),
    }


def without_secrets(name: Labels, secret: Container[Labels]) -> Labels:
    """The name, `*` in place of all labels below the closest name in `secret`."""
    for at in range(1, len(name)):
        if name[at:] in secret:
            return (b"*", *name[at:])
    return name


def name_of(labels: Labels) -> str:
    """A name as text (RFC 1035 section 5.1): dots in labels, and what is not printable, escaped."""
    return "".join(f"{''.join(map(_escaped, label))}." for label in labels) or "."


def _escaped(byte: int) -> str:
    if byte in b'.\\"':
        return f"\\{byte:c}"
    return chr(byte) if 0x21 <= byte <= 0x7E else f"\\{byte:03d}"


def _named(kind: type[Type | Rcode], number: int, otherwise: str) -> str:
    try:
        return kind(number).name
    except ValueError:
        return f"{otherwise}{number}"


def _edns(edns: Edns | None, anonymise: Anonymise) -> dict[str, Any]:
    if edns is None:
        return {}
    fields: dict[str, Any] = {"edns_size": edns.udp_size, "do": edns.do, "cookie": bool(edns.cookie)}
    if edns.subnet and edns.subnet.family:
        _, source, address = edns.subnet
        kept = anonymise(IPv4Address(address) if len(address) == 4 else IPv6Address(address))
        fields["ecs"] = kept if "/" in kept else f"{kept}/{source}"
        fields["ecs_source"] = source
    return fields


def _answered(reply: Reply) -> dict[str, Any]:
    return {
        "rcode": _named(Rcode, reply.rcode or 0, "RCODE"),
        "aa": reply.aa,
        "tc": reply.truncated,
        "response_size": len(reply.wire or b""),
        **({"identified_by": reply.step.value} if reply.step is not None else {}),
    }
