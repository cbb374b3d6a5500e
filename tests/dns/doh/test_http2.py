"""HTTP/2, frame by frame, and with hyper-h2 at the other end."""

from __future__ import annotations

from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from hpack import Encoder

from dnsvip.dns.doh import frames
from dnsvip.dns.doh.frames import Error
from dnsvip.dns.doh.http2 import CALM, CONTINUATIONS, FRAMES, MOST_HELD, STREAMS, UNSENT, Http2
from dnsvip.dns.doh.request import MAX_BODY, MOST_RECEIVED, Head, Problem, Request
from dnsvip.dns.doh.response import answered, refused
from tests.dns.doh.test_request import GET, QUERY

POST = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"dns.example.test"),
    (b":path", b"/dns-query"),
    (b"content-type", b"application/dns-message"),
]
GOT = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"dns.example.test"), (b":path", GET.encode())]
SETTINGS = frames.settings({})


class Peer:
    """Sends raw frames to a connection, and reads its frames."""

    def __init__(self) -> None:
        self.http, self.encoder = Http2(), Encoder()
        self.http.feed(frames.PREFACE + SETTINGS)
        assert self.http.next() is None
        self.sent = self.sent_frames()

    def sent_frames(self) -> list[tuple[int, int, int, bytes]]:
        """Type, flags, stream and content of each frame sent since."""
        return list(split(self.http.take()))

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.http.feed(frames.head(len(payload), kind, flags, stream) + payload)

    def head(self, stream: int, fields: list[tuple[bytes, bytes]], flags: int = frames.END_HEADERS) -> None:
        self.frame(frames.HEADERS, flags, stream, self.encoder.encode(fields))

    def post(self, stream: int, body: bytes = QUERY) -> None:
        self.head(stream, POST)
        self.frame(frames.DATA, frames.END_STREAM, stream, body)

    def serve(self, body: bytes = QUERY) -> list[Request]:
        """Answer all requests that have come."""
        requests = []
        while (request := self.http.next()) is not None or self.http.ready:
            if request is not None:
                requests.append(request)
                problem = isinstance(request.asked, Problem)
                response = refused(request.asked) if problem else answered(body, private=True)  # type: ignore[arg-type]
                self.http.answer(request.stream, response, 0)
        return requests

    def goes_away(self) -> int:
        """The code with which the connection ends."""
        self.serve()
        kind, _, _, payload = self.sent_frames()[-1]
        assert kind == frames.GOAWAY
        assert self.http.closing
        return int.from_bytes(payload[4:8], "big")

    def resets(self) -> dict[int, int]:
        """The streams that are reset, with their codes."""
        return {
            s: int.from_bytes(payload, "big") for kind, _, s, payload in self.sent_frames() if kind == frames.RST_STREAM
        }


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    while data:
        upper, lower, kind, flags, stream = frames.HEAD.unpack_from(data)
        end = frames.HEAD_BYTES + (upper << 8 | lower)
        yield kind, flags, stream, data[frames.HEAD_BYTES : end]
        data = data[end:]


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_a_library_is_answered() -> None:
    """hyper-h2 asks by POST and GET, many times, with changing tables, and reads what it expects."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    server, answers, statuses = Http2(), 0, set()
    for number in range(300):
        stream = client.get_next_available_stream_id()
        get = number % 3 == 1
        extra = [(b"user-agent", b"agent %d" % (number // 20))]
        client.send_headers(stream, [*(GOT if get else POST), *extra], end_stream=get)
        if not get:
            client.send_data(stream, QUERY, end_stream=True, pad_length=number % 5 or None)
        if number % 50 == 7:
            client.update_settings({1: (0, 4096)[number // 50 % 2], 4: 70000 + number})
            client.ping(b"12345678")
        server.feed(client.data_to_send())
        while (request := server.next()) is not None:
            assert isinstance(request.asked, Head)
            assert (request.asked.message or request.body) == QUERY
            server.answer(request.stream, answered(QUERY * 40, private=True), 0)
        for event in client.receive_data(server.take()):
            if isinstance(event, h2.events.ResponseReceived):
                statuses.add(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                assert event.data == QUERY * 40
                client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            answers += isinstance(event, h2.events.StreamEnded)
    assert (answers, statuses, server.pending) == (300, {"200"}, False)


def test_bytes_may_come_one_by_one(peer: Peer) -> None:
    """However the bytes are cut, the same requests come out."""
    block = peer.encoder.encode(GOT)
    data = frames.head(len(block), frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1) + block
    requests = []
    for byte in data:
        peer.http.feed(bytes((byte,)))
        requests += peer.serve()
    assert requests == [Request(1, Head(QUERY, None, "dns.example.test"))]


def test_a_block_seen_before_means_the_same_as_long_as_the_table_does(peer: Peer) -> None:
    """The same bytes are another request once the table has changed."""
    first = [*POST, (b"authorization", b"Bearer one")]
    second = [*POST, (b"authorization", b"Bearer two")]
    tokens = []
    blocks = [peer.encoder.encode(first) for _ in range(4)] + [peer.encoder.encode(second) for _ in range(4)]
    assert blocks[2] == blocks[3]
    assert blocks[6] == blocks[7]
    for number, block in enumerate(blocks):
        peer.frame(frames.HEADERS, frames.END_HEADERS, 2 * number + 1, block)
        peer.frame(frames.DATA, frames.END_STREAM, 2 * number + 1, QUERY)
        tokens += [request.asked.token for request in peer.serve() if isinstance(request.asked, Head)]
    assert tokens == ["one"] * 4 + ["two"] * 4


def test_a_head_in_pieces(peer: Peer) -> None:
    """CONTINUATION frames complete a head, with padding and priority in its first frame."""
    block = peer.encoder.encode(POST)
    flags = frames.PADDED | frames.WITH_PRIORITY
    peer.frame(frames.HEADERS, flags, 1, b"\x03" + b"\0\0\0\0\x10" + block[:5] + b"\0\0\0")
    peer.frame(frames.CONTINUATION, 0, 1, block[5:9])
    peer.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:])
    peer.frame(frames.DATA, frames.PADDED, 1, b"\x02" + QUERY[:9] + b"\0\0")
    peer.frame(frames.DATA, 0, 1, QUERY[9:])
    peer.head(1, [(b"trailer", b"x")], frames.END_HEADERS | frames.END_STREAM)
    (request,) = peer.serve()
    assert request.body == QUERY


def test_expect_is_answered_before_the_content(peer: Peer) -> None:
    """A client that expects 100 gets it first."""
    peer.head(1, [*POST, (b"expect", b"100-continue")])
    assert peer.serve() == []
    assert peer.sent_frames() == [(frames.HEADERS, frames.END_HEADERS, 1, b"\x20\x08\x03100")]


def test_an_answer_waits_for_the_peers_windows(peer: Peer) -> None:
    """What does not fit the windows of the stream and of the connection follows when they grow."""
    peer.http.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
    peer.post(1)
    peer.serve(b"x" * 100)
    assert sum(len(payload) for kind, _, _, payload in peer.sent_frames() if kind == frames.DATA) == 10
    assert peer.http.stuck
    peer.http.feed(frames.number(frames.WINDOW_UPDATE, 1, 5) + frames.settings({frames.INITIAL_WINDOW_SIZE: 30}))
    peer.serve()
    assert [len(payload) for kind, _, _, payload in peer.sent_frames() if kind == frames.DATA] == [5, 20]
    peer.http.feed(frames.number(frames.WINDOW_UPDATE, 1, 1000))
    peer.serve()
    (last,) = (frame for frame in peer.sent_frames() if frame[0] == frames.DATA)
    assert last == (frames.DATA, frames.END_STREAM, 1, b"x" * 65)
    assert not peer.http.stuck
    assert not peer.http.pending


def test_a_long_answer_has_frames_of_16_kib(peer: Peer) -> None:
    """No frame is longer than any peer takes, and the connection's window counts for all streams."""
    peer.post(1)
    peer.serve(b"x" * 60000)
    assert [len(payload) for kind, _, _, payload in peer.sent_frames() if kind == frames.DATA] == [16384] * 3 + [10848]
    peer.post(3)
    peer.serve(b"x" * 60000)
    assert sum(len(payload) for kind, _, _, payload in peer.sent_frames() if kind == frames.DATA) == 5535
    peer.frame(frames.RST_STREAM, 0, 3, b"\0\0\0\x08")
    peer.serve()
    assert not peer.http.stuck


