"""The cases of h2spec 2.6, by its numbers: what a peer sends, and what becomes of it.

h2spec itself is in none of the registries that these tests install from. Where its cases follow RFC 7540 and RFC 9113
says otherwise, or leaves it open, `expected` is what we do, and a comment says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

import pytest

from dnsvip.dns.doh import frames
from dnsvip.dns.doh.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Error,
)
from dnsvip.dns.doh.http2 import STREAMS
from tests.dns.doh.test_http2 import GOT, POST, Peer
from tests.dns.doh.test_request import QUERY

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]
BOTH = END_HEADERS | END_STREAM
LATER = 2001
"""A stream after all those of a case."""

INCREMENTAL = 0x40
"""The form of a literal that enters the table."""


class Ends(NamedTuple):
    """The connection ends with this code."""

    code: int


class Resets(NamedTuple):
    """The stream is reset with this code; the connection goes on."""

    code: int
    stream: int = 1


class Answers(NamedTuple):
    """These streams are answered, and nothing is reset."""

    streams: tuple[int, ...] = (1,)


Expected: TypeAlias = Ends | Resets | Answers


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.head(len(payload), kind, flags, stream) + payload


def block(fields: Fields) -> bytes:
    """A header block of literals, which leave the table as it is."""
    return b"".join(b"\0" + bytes((len(n),)) + n + bytes((len(v),)) + v for n, v in fields)


def get(stream: int = 1, fields: Fields = GOT) -> bytes:
    return frame(HEADERS, BOTH, stream, block(fields))


def post(stream: int = 1, *more: tuple[bytes, bytes]) -> bytes:
    """The head of a request whose content is still to come."""
    return frame(HEADERS, END_HEADERS, stream, block([*POST, *more]))


def without(name: bytes, *more: tuple[bytes, bytes]) -> bytes:
    return get(1, [field for field in GOT if field[0] != name] + list(more))


def body(data: bytes = QUERY, flags: int = END_STREAM, stream: int = 1) -> bytes:
    return frame(DATA, flags, stream, data)


def setting(key: int, value: int) -> bytes:
    return frames.settings({key: value})


def window(stream: int, more: int) -> bytes:
    return frames.number(WINDOW_UPDATE, stream, more)


RESET = frames.number(RST_STREAM, 1, Error.CANCEL)
ON = b"\0\0\0\0\xff"
"""A priority: depends on no stream, weight 256."""
ON_ITSELF = b"\0\0\0\1\xff"
OPEN = frame(HEADERS, END_STREAM, 1, block(GOT[:2]))
"""A head that is to be continued, and its rest."""
REST = block(GOT[2:])
INDEXED = b"\x83\x87" + block(POST[2:])
CLOSED = frame(CONTINUATION, END_HEADERS, 1, block([(b"x", b"y")]))


def literal(form: int, name: bytes, *, huffman: bool) -> bytes:
    """A GET with one more field, in one of the forms of RFC 7541 section 6.2; without a name it is `accept`'s."""
    index = 19  # of the static table; beyond the prefix of the forms that are not indexed
    number = bytes((form | index,)) if form == INCREMENTAL else bytes((form | 15, index - 15))
    value = b"\x83\xf9\x63\xe7" if huffman else b"\3*/*"
    return frame(HEADERS, BOTH, 1, block(GOT) + (bytes((form, len(name))) + name if name else number) + value)


FORMS = enumerate(product((INCREMENTAL, 0x00, 0x10), (b"", b"x-a"), (False, True)), 2)
"""Form, name, and whether the value is Huffman-coded."""

