"""Header blocks of HTTP/2 (HPACK, RFC 7541): requests' heads read, responses' heads made.

Clients send the same block again and again, or with another path only: one that leaves the decoder's table as it is
means the same as long as that table is the same, so it is read once. Responses are literals, ready-made; they need no
table at either end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import pylsqpack
from hpack import Decoder
from hpack.exceptions import HPACKError
from hpack.hpack import decode_integer

from dnsvip.dns.doh.frames import Broken, Error
from dnsvip.dns.doh.request import MAX_HEAD, Head, Problem, decoded, read_head

REMEMBERED, SHORT = 16, 512
"""Blocks that are remembered of a connection, and the most bytes of one."""

HUNDRED = b"\x08\x03100"
"""The block of a response 100 (Continue)."""

NO_TABLE = b"\x20"
"""In front of the first block: the responses' table has size 0, whatever the peer's settings say."""


class RequestBlocks:
    """The heads of one connection's requests."""

    __slots__ = ("_decoder", "_form", "_known")

    def __init__(self) -> None:
        self._decoder = Decoder(MAX_HEAD)
        self._known: dict[bytes, Head | Problem] = {}
        self._form: _Form | None = None

    def read(self, block: bytes) -> Head | Problem:
        """The head of a request. Raises Broken: of the connection where its compression is lost, else of the stream,
        which the caller names."""
        asked = self._known.get(block)
        if asked is not None:
            return asked
        if self._form is not None and (asked := self._form.read(block)) is not None:
            return asked
        before = self._state()
        fields = self._decode(block)
        if self._state() != before:
            self._forget()
            return _request(fields)
        asked = _request(fields)
        if len(block) <= SHORT:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[block] = asked
            if isinstance(asked, Head) and asked.message is not None:
                self._form = _form(block, fields, asked)
        return asked

    def skip(self, block: bytes) -> bool:
        """Trailers, or the head of a request that is refused: its compression counts all the same. Whether it may be
        trailers. Raises Broken."""
        before = self._state()
        fields = self._decode(block)
        if self._state() != before:
            self._forget()
        return not any(name.startswith(b":") for name, _ in fields)

    def _forget(self) -> None:
        self._known.clear()
        self._form = None

    def _state(self) -> tuple[object, ...]:
        """Changes with each change of the decoder's table: a new entry is the first one."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return _Same(entries[0] if entries else None), len(entries), table.maxsize

    def _decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        if _RESIZED.match(block):
            raise Broken(Error.COMPRESSION, why="more than two changes of the table's size")
        try:
            return list(self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise Broken(Error.COMPRESSION, why=str(error)) from error


class _Same:
    """Equal to what holds the same object; holds it, so that nothing else gets its place."""

    __slots__ = ("_held",)

    def __init__(self, held: object) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._held is self._held

    __hash__ = None  # type: ignore[assignment]  # compared, not looked up


class _Form(NamedTuple):
    """The block of a GET that has its path as a literal: what is before and behind the path, how the path begins, up to
    the message, and what is asked."""

    before: bytes
    behind: bytes
    begin: bytes
    asked: Head

    def read(self, block: bytes) -> Head | None:
        """What a block asks that differs in the message in its path only; None of others."""
        if not (block.startswith(self.before) and block.endswith(self.behind)):
            return None
        text = block[len(self.before) : len(block) - len(self.behind)]
        if not text or text[0] & 0x7F != len(text) - 1 or len(text) > _SHORT_STRING:
            return None
        path = _string_of(text)
        message = decoded(path[len(self.begin) :]) if path and path.startswith(self.begin) else None
        return Head(message, *self.asked[1:]) if message else None


def _string_of(text: bytes) -> bytes | None:
    """A string with its length, Huffman-coded or not. QPACK (RFC 9204 section 4.1.2) codes strings in the same way, and
    its library is C: a tenth of hpack's time. None where it is malformed."""
    try:
        _, ((_, value),) = _STRINGS.feed_header(0, _QPACK_PATH + text)
    except pylsqpack.DecompressionFailed:
        return None
    return value


def _form(block: bytes, fields: list[tuple[bytes, bytes]], asked: Head) -> _Form | None:
    """The form of a block that leaves the table as it is; None where its path is none of its own."""
    at = place = 0
    while at < len(block):
        first = block[at]
        index, used = decode_integer(block[at:], 7 if first & 0x80 else 4)
        if first & 0x60 and not first & 0x80:
            return None  # it changes the table, if only to what it was
        at += used
        begin = at
        for _ in range(0 if first & 0x80 else 1 if index else 2):
            begin = at
            size, used = decode_integer(block[at:], 7)
            at += used + size
        name, value = fields[place]
        if name == b":path":
            start, parameter, _ = value.partition(b"?dns=")
            return _Form(block[:begin], block[at:], start + parameter, asked) if parameter and begin < at else None
        place += 1
    return None


def _request(fields: list[tuple[bytes, bytes]]) -> Head | Problem:
    """A head from its fields, which RFC 9113 section 8 bounds. Raises Broken."""
    pseudo: dict[bytes, bytes] = {}
    for place, (name, value) in enumerate(fields):
        if name[:1] == b":":
            if place != len(pseudo) or name in pseudo or name not in _PSEUDO:
                raise Broken(Error.PROTOCOL, why="a pseudo-header field that is unknown, repeated or late")
            pseudo[name] = value
        elif not _NAME.fullmatch(name) or name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
            raise Broken(Error.PROTOCOL, why="a field that HTTP/2 forbids")
        if not _VALUE.fullmatch(value):
            raise Broken(Error.PROTOCOL, why="a control character in a field")
    path = pseudo.get(b":path")
    if not path or not pseudo.keys() >= _NEEDED:
        raise Broken(Error.PROTOCOL, why=":method, :scheme and :path are needed")
    method, host = pseudo[b":method"].decode("latin-1"), pseudo.get(b":authority", b"").decode("latin-1")
    return read_head(method, path.decode("latin-1"), fields[len(pseudo) :], host)


@lru_cache(4096)
def response_block(status: int, fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The block of a response, all of it literals that are not indexed. `length_and_date` completes it."""
    return _literal(b":status", str(status).encode()) + b"".join(_literal(*field) for field in fields)


@lru_cache(4096)
def length_and_date(length: int, date: bytes) -> bytes:
    """The rest of the block."""
    return _literal(b"content-length", str(length).encode()) + _literal(b"date", date)


def _literal(name: bytes, value: bytes) -> bytes:
    index = _INDEX.get(name)
    begin = b"\0" + _string(name) if index is None else bytes((index,)) if index < 15 else bytes((15, index - 15))
    return begin + _string(value)


def _string(value: bytes) -> bytes:
    size = len(value)
    return (bytes((size,)) if size < 127 else bytes((127, (size - 127) & 127 | 128, (size - 127) >> 7))) + value


_STRINGS, _QPACK_PATH = pylsqpack.Decoder(0, 0), b"\0\0\x51"
"""A decoder without a table; and what is in front of the string in QPACK's form of a field `:path`."""

_SHORT_STRING = 127
"""Bytes of a string and its length, where that is one byte."""

_RESIZED = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}", re.DOTALL)
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_NEEDED = _PSEUDO - {b":authority"}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f]|[^\x00-\x20\x7f][^\x00\n\r]*[^\x00-\x20\x7f])?", re.DOTALL)
_FORBIDDEN = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_INDEX = {b":status": 8, b"cache-control": 24, b"content-length": 28, b"content-type": 31, b"date": 33}
"""Static table (RFC 7541 appendix A); other names are rare, and literals."""
