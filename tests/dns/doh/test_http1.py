"""HTTP/1.1, byte by byte."""

import pytest

from dnsvip.dns.doh.http1 import Http1
from dnsvip.dns.doh.request import Head, Problem
from dnsvip.dns.doh.response import answered, refused
from tests.dns.doh.test_request import GET, QUERY

POST = b"POST /dns-query HTTP/1.1\r\nHost: dns.example.test\r\nContent-Type: application/dns-message\r\n"
WHOLE = POST + b"Content-Length: 33\r\n\r\n" + QUERY


def _fed(data: bytes) -> Http1:
    http = Http1()
    http.feed(data)
    return http


def _answered(http: Http1) -> bytes:
    request = http.next()
    assert request is not None
    asked = request.asked
    http.answer(request.stream, refused(asked) if isinstance(asked, Problem) else answered(QUERY, private=True), 0)
    return http.take()


def test_post_is_answered() -> None:
    """A POST gets status, lifetime, length, date and message, and the connection is kept."""
    http = _fed(WHOLE)
    head, _, body = _answered(http).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 ",
        b"content-type: application/dns-message",
        b"cache-control: no-store",
        b"content-length: 33",
        b"date: Thu, 01 Jan 1970 00:00:00 GMT",
    ]
    assert body == QUERY
    assert not http.closing
    assert not http.pending
    http.feed(WHOLE)
    assert _answered(http).startswith(b"HTTP/1.1 200")


def test_requests_come_in_pieces() -> None:
    """However the bytes are cut, the same requests come out."""
    http = Http1()
    requests = []
    for byte in WHOLE + WHOLE:
        http.feed(bytes((byte,)))
        while (request := http.next()) is not None:
            requests.append((request.asked, request.body))
            http.answer(0, answered(QUERY, private=False), 0)
    assert requests == [(Head(None, None, "dns.example.test", 33), QUERY)] * 2


def test_pipelined_requests_wait_for_their_turn() -> None:
    """The next request is read once the one before is answered."""
    http = _fed(WHOLE + f"GET {GET} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert http.next() is not None
    assert http.next() is None
    assert http.pending
    http.answer(0, answered(QUERY, private=True), 0)
    request = http.next()
    assert request is not None
    assert request.asked == Head(QUERY, None, "x")


def test_chunked_content() -> None:
    """A message may come in chunks; one that is too long gets 413, and the connection ends."""
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    request = _fed(chunked + b"10\r\n" + QUERY[:16] + b"\r\n11\r\n" + QUERY[16:] + b"\r\n0\r\n\r\n").next()
    assert request is not None
    assert request.body == QUERY
    http = _fed(chunked + b"c001\r\n" + b"x" * 0xC001)
    assert _answered(http).startswith(b"HTTP/1.1 413")
    assert http.closing


def test_many_small_chunks_take_turns() -> None:
    """No turn reads more than so many pieces."""
    http = _fed(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000)
    turns = 0
    while http.next() is None and http.ready:
        turns += 1
    assert turns >= 1000 // 64


def test_expect_is_answered_before_the_content() -> None:
    """A client that expects 100 gets it, unless its request has a problem."""
    http = _fed(POST + b"Content-Length: 33\r\nExpect: 100-continue\r\n\r\n")
    assert http.next() is None
    assert http.take() == b"HTTP/1.1 100 \r\n\r\n"
    http = _fed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\nExpect: 100-continue\r\n\r\n")
    assert _answered(http).startswith(b"HTTP/1.1 404")
    assert http.closing


def test_head_has_no_content() -> None:
    """HEAD gets the fields of GET, and the connection is kept."""
    http = _fed(f"HEAD {GET} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    request = http.next()
    assert request is not None
    http.answer(0, answered(QUERY, private=True, bodyless=True), 0)
    assert http.take().endswith(b"GMT\r\n\r\n")
    assert not http.closing


def test_http_1_0_is_answered_once() -> None:
    """A client of HTTP/1.0 gets its answer, and the end."""
    http = _fed(f"GET {GET} HTTP/1.0\r\n\r\n".encode())
    assert b"connection: close" in _answered(http).lower()
    assert http.closing


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 9000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 2000, 431),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_no_http(data: bytes, status: int) -> None:
    """It is told, and the connection ends."""
    http = _fed(data)
    assert http.next() is None
    assert http.take().startswith(b"HTTP/1.1 %d " % status)
    assert http.closing
    http.feed(WHOLE)
    assert http.next() is None


def test_two_lengths_are_refused() -> None:
    """Where content has two ends, a front end may have seen the other one (RFC 9112 section 6.1): what comes behind
    may be another's, and the connection ends."""
    http = _fed(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + WHOLE)
    answer = _answered(http)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"\r\nconnection: close\r\n" in answer
    assert http.closing
    assert http.next() is None