GENERIC: list[tuple[str, bytes, Expected]] = [
    ("1/1", get(), Answers()),
    ("2/1", frame(PRIORITY, 0, 1, ON) + get(), Answers()),
    ("2/2", get() + window(1, 100), Answers()),
    ("2/3", get() + frame(PRIORITY, 0, 1, ON), Answers()),
    ("2/4", get() + RESET, Answers()),
    ("2/5", post() + RESET + frame(PRIORITY, 0, 1, ON) + get(3), Answers((3,))),
    ("3.1/1", post() + body(), Answers()),
    ("3.1/2", post() + body(QUERY[:5], 0) + body(QUERY[5:]), Answers()),
    ("3.1/3", post() + body(b"\3" + QUERY + b"\0\0\0", END_STREAM | PADDED), Answers()),
    ("3.2/1", get(), Answers()),
    ("3.2/2", frame(HEADERS, BOTH | PADDED, 1, b"\2" + block(GOT) + b"\0\0"), Answers()),
    ("3.2/3", frame(HEADERS, BOTH | WITH_PRIORITY, 1, ON + block(GOT)), Answers()),
    ("3.3/1", frame(PRIORITY, 0, 1, b"\0\0\0\0\0") + get(), Answers()),
    ("3.3/2", frame(PRIORITY, 0, 1, ON) + get(), Answers()),
    ("3.3/3", frame(PRIORITY, 0, 1, b"\0\0\0\5\x0f") + get(), Answers()),
    ("3.3/4", frame(PRIORITY, 0, 1, b"\x80\0\0\5\x0f") + get(), Answers()),
    ("3.3/5", frame(PRIORITY, 0, 7, ON) + get(1), Answers()),
    ("3.4/1", get() + get(3) + RESET, Answers((1, 3))),
    ("3.5/1", setting(4, 100) + get(), Answers()),
    ("3.7/1", frame(PING, 0, 0, b"h2spec\0\0") + get(), Answers()),
    ("3.8/1", frame(GOAWAY, 0, 0, bytes(8)) + get(), Answers()),
    ("3.9/1", window(0, 1) + get(), Answers()),
    ("3.9/2", post() + window(1, 1) + body(), Answers()),
    ("3.10/1", OPEN + frame(CONTINUATION, END_HEADERS, 1, REST), Answers()),
    ("3.10/2", OPEN + frame(CONTINUATION, 0, 1, REST) + frame(CONTINUATION, END_HEADERS, 1, b""), Answers()),
    ("4/1", get(), Answers()),
    ("4/2", get(1, [(b":method", b"HEAD"), *GOT[1:]]), Answers()),
    ("4/3", post() + body(), Answers()),
    ("4/4", post() + body(flags=0) + frame(HEADERS, BOTH, 1, block([(b"x-test", b"ok")])), Answers()),
    ("5/1", frame(HEADERS, END_HEADERS, 1, INDEXED) + body(), Answers()),
    *((f"5/{number}", literal(form, name, huffman=coded), Answers()) for number, (form, name, coded) in FORMS),
    ("5/14", frame(HEADERS, BOTH, 1, b"\x3f\xe1\x01" + block(GOT)), Answers()),
    ("5/15", frame(HEADERS, BOTH, 1, b"\x20\x3f\xe1\x01" + block(GOT)), Answers()),
]

