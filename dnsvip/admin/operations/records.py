"""The records of a compiled zone that a text is in: by owner or content, as one would write them in a zone file."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnsvip.admin.http.slices import in_slices
from dnsvip.dns.protocol.message import Rdata, RRset, Type
from dnsvip.dns.protocol.names import flat_name
from dnsvip.dns.zones.content import UNREADABLE, content_of
from dnsvip.dns.zones.zone import CompiledZone

SHOWN = 200
"""Characters of a content that are shown."""

FAMILIES = {int(Type.A): socket.AF_INET, int(Type.AAAA): socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a zone: the owner without its last dot, the type's name, the content as in a zone file."""

    zone: str
    owner: str
    type: str
    content: str


async def records_with(
    name: str, zone: CompiledZone, needle: str, is_over: Callable[[], bool]
) -> AsyncIterator[Record]:
    """The records of a zone whose owner or content has `needle`, in lower case, in it, until `is_over`."""
    wanted = needle.encode(errors="surrogateescape")
    async for batch in in_slices(zone.nodes.items()):
        for labels, node in batch:
            owner = b".".join(labels)
            named = wanted in owner
            for rrset in node.values():
                for rdata in rrset.rdatas:
                    if named or wanted in _haystack(rrset.rtype, rdata):
                        yield Record(name, owner.decode("ascii", "backslashreplace"), *_shown(rrset, rdata))
        if is_over():
            return


def _haystack(rtype: int, rdata: Rdata) -> bytes:
    """What of a record's data one can type: addresses as text, names with dots, strings as they stand."""
    family = FAMILIES.get(rtype)
    if family is not None and len(rdata) == 1 and isinstance(rdata[0], bytes):
        return socket.inet_ntop(family, rdata[0]).encode()
    return b" ".join(piece if isinstance(piece, bytes) else b".".join(piece) for piece in rdata).lower()


def _shown(rrset: RRset, rdata: Rdata) -> tuple[str, str]:
    wire = b"".join(piece if isinstance(piece, bytes) else flat_name(piece) for piece in rdata)
    rtype = dns.rdatatype.RdataType.make(rrset.rtype)
    try:
        content = content_of(dns.rdata.from_wire(dns.rdataclass.IN, rtype, wire, 0, len(wire)))
    except UNREADABLE:
        content = ""
    return dns.rdatatype.to_text(rtype), content[:SHOWN]
