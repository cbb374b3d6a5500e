"""Whether the servers of a zone's parent have its DS records, asked before a rollover goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from dnsvip.errors import DnsvipError, cut

SECONDS = 5.0
"""For an answer of a server."""

LONGEST = 1000
"""Characters of records in a warning: a server may send thousands, and the warning is in every report of the node."""


class ParentLacks(DnsvipError):
    """A server of the parent has not the DS records that it should have."""


class NoAnswer(ParentLacks):
    """A server of the parent does not answer."""


async def check_parents(
    zone: str,
    wanted: Iterable[str],
    servers: Sequence[tuple[str, int]],
    place: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
) -> None:
    """Ask each server, by address and port, for the DS of a zone, one after the other and each in a place; raises
    ParentLacks where one has others than `wanted`, each as TAG ALGORITHM DIGEST-TYPE DIGEST, or does not answer."""
    right = {_compared(record) for record in wanted}
    for address, port in servers:
        server = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        async with place():
            found = await _ds_at(zone, server, address, port)
        if found != right:
            missing, left = sorted(right - found), sorted(found - right)
            parts = [f"lacks {record}" for record in missing] + [f"still has {record}" for record in left]
            raise ParentLacks(f"parent {server}: {cut('; '.join(parts), LONGEST)}: nothing is confirmed")


async def _ds_at(zone: str, server: str, address: str, port: int) -> set[str]:
    query = dns.message.make_query(zone, dns.rdatatype.DS)
    try:
        from dns.asyncquery import udp_with_fallback  # noqa: PLC0415 - brings every transport: slow to load, rarely needed

        answer, _ = await udp_with_fallback(query, address, SECONDS, port, ignore_unexpected=True)
    except (dns.exception.DNSException, OSError) as error:
        raise NoAnswer(f"parent {server}: does not answer: {error}") from None
    if answer.rcode() != dns.rcode.NOERROR:
        raise ParentLacks(f"parent {server}: answers {dns.rcode.to_text(answer.rcode())} to the question for the DS")
    asked = query.question[0].name
    sets = [rrset for rrset in answer.answer if (rrset.name, rrset.rdtype) == (asked, dns.rdatatype.DS)]
    return {_compared(rdata.to_text()) for rrset in sets for rdata in rrset}


def _compared(record: str) -> str:
    tag, algorithm, digest_type, digest = record.split(None, 3)
    return f"{tag} {algorithm} {digest_type} {digest.replace(' ', '').upper()}"
