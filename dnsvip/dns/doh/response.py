"""The response to a DNS message over HTTPS: how long caches may keep it, and whose (RFC 8484 section 5.1).

An answer that was made for one requester is `private`: no shared cache gives it to anyone else.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple

from dnsvip.dns.doh.request import MEDIA_TYPE, Problem
from dnsvip.dns.protocol.message import HEADER_SIZE, Rcode, Type

SHORT = 512
"""Bytes of an answer of which it is remembered how long it may be kept: the same ones are given again and again."""


class Response(NamedTuple):
    """Status, header fields (without Content-Length and Date), content; `bodyless`: without it all the same (HEAD)."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    bodyless: bool = False


def answered(wire: bytes, *, private: bool, bodyless: bool = False) -> Response:
    """The response that brings a DNS answer."""
    fields = _fields_of(wire[2:], private) if len(wire) <= SHORT else _fields(freshness(wire), private)
    return Response(200, fields, wire, bodyless)


def refused(problem: Problem) -> Response:
    """The response to a request that got no DNS answer, with a line for people."""
    fields = (*problem.fields, (b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
    return Response(problem.status, fields, problem.text.encode() + b"\n", problem.bodyless)


def freshness(wire: bytes) -> int | None:
    """Seconds that an answer may be kept: the least TTL of its answers, or that of the SOA record of a negative one
    (RFC 2308 section 5; ours is no more than its minimum). None where nothing says so, as for errors."""
    if wire[3] & 15 not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return None
    answers = int.from_bytes(wire[6:8], "big")
    least: int | None = None
    at = HEADER_SIZE
    for _ in range(int.from_bytes(wire[4:6], "big")):
        at = _after_name(wire, at) + 4
    for _ in range(answers or int.from_bytes(wire[8:10], "big")):
        at = _after_name(wire, at)
        if answers or int.from_bytes(wire[at : at + 2], "big") == Type.SOA:
            ttl = int.from_bytes(wire[at + 4 : at + 8], "big")
            if least is None or ttl < least:
                least = ttl
        at += 10 + int.from_bytes(wire[at + 8 : at + 10], "big")
    return least


def _after_name(wire: bytes, at: int) -> int:
    while size := wire[at]:
        if size >= 0xC0:
            return at + 2
        at += size + 1
    return at + 1


@lru_cache(1024)
def _fields_of(message: bytes, private: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The fields for a short answer, which is without its id."""
    return _fields(freshness(b"\0\0" + message), private)


@lru_cache(4096)
def _fields(seconds: int | None, private: bool) -> tuple[tuple[bytes, bytes], ...]:
    kept = b"no-store" if seconds is None else b"max-age=%d" % seconds
    control = b"private, " + kept if private and seconds is not None else kept
    return (b"content-type", MEDIA_TYPE.encode()), (b"cache-control", control)


@lru_cache(2)
def date(second: int) -> bytes:
    """The field Date (RFC 9110 section 6.6.1)."""
    return formatdate(second, usegmt=True).encode()
