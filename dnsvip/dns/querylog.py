"""One question and its answer as a line of the query log: dnstap's fields under dnstap's meaning, as JSON.

Who asked is written as the prefix that is kept of the address, of the question's ECS option too. The answer's address,
which would tell the client, is not written at all. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, TypeAlias

from dnsvip.dns.protocol.message import Edns, Flag, Query, Rcode, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.protocol.parser import parse

Address: TypeAlias = IPv4Address | IPv6Address
Anonymise: TypeAlias = Callable[[Address], str]


class Asked(NamedTuple):
    """A question as it was answered at `now` (unix seconds); both messages without their ids, `answer` None: none."""

    now: float
    protocol: str
    listener: str
    source: Address
    wire: bytes
    answer: bytes | None


def record(asked: Asked, anonymise: Anonymise) -> Mapping[str, Any]:
    """The fields of one line."""
    query = parse(b"\0\0" + asked.wire)
    told: dict[str, Any] = {
        "type": "CLIENT_QUERY" if asked.answer is None else "CLIENT_RESPONSE",
        "time": datetime.fromtimestamp(asked.now, UTC).isoformat(timespec="microseconds"),
        "socket_family": f"INET{'6' if asked.source.version == 6 else ''}",
        "socket_protocol": asked.protocol.upper(),
        "listener": asked.listener,
        "query_address": anonymise(asked.source),
        "query_size": len(asked.wire) + 2,
    }
    if isinstance(query, Query):
        told |= {
            "qname": name_of(query.key),
            "qtype": _named(Type, query.qtype, "TYPE"),
            "qclass": "IN" if query.qclass == 1 else f"CLASS{query.qclass}",
            "rd": bool(query.flags & Flag.RD),
            **_edns(query.edns, anonymise),
        }
    else:
        told["malformed"] = query.flaw.value
    if asked.answer is not None:
        told |= _answered(asked.answer)
    return told


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
    told: dict[str, Any] = {"edns_size": edns.udp_size, "do": edns.do, "cookie": bool(edns.cookie)}
    if edns.subnet and edns.subnet.family:
        _, source, address = edns.subnet
        kept = anonymise(IPv4Address(address) if len(address) == 4 else IPv6Address(address))
        told["ecs"] = kept if "/" in kept else f"{kept}/{source}"
        told["ecs_source"] = source
    return told


def _answered(answer: bytes) -> dict[str, Any]:
    flags = int.from_bytes(answer[:2], "big")
    return {
        "rcode": _named(Rcode, flags & 15, "RCODE"),
        "aa": bool(flags & Flag.AA),
        "tc": bool(flags & Flag.TC),
        "response_size": len(answer) + 2,
    }