HTTP2: list[tuple[str, bytes, Expected]] = [
    ("4.1/1", frame(0x16, 0, 0, bytes(8)) + get(), Answers()),
    ("4.1/2", frame(PING, 0x16, 0, bytes(8)) + get(), Answers()),
    ("4.1/3", frames.head(8, PING, 0, 1 << 31) + bytes(8) + get(), Answers()),
    ("4.2/1", post() + body(bytes(1 << 14), 0) + body(b""), Answers()),
    ("4.2/2", post() + body(bytes((1 << 14) + 1)), Ends(Error.FRAME_SIZE)),
    ("4.2/3", frame(HEADERS, BOTH, 1, bytes((1 << 14) + 1)), Ends(Error.FRAME_SIZE)),
    ("4.3/1", frame(HEADERS, BOTH, 1, b"\x40\x0a"), Ends(Error.COMPRESSION)),
    ("4.3/2", OPEN + frame(PRIORITY, 0, 1, ON), Ends(Error.PROTOCOL)),
    ("4.3/3", OPEN + get(3), Ends(Error.PROTOCOL)),
    ("5.1/1", body(), Ends(Error.PROTOCOL)),
    ("5.1/2", RESET, Ends(Error.PROTOCOL)),
    ("5.1/3", window(1, 100), Ends(Error.PROTOCOL)),
    ("5.1/4", CLOSED, Ends(Error.PROTOCOL)),
    ("5.1/5", get() + body(), Resets(Error.STREAM_CLOSED)),
    ("5.1/6", get() + get(), Resets(Error.STREAM_CLOSED)),
    ("5.1/7", get() + CLOSED, Ends(Error.PROTOCOL)),
    ("5.1/8", post() + RESET + body(), Resets(Error.STREAM_CLOSED)),
    ("5.1/9", post() + RESET + get(), Resets(Error.STREAM_CLOSED)),
    ("5.1/10", post() + RESET + CLOSED, Ends(Error.PROTOCOL)),
    # 11 and 12 are 5 and 6 once the answer has been sent. We keep no list of streams that were, and so end the stream.
    ("5.1/13", get() + CLOSED, Ends(Error.PROTOCOL)),
    ("5.1.1/1", get(2), Ends(Error.PROTOCOL)),
    # Without that list a stream that never was looks like one that is over.
    ("5.1.1/2", get(5) + get(3), Resets(Error.STREAM_CLOSED, 3)),
    ("5.1.2/1", b"".join(map(post, range(1, 2 * STREAMS + 3, 2))), Resets(Error.REFUSED_STREAM, 2 * STREAMS + 1)),
    # RFC 9113 section 5.3.2 has deprecated priorities: nothing depends on anything.
    ("5.3.1/1", frame(HEADERS, BOTH | WITH_PRIORITY, 1, ON_ITSELF + block(GOT)), Answers()),
    ("5.3.1/2", frame(PRIORITY, 0, 1, ON_ITSELF) + get(), Answers()),
    ("5.4.1/1", frame(PING, 0, 0, bytes(6)), Ends(Error.FRAME_SIZE)),
    ("5.5/1", frame(0xFF, 0, 0, bytes(8)) + get(), Answers()),
    ("5.5/2", OPEN + frame(0xFF, 0, 1, bytes(8)), Ends(Error.PROTOCOL)),
    ("6.1/1", get() + body(stream=0), Ends(Error.PROTOCOL)),
    ("6.1/2", get() + body(), Resets(Error.STREAM_CLOSED)),
    ("6.1/3", post() + body(b"\x0a" + b"data", END_STREAM | PADDED), Ends(Error.PROTOCOL)),
    ("6.2/1", OPEN + frame(PRIORITY, 0, 1, ON), Ends(Error.PROTOCOL)),
    ("6.2/2", OPEN + get(3), Ends(Error.PROTOCOL)),
    ("6.2/3", get(0), Ends(Error.PROTOCOL)),
    ("6.2/4", frame(HEADERS, BOTH | PADDED, 1, b"\xff" + block(GOT)), Ends(Error.PROTOCOL)),
    ("6.3/1", frame(PRIORITY, 0, 0, ON), Ends(Error.PROTOCOL)),
    ("6.3/2", post() + frame(PRIORITY, 0, 1, ON[1:]), Resets(Error.FRAME_SIZE)),
    ("6.4/1", frames.number(RST_STREAM, 0, Error.CANCEL), Ends(Error.PROTOCOL)),
    ("6.4/2", RESET, Ends(Error.PROTOCOL)),
    ("6.4/3", post() + frame(RST_STREAM, 0, 1, bytes(3)), Ends(Error.FRAME_SIZE)),
    ("6.5/1", frame(SETTINGS, ACK, 0, bytes(6)), Ends(Error.FRAME_SIZE)),
    ("6.5/2", frame(SETTINGS, 0, 1, bytes(6)), Ends(Error.PROTOCOL)),
    ("6.5/3", frame(SETTINGS, 0, 0, bytes(3)), Ends(Error.FRAME_SIZE)),
    ("6.5.2/1", setting(2, 2), Ends(Error.PROTOCOL)),
    ("6.5.2/2", setting(INITIAL_WINDOW_SIZE, 1 << 31), Ends(Error.FLOW_CONTROL)),
    ("6.5.2/3", setting(5, (1 << 14) - 1), Ends(Error.PROTOCOL)),
    ("6.5.2/4", setting(5, 1 << 24), Ends(Error.PROTOCOL)),
    ("6.5.2/5", setting(0xFF, 1) + get(), Answers()),
    ("6.7/3", frame(PING, 0, 1, bytes(8)), Ends(Error.PROTOCOL)),
    ("6.7/4", frame(PING, 0, 0, bytes(6)), Ends(Error.FRAME_SIZE)),
    ("6.8/1", get() + frame(GOAWAY, 0, 1, bytes(8)), Ends(Error.PROTOCOL)),
    ("6.9/1", window(0, 0), Ends(Error.PROTOCOL)),
    ("6.9/2", post() + window(1, 0), Resets(Error.PROTOCOL)),
    ("6.9/3", frame(WINDOW_UPDATE, 0, 0, bytes(3)), Ends(Error.FRAME_SIZE)),
    ("6.9.1/2", window(0, (1 << 31) - 1) * 2, Ends(Error.FLOW_CONTROL)),
    ("6.9.1/3", post() + window(1, (1 << 31) - 1) * 2, Resets(Error.FLOW_CONTROL)),
    ("6.9.2/3", post() + setting(INITIAL_WINDOW_SIZE, 1 << 31), Ends(Error.FLOW_CONTROL)),
    ("6.10/1", OPEN + frame(CONTINUATION, 0, 1, REST) + frame(CONTINUATION, END_HEADERS, 1, b""), Answers()),
    ("6.10/2", OPEN + frame(CONTINUATION, 0, 1, REST) + body(), Ends(Error.PROTOCOL)),
    ("6.10/3", OPEN + frame(CONTINUATION, END_HEADERS, 0, REST), Ends(Error.PROTOCOL)),
    ("6.10/4", post() + CLOSED, Ends(Error.PROTOCOL)),
    ("6.10/5", OPEN + frame(CONTINUATION, END_HEADERS, 1, REST) + CLOSED, Ends(Error.PROTOCOL)),
    ("6.10/6", post() + body(flags=0) + CLOSED, Ends(Error.PROTOCOL)),
    ("7/1", frame(GOAWAY, 0, 0, bytes(4) + b"\0\0\0\xff") + get(), Answers()),
    ("7/2", post() + frames.number(RST_STREAM, 1, 0xFF) + get(3), Answers((3,))),
    ("8.1/1", post() + body(flags=0) + frame(HEADERS, END_HEADERS, 1, block([(b"x", b"y")])), Resets(Error.PROTOCOL)),
    ("8.1.2/1", get(1, [*GOT, (b"X-TEST", b"ok")]), Resets(Error.PROTOCOL)),
    ("8.1.2.1/1", get(1, [*GOT, (b":test", b"ok")]), Resets(Error.PROTOCOL)),
    ("8.1.2.1/2", get(1, [*GOT, (b":status", b"200")]), Resets(Error.PROTOCOL)),
    ("8.1.2.1/3", post() + body(flags=0) + frame(HEADERS, BOTH, 1, block(GOT[:1])), Resets(Error.PROTOCOL)),
    ("8.1.2.1/4", without(b":path", (b"x-test", b"ok"), GOT[3]), Resets(Error.PROTOCOL)),
    ("8.1.2.2/1", get(1, [*GOT, (b"connection", b"keep-alive")]), Resets(Error.PROTOCOL)),
    ("8.1.2.2/2", get(1, [*GOT, (b"te", b"trailers, deflate")]), Resets(Error.PROTOCOL)),
    ("8.1.2.3/1", without(b":path", (b":path", b"")), Resets(Error.PROTOCOL)),
    *(
        (f"8.1.2.3/{n}", without(name), Resets(Error.PROTOCOL))
        for n, name in enumerate((b":method", b":scheme", b":path"), 2)
    ),
    *((f"8.1.2.3/{n}", get(1, [*GOT, GOT[at]]), Resets(Error.PROTOCOL)) for n, at in ((5, 0), (6, 1), (7, 3))),
    ("8.1.2.6/1", post(1, (b"content-length", b"1")) + body(), Resets(Error.PROTOCOL)),
    ("8.1.2.6/2", post(1, (b"content-length", b"1")) + body(QUERY[:5], 0) + body(QUERY[5:]), Resets(Error.PROTOCOL)),
    ("8.2/1", frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(GOT)), Ends(Error.PROTOCOL)),
]