def test_a_peer_without_a_window_holds_little(peer: Peer) -> None:
    """Where more answers wait than may, further requests are refused."""
    peer.http.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    for stream in range(1, 41, 2):
        peer.post(stream)
    peer.serve(b"x" * 60000)
    assert set(peer.resets().values()) == {Error.REFUSED_STREAM}
    assert UNSENT < peer.http._sending.unsent <= UNSENT + 60000


def test_the_connections_window_is_refilled(peer: Peer) -> None:
    """A client may ask forever."""
    for stream in range(1, 201, 2):
        peer.post(stream, QUERY + b"x" * 1000)
        peer.serve()
    updates = [
        int.from_bytes(payload, "big") for kind, _, _, payload in peer.sent_frames() if kind == frames.WINDOW_UPDATE
    ]
    assert len(updates) == 3
    assert all(more > 32767 for more in updates)


def test_what_is_too_long_is_answered_before_its_end(peer: Peer) -> None:
    """The rest of it is not read: its stream is reset once the answer is sent (RFC 9113 section 8.1)."""
    peer.head(1, [*POST[:3], (b":path", b"/"), POST[4]])
    assert peer.serve() == []
    for stream, status in ((1, 404), (3, 413)):
        if stream > 1:
            peer.head(stream, POST)
        for size in (16000, 16000, 16000, MOST_RECEIVED - 48000 + 1):
            peer.frame(frames.DATA, 0, stream, b"\0\0\x28".ljust(size))
        (request,) = peer.serve()
        assert isinstance(request.asked, Problem)
        assert request.asked.status == status
        kinds = [(kind, flags & frames.END_STREAM) for kind, flags, of, _ in peer.sent_frames() if of == stream]
        assert kinds == [(frames.HEADERS, 0), (frames.DATA, 1), (frames.RST_STREAM, 0)]


