"""Whatever a peer sends, and however it is cut, nothing raises, and the connection is over or goes on."""

from __future__ import annotations

from random import Random

from hpack import Encoder

from dnsvip.dns.doh import frames
from dnsvip.dns.doh.http1 import Http1
from dnsvip.dns.doh.http2 import STREAMS, UNSENT, Http2
from dnsvip.dns.doh.request import Problem, message_of
from dnsvip.dns.doh.response import answered, refused
from tests.dns.doh.test_http1 import POST, WHOLE
from tests.dns.doh.test_http2 import GOT
from tests.dns.doh.test_http2 import POST as FIELDS
from tests.dns.doh.test_request import GET, QUERY
from tests.long import long_or

ROUNDS = long_or(1000, long=50_000)
FLAGS = (0, frames.END_STREAM, frames.END_HEADERS, 5, frames.PADDED, 0x24, 0x2D)


def _http2(pick: Random) -> bytes:
    encoder = Encoder()
    setting = {pick.randrange(1, 7): pick.choice((0, 1, 4096, 16384, 65535, 1 << 31))}
    data = frames.PREFACE + frames.settings(setting)
    for number in range(pick.randrange(20)):
        fields = [*pick.choice((FIELDS, GOT)), (pick.randbytes(1).hex().encode(), b"v")]
        payloads = pick.randbytes(pick.randrange(40)), encoder.encode(fields), b"\0\0\0\1", bytes(8), QUERY
        stream = pick.choice((0, 1, 2, 3, 2 * number + 1))
        payload = pick.choice(payloads)
        data += (
            frames.head(len(payload), pick.choice((0, 0, 1, 1, 1, *range(11))), pick.choice(FLAGS), stream) + payload
        )
    return data


def _http1(pick: Random) -> bytes:
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    got = f"GET {GET} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    return b"".join(pick.choice((WHOLE, chunked, got, pick.randbytes(9), b"\r\n")) for _ in range(8))


def test_random_peers() -> None:
    """Frames and requests of all kinds, some damaged, in pieces; answers come, are dropped, or do not come."""
    pick = Random(5)
    requests = 0
    for number in range(ROUNDS):
        http: Http1 | Http2 = Http2() if number % 2 else Http1()
        data = bytearray(_http2(pick) if number % 2 else _http1(pick))
        for _ in range(pick.choice((0, 0, 1, 3))):
            data[pick.randrange(len(data))] = pick.randrange(256)
        while data:
            size = pick.randrange(1, 200)
            http.feed(bytes(data[:size]))
            del data[:size]
            while (request := http.next()) is not None or http.ready:
                if request is None:
                    continue
                requests += 1
                asked = request.asked
                message = asked if isinstance(asked, Problem) else message_of(asked, request.body)
                if pick.random() < 0.1:
                    http.drop(request.stream)
                elif pick.random() < 0.9:
                    problem = isinstance(message, Problem)
                    response = refused(message) if problem else answered(QUERY * 9, private=True)  # type: ignore[arg-type]
                    http.answer(request.stream, response, 0)
            http.take()
        assert not (http.closing and http.ready)
        if isinstance(http, Http2):
            assert len(http._sending.streams) <= STREAMS
            assert http._sending.unsent <= UNSENT + 9 * len(QUERY)
    assert requests > ROUNDS // 4