HPACK: list[tuple[str, bytes, Expected]] = [
    ("2.3.3/1", frame(HEADERS, BOTH, 1, block(GOT) + b"\xc6"), Ends(Error.COMPRESSION)),
    ("2.3.3/2", frame(HEADERS, BOTH, 1, block(GOT) + b"\x7f\x07\x01x"), Ends(Error.COMPRESSION)),
    ("4.2/1", frame(HEADERS, BOTH, 1, block(GOT) + b"\x20"), Ends(Error.COMPRESSION)),
    ("5.2/1", frame(HEADERS, BOTH, 1, block(GOT) + b"\x00\x01x\x82\x1f\xff"), Ends(Error.COMPRESSION)),
    ("5.2/2", frame(HEADERS, BOTH, 1, block(GOT) + b"\x00\x01x\x81\x18"), Ends(Error.COMPRESSION)),
    ("5.2/3", frame(HEADERS, BOTH, 1, block(GOT) + b"\x00\x01x\x84\xff\xff\xff\xff"), Ends(Error.COMPRESSION)),
    ("6.1/1", frame(HEADERS, BOTH, 1, block(GOT) + b"\x80"), Ends(Error.COMPRESSION)),
    ("6.3/1", frame(HEADERS, BOTH, 1, b"\x3f\xe2\x1f" + block(GOT)), Ends(Error.COMPRESSION)),
]