def test_what_is_rather_long_is_answered_at_its_end(peer: Peer) -> None:
    """Nothing is reset where the end is near."""
    peer.head(1, POST)
    for flags in (0, 0, frames.END_STREAM):
        peer.frame(frames.DATA, flags, 1, b"\0\0\x28".ljust(MAX_BODY // 3 + 1))
    (request,) = peer.serve()
    assert isinstance(request.asked, Problem)
    assert (request.asked.status, request.body, peer.resets()) == (413, b"", {})


def test_a_form_seen_before_with_another_path(peer: Peer) -> None:
    """A GET whose block differs from one before in its path only is read as any other, Huffman-coded or not."""
    peer.frame(frames.HEADERS, 5, 1, peer.encoder.encode(GOT[:3]) + _path(GET))
    peer.serve()
    indexed = peer.encoder.encode(GOT[:3])
    assert len(indexed) == 3
    accept = b"\x0f\x04\x03*/*"
    paths = [
        GET,
        GET[:-1] + "g",
        "/",
        GET.replace("dns=", "dns=-"),
        "/dns-query/dvtoken?" + GET[11:],
        "/dns-query?a=b&" + GET[11:],
        "/dns-query?a=b&" + GET[11:] + "AA",
        "/dns-query?dns=",
        GET + "A" * 100,
        "",
    ]
    asked = []
    for number, path in enumerate(paths * 2):
        peer.frame(frames.HEADERS, 5, 2 * number + 3, indexed + _path(path, number % 2 == 0) + accept)
        asked += [request.asked for request in peer.serve()]
    again = Peer()
    expected = []
    for number, path in enumerate(path for path in paths * 2 if path):
        again.head(2 * number + 1, [*GOT[:3], (b":path", path.encode()), (b"accept", b"*/*")], 5)
        expected += [request.asked for request in again.serve()]
    assert asked == expected
    assert len({type(one) for one in asked}) == 2


def _path(path: str, huffman: bool = True) -> bytes:
    return Encoder()._encode_indexed_literal(4, path.encode(), b"\x00", huffman)


@pytest.mark.parametrize(
    "fields",
    [
        POST[1:],
        POST[:1] + POST[2:],
        POST[:3] + POST[4:],
        [*POST, (b":path", b"/dns-query")],
        [*POST[:3], (b":path", b""), POST[4]],
        [*POST, (b":status", b"200")],
        [(b":method", b"POST"), *POST],
        [*POST, (b"Accept", b"*/*")],
        [*POST, (b"connection", b"close")],
        [*POST, (b"te", b"gzip")],
        [*POST, (b"a", b"b\r\nc: d")],
        [*POST, (b"a b", b"c")],
    ],
)
def test_malformed_requests(peer: Peer, fields: list[tuple[bytes, bytes]]) -> None:
    """What RFC 9113 section 8 forbids ends the stream, and the connection goes on."""
    peer.head(1, fields, frames.END_HEADERS | frames.END_STREAM)
    peer.post(3)
    assert [request.stream for request in peer.serve()] == [3]
    assert peer.resets() == {1: Error.PROTOCOL}


def test_content_has_the_length_that_was_said(peer: Peer) -> None:
    """Else the request is malformed (RFC 9113 section 8.1.1)."""
    for stream, size in ((1, 32), (3, 34), (5, 33)):
        peer.head(stream, [*POST, (b"content-length", b"33")])
        peer.frame(frames.DATA, frames.END_STREAM, stream, b"x" * size)
    assert [request.stream for request in peer.serve()] == [5]
    assert peer.resets() == {1: Error.PROTOCOL, 3: Error.PROTOCOL}


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ((frames.DATA, 0, 0, b"x"), Error.PROTOCOL),
        ((frames.DATA, 0, 1, b"x"), Error.PROTOCOL),
        ((frames.HEADERS, 4, 0, b"\x82"), Error.PROTOCOL),
        ((frames.HEADERS, 4, 2, b"\x82"), Error.PROTOCOL),
        ((frames.HEADERS, 12, 1, b"\x05\x82"), Error.PROTOCOL),
        ((frames.HEADERS, 36, 1, b"\0\0\0\0"), Error.FRAME_SIZE),
        ((frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), Error.COMPRESSION),
        ((frames.HEADERS, 4, 1, b"\xc0"), Error.COMPRESSION),
        ((frames.HEADERS, 4, 1, b"\x20" * 3 + b"\x82"), Error.COMPRESSION),
        ((frames.HEADERS, 4, 1, b"\x40\x01a\x7f\x81\x1f" + b"x" * 4096 + b"\xbe" * 100), Error.COMPRESSION),
        ((frames.CONTINUATION, 4, 1, b""), Error.PROTOCOL),
        ((frames.PUSH_PROMISE, 4, 1, b"\0\0\0\x02"), Error.PROTOCOL),
        ((frames.RST_STREAM, 0, 1, b"\0\0\0\0"), Error.PROTOCOL),
        ((frames.RST_STREAM, 0, 0, b"\0\0\0\0"), Error.PROTOCOL),
        ((frames.SETTINGS, 0, 1, b""), Error.PROTOCOL),
        ((frames.SETTINGS, 0, 0, b"x"), Error.FRAME_SIZE),
        ((frames.SETTINGS, 1, 0, b"x" * 6), Error.FRAME_SIZE),
        ((frames.SETTINGS, 0, 0, b"\0\x02\0\0\0\x02"), Error.PROTOCOL),
        ((frames.SETTINGS, 0, 0, b"\0\x05\0\0\0\x01"), Error.PROTOCOL),
        ((frames.SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff"), Error.FLOW_CONTROL),
        ((frames.PING, 0, 0, b"x"), Error.FRAME_SIZE),
        ((frames.PING, 0, 1, b"x" * 8), Error.PROTOCOL),
        ((frames.GOAWAY, 0, 1, b"x" * 8), Error.PROTOCOL),
        ((frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), Error.PROTOCOL),
        ((frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), Error.FLOW_CONTROL),
        ((frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\x01"), Error.PROTOCOL),
        ((frames.WINDOW_UPDATE, 0, 0, b"\0"), Error.FRAME_SIZE),
        ((frames.PRIORITY, 0, 0, b"x" * 5), Error.PROTOCOL),
        ((frames.PING, 0, 0, b"x" * 16385), Error.FRAME_SIZE),
    ],
)
def test_broken_frames_end_the_connection(peer: Peer, frame: tuple[int, int, int, bytes], code: int) -> None:
    """With the code that RFC 9113 gives it."""
    peer.frame(*frame)
    assert peer.goes_away() == code


def test_ended_streams_stay_so(peer: Peer) -> None:
    """What comes for them is refused, and the connection goes on; unknown frames and priorities are ignored."""
    peer.post(1)
    peer.serve()
    peer.frame(frames.DATA, frames.END_STREAM, 1, b"x")
    peer.frame(frames.WINDOW_UPDATE, 0, 1, b"\0\0\0\x01")
    peer.frame(frames.PRIORITY, 0, 7, b"\0\0\0\0\x10")
    peer.frame(0xBE, 255, 77, b"grease")
    peer.frame(frames.PING, 0, 0, b"12345678")
    peer.post(9)
    peer.head(5, POST)
    assert [request.stream for request in peer.serve()] == [9]
    sent = peer.sent_frames()
    assert (frames.PING, frames.ACK, 0, b"12345678") in sent
    assert [(s, payload[3]) for kind, _, s, payload in sent if kind == frames.RST_STREAM] == [
        (1, Error.STREAM_CLOSED),
        (5, Error.STREAM_CLOSED),
    ]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", frames.PREFACE + frames.head(0, frames.PING, 0, 0)])
def test_what_does_not_begin_as_http2(data: bytes) -> None:
    """It is told and ended."""
    http = Http2()
    http.feed(data)
    assert http.next() is None
    assert http.closing
    assert list(split(http.take()))[-1][0] == frames.GOAWAY


def test_a_flood_of_continuations(peer: Peer) -> None:
    """A head has few frames, however small they are (CVE-2024-27316 and its kin)."""
    peer.frame(frames.HEADERS, 0, 1, b"")
    for _ in range(CONTINUATIONS + 1):
        peer.frame(frames.CONTINUATION, 0, 1, b"")
    assert peer.goes_away() == Error.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "flood",
    [
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1}),
        frames.head(8, frames.PING, 0, 0) + b"x" * 8,
        frames.head(5, frames.PRIORITY, 0, 1) + b"\0" * 5,
        frames.head(0, 0xBE, 0, 0),
        frames.number(frames.WINDOW_UPDATE, 0, 1),
    ],
)
def test_a_flood_of_other_frames(peer: Peer, flood: bytes) -> None:
    """Who does not ask is told to calm down, and no turn reads many frames."""
    peer.http.feed(flood * (CALM + 1))
    assert peer.http.next() is None
    assert peer.http.ready
    assert len(peer.http) == len(flood) * (CALM + 1 - FRAMES)
    assert peer.goes_away() == Error.ENHANCE_YOUR_CALM


def test_a_rapid_reset(peer: Peer) -> None:
    """Requests that are taken back cost more than they are worth (CVE-2023-44487)."""
    for stream in range(1, 400, 2):
        peer.head(stream, POST)
        peer.frame(frames.RST_STREAM, 0, stream, b"\0\0\0\x08")
    assert peer.goes_away() == Error.ENHANCE_YOUR_CALM


def test_many_streams(peer: Peer) -> None:
    """More requests at once than allowed are refused."""
    for stream in range(1, 2 * STREAMS + 8, 2):
        peer.head(stream, POST)
    assert peer.serve() == []
    assert peer.resets() == dict.fromkeys(range(2 * STREAMS + 1, 2 * STREAMS + 8, 2), Error.REFUSED_STREAM)
    peer.frame(frames.DATA, frames.END_STREAM, 1, QUERY)
    assert len(peer.serve()) == 1


def test_incomplete_contents_are_bounded_together(peer: Peer) -> None:
    """Streams that begin contents and end none hold so much in all; what holds nothing any more makes room."""
    piece = b"x" * (MAX_BODY // 2)
    refused: dict[int, int] = {}
    for stream in range(1, 41, 2):
        peer.head(stream, POST)
        for _ in range(2):
            peer.frame(frames.DATA, 0, stream, piece)
            assert peer.serve() == []
            refused = peer.resets() | refused
    fitting = MOST_HELD // MAX_BODY
    assert refused == dict.fromkeys(range(2 * fitting + 1, 41, 2), Error.REFUSED_STREAM)
    assert sum(len(state.body) for state in peer.http._sending.streams.values()) <= MOST_HELD
    for stream in range(1, 2 * fitting, 2):
        peer.frame(frames.DATA, frames.END_STREAM, stream)
    assert len(peer.serve()) == fitting
    for stream in (101, 103, 105, 107, 109, 111):  # completed, reset, too long, padded: none is counted any more
        peer.head(stream, POST)
        peer.frame(frames.DATA, 0, stream, piece)
        if stream < 105:
            peer.frame(frames.RST_STREAM, 0, stream, b"\0\0\0\x08")
        elif stream < 109:
            peer.frame(frames.DATA, 0, stream, piece)
            peer.frame(frames.DATA, frames.END_STREAM, stream, b"x")
        else:
            for _ in range(4):
                peer.frame(frames.DATA, frames.PADDED, stream, b"\xff" + b"\0" * 255 + b"x")
            peer.frame(frames.DATA, frames.END_STREAM, stream)
        peer.serve()
    assert (peer.http._held, peer.http._sending.streams, peer.http.closing) == (0, {}, False)


def test_many_settings_in_a_frame(peer: Peer) -> None:
    """More settings than a peer may spend end the connection before any is looked at."""
    peer.head(1, POST)
    peer.frame(frames.SETTINGS, 0, 0, (b"\0\4" + b"\0\0\x40\0") * (CALM + 1))
    assert peer.goes_away() == Error.ENHANCE_YOUR_CALM
    assert peer.http._sending._initial == frames.WINDOW


def test_an_endless_client_may_do_what_is_usual(peer: Peer) -> None:
    """A PING and two windows with each request are nothing to worry about."""
    for stream in range(1, 4001, 2):
        peer.frame(frames.PING, 0, 0, b"x" * 8)
        peer.http.feed(
            frames.number(frames.WINDOW_UPDATE, 0, 33) + frames.number(frames.WINDOW_UPDATE, max(0, stream - 2), 33)
        )
        peer.post(stream)
        peer.serve()
        peer.sent_frames()
    assert not peer.http.closing
