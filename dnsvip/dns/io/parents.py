"""Whether the servers of a zone's parent have its DS records, asked before a rollover goes on."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import dns.message
import dns.rdatatype

from dnsvip.dns.io.asking import by_stream, by_udp
from dnsvip.dns.protocol.answer import AnswerFault, rcode_text, read_answer
from dnsvip.errors import DnsvipError, cut

SECONDS = 5.0
"""For an answer of a server."""

_DS_HEAD = 4
"""Bytes of a DS record before its digest: key tag, algorithm, digest type."""

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
    query = dns.message.make_query(zone, dns.rdatatype.DS).to_wire()
    try:
        data = await by_udp(query, address, port, SECONDS)
        answer = read_answer(query, data)
        if answer.truncated:
            data = await by_stream(query, address, port, SECONDS)
            answer = read_answer(query, data)
    except (OSError, EOFError) as error:
        raise NoAnswer(f"parent {server}: does not answer: {str(error) or f'not within {SECONDS:g} s'}") from None
    except AnswerFault as error:
        raise NoAnswer(f"parent {server}: sends what is no answer: {error}") from None
    if answer.rcode:
        raise ParentLacks(f"parent {server}: answers {rcode_text(answer.rcode)} to the question for the DS")
    return {_record(data[at:end]) for at, end in answer.found if end - at > _DS_HEAD}


def _record(data: bytes) -> str:
    """A DS record as `_compared` has it."""
    tag, algorithm, digest_type = struct.unpack_from("!HBB", data)
    return f"{tag} {algorithm} {digest_type} {data[_DS_HEAD:].hex().upper()}"


def _compared(record: str) -> str:
    tag, algorithm, digest_type, digest = record.split(None, 3)
    return f"{tag} {algorithm} {digest_type} {digest.replace(' ', '').upper()}"