CASES = [
    pytest.param(sent, expected, id=f"{part}/{number}")
    for part, cases in (("generic", GENERIC), ("http2", HTTP2), ("hpack", HPACK))
    for number, sent, expected in cases
]


@pytest.mark.parametrize(("sent", "expected"), CASES)
@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "frame-by-frame"])
def test_cases(sent: bytes, expected: Expected, at_once: bool) -> None:
    """Whether the frames come together or each is seen to before the next; who goes on is answered after it all."""
    peer = Peer()
    for part in [sent] if at_once else pieces(sent):
        peer.http.feed(part)
        peer.serve()
    if isinstance(expected, Ends):
        assert peer.goes_away() == expected.code
        return
    seen = peer.sent_frames()
    resets = {stream: int.from_bytes(data, "big") for kind, _, stream, data in seen if kind == RST_STREAM}
    answers = {stream for kind, _, stream, _ in seen if kind == HEADERS}
    if isinstance(expected, Resets):
        assert resets == {expected.stream: expected.code}
    else:
        assert (resets, answers) == ({}, set(expected.streams))
    assert not peer.http.closing
    if len(peer.http._sending.streams) < STREAMS:
        peer.http.feed(get(LATER))
        peer.serve()
        assert LATER in {stream for kind, _, stream, _ in peer.sent_frames() if kind == HEADERS}


def pieces(data: bytes) -> list[bytes]:
    """Frame by frame."""
    found = []
    while data:
        end = frames.HEAD_BYTES + int.from_bytes(data[:3], "big")
        found.append(data[:end])
        data = data[end:]
    return found


def sent_after(*parts: bytes, answer: bytes = QUERY) -> list[tuple[int, int, int, bytes]]:
    peer = Peer()
    peer.http.feed(b"".join(parts))
    peer.serve(answer)
    return peer.sent_frames()


def data_sizes(sent: Sequence[tuple[int, int, int, bytes]]) -> list[int]:
    return [len(payload) for kind, _, _, payload in sent if kind == DATA]


def test_what_is_sent_first() -> None:
    """http2/3.5/1 and 6.5.3/2: SETTINGS come first, and those of the peer are acknowledged."""
    (first, *others) = Peer().sent
    assert first[:3] == (SETTINGS, 0, 0)
    assert others == [(SETTINGS, ACK, 0, b"")]


def test_pings() -> None:
    """http2/6.7/1 and 2: a PING comes back with its content, its answer does not."""
    assert sent_after(frame(PING, 0, 0, b"h2spec\0\0")) == [(PING, ACK, 0, b"h2spec\0\0")]
    assert sent_after(frame(PING, ACK, 0, b"invalid\0")) == []


def test_windows() -> None:
    """http2/6.5.3/1, 6.9.1/1, 6.9.2/1 and 2: the last of several sizes counts, a window of one lets a byte through, a
    new size counts for what is open, and a window may become negative."""
    two = frames.head(12, SETTINGS, 0, 0) + b"\0\4\0\0\0\x64" + b"\0\4\0\0\0\1"
    assert data_sizes(sent_after(two, get())) == [1]
    assert data_sizes(sent_after(setting(INITIAL_WINDOW_SIZE, 1), get())) == [1]
    assert data_sizes(sent_after(setting(INITIAL_WINDOW_SIZE, 0), get(), setting(INITIAL_WINDOW_SIZE, 1))) == [1]
    peer = Peer()
    peer.http.feed(setting(INITIAL_WINDOW_SIZE, 3) + get())
    peer.serve(b"x" * 10)
    peer.http.feed(setting(INITIAL_WINDOW_SIZE, 2) + window(1, 1))
    peer.serve()
    assert data_sizes(peer.sent_frames()) == [3]
    peer.http.feed(window(1, 2))
    peer.serve()
    assert data_sizes(peer.sent_frames()) == [2]
