"""Hostile clients of the API and the console against a real node."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from random import Random

import pytest

from tests.attack.target import Target, answer_of, attacked, unharmed
from tests.long import long_or

CONNECTIONS = long_or(100, long=2000)
REQUESTS = long_or(300, long=20_000)
SEED = 20_261_129
DEPTH, DIGITS = long_or(1_500, long=200_000), long_or(4_500, long=200_000)
"""Deeper than Python nests, more than it reads; in the sample, few enough to be read without a process of its own."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("api")) as one:
        yield one


def request(target: Target, start: str, body: bytes = b"", *more: str) -> bytes:
    """A request with a good token."""
    lines = [
        start,
        f"Host: 127.0.0.1:{target.api}",
        f"Authorization: Bearer {target.token}",
        "Content-Type: application/json",
        "Connection: close",
        *more,
    ]
    if not any(line.lower().startswith(("transfer-encoding", "content-length")) for line in more):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def test_header_bombs(target: Target) -> None:
    """Heads of a megabyte, of ten thousand fields, of one endless line, are refused."""
    bombs = [
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(100_000)) + b"\r\n",
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n",
        b"A" * (1 << 20),
        b"GET / HTTP/1.1\r\nCookie: " + b"a=b; " * 200_000 + b"\r\n\r\n",
    ]
    with unharmed(target):
        for bomb in bombs:
            status, _ = answer_of(target.raw(bomb))
            assert status in (0, 400, 413, 414, 431), bomb[:40]


BOMBS = {
    "arrays": b"[" * DEPTH,
    "tables": b'{"a":' * DEPTH,
    "closed": b"[" * DEPTH + b"]" * DEPTH,
    "digits": b"1" * DIGITS,
    "infinite": b'{"code": 1e400}',
    "surrogate": b'"\\ud800"',
    "bytes": b"\xff",
}
BODIES = (
    "PUT /api/v1/tiers/x",
    "POST /api/v1/apply?dry_run=true",
    "PATCH /api/v1/clients/acme",
    "PATCH /api/v1/servers/localhost/zones/example.test.",
    "POST /api/v1/clients/import",
)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_json_bombs(target: Target, bomb: bytes) -> None:
    """Bodies nested or numbers without end, and what is no text, are a client's fault at every kind of path."""
    with unharmed(target):
        for start in BODIES:
            status, _ = answer_of(target.raw(request(target, f"{start} HTTP/1.1", bomb)))
            assert 400 <= status < 500, (start, status)


ODD = (b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xae", b"http://[", b"http://[::1", b'"' * 100, b"\x80" * 1000, b"nan")
FIELDS = ("Authorization", "X-API-Key", "Cookie", "Origin", "X-CSRF-Token", "If-Match", "Accept", "Content-Type",
          "Expect", "Last-Event-ID", "X-Forwarded-For", "Range", "Host", "Upgrade")  # fmt: skip


def test_odd_fields(target: Target) -> None:
    """Fields that are no text, no URL or no list are no fault of the server, with a token, a session or neither: the
    answer is a problem, and a stranger writes nothing to the log."""
    _, cookie, body = signed_in(target)
    session = [f"Cookie: {cookie.partition(';')[0]}", f"X-CSRF-Token: {json.loads(body)['csrf']}"]
    own = f"Origin: http://127.0.0.1:{target.api}"
    callers = {
        "stranger": ("GET /console/session/here", []),
        "token": ("PATCH /api/v1/tiers/nobody", [f"Authorization: Bearer {target.token}"]),
        "session": ("PATCH /api/v1/tiers/nobody", [*session, own]),
        "signing in": ("POST /console/session", [f"Authorization: Bearer {target.token}", own]),
    }
    with unharmed(target):
        for name in FIELDS:
            for odd in ODD:
                for start, lines in callers.values():
                    kept = [line for line in lines if not line.startswith(f"{name}:")]
                    head = (f"{start} HTTP/1.1", f"Host: 127.0.0.1:{target.api}", "Connection: close")
                    value = b"dnsvip-session=" + odd if name == "Cookie" else odd
                    sent = "\r\n".join([*head, "Content-Length: 0", *kept, f"{name}: "]).encode() + value + b"\r\n\r\n"
                    answer = target.raw(sent)
                    assert answer_of(answer)[0] < 500, (name, odd, start)
                    assert b"traceback" not in answer.lower()


def test_cookies_of_other_programs(target: Target) -> None:
    """A cookie of another program of this host that is no text is not this console's business."""
    _, cookie, _ = signed_in(target)
    lines = ["GET /api/v1/whoami HTTP/1.1", f"Host: 127.0.0.1:{target.api}", "Connection: close"]
    sent = "\r\n".join([*lines, f"Cookie: {cookie.partition(';')[0]}; other="]).encode() + b"\xff\r\n\r\n"
    assert answer_of(target.raw(sent))[0] == 200


BOMB_SECONDS = 1.0
"""Of the process for ten bombs; unpacked they took a hundred times as long as sending them."""


@pytest.mark.parametrize("caller", ["stranger", "token"])
def test_compressed_bodies(target: Target, caller: str) -> None:
    """A body that unpacks to a thousand times as much is refused, and costs no more than what was sent: nobody knows
    who sends it when it comes."""
    bomb = gzip.compress(bytes(64 << 20))
    token = f"Authorization: Bearer {target.token}\r\n" if caller == "token" else ""
    with unharmed(target):
        before = target.seconds()
        for path in ("/api/v1/clients/import", "/api/v1/apply", "/api/v1/tiers/x", "/console/session", "/healthz") * 2:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\n{token}"
            sent = f"{head}Content-Type: application/json\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb
            assert answer_of(target.raw(sent))[0] in (400, 415), path
        assert target.seconds() - before < BOMB_SECONDS


def test_chunks(target: Target) -> None:
    """Chunked bodies with lengths that lie, overflow or never end, beside a Content-Length, are refused or end."""
    chunked = "Transfer-Encoding: chunked"
    bodies = [
        b"ffffffffffffffffff\r\n" + b"a" * 100,
        b"-1\r\n\r\n",
        b"zz\r\n\r\n0\r\n\r\n",
        b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"".join(b"1\r\n \r\n" for _ in range(50_000)) + b"0\r\n\r\n",
    ]
    with unharmed(target):
        for body in bodies:
            sent = request(target, "PUT /api/v1/tiers/x HTTP/1.1", body, chunked)
            assert answer_of(target.raw(sent))[0] in (0, *range(400, 500)), body[:30]
        smuggled = b"0\r\n\r\nDELETE /api/v1/tiers/gold HTTP/1.1\r\nHost: x\r\n\r\n"
        for more in ((chunked, "Content-Length: 4"), ("Content-Length: 4", "Content-Length: 60"),
                     ("Transfer-Encoding: chunked, identity",), ("Transfer-Encoding : chunked",)):  # fmt: skip
            answer_of(target.raw(request(target, "PUT /api/v1/tiers/x HTTP/1.1", smuggled, *more)))


PATHS = (
    "/console/../../../../etc/passwd",
    "/console/%2e%2e/%2e%2e/app.py",
    "/console/..%2f..%2fapp.py",
    "//etc/passwd",
    "/console/....//....//etc/passwd",
    "/console/%00",
    "/api/v1/../../etc/passwd",
    "/api/v1/zones/..%2f..%2fstatus",
    "/console/static/%252e%252e/app.py",
    "/api/v1/clients/%ff%fe",
    "/console/\\..\\app.py",
)


def test_paths(target: Target) -> None:
    """No path leads out of the console's files or into another object."""
    paths = [*PATHS, "/console/" + "a/" * 5000]
    with unharmed(target):
        for path in paths:
            status, body = target.get(path)
            assert status in (0, 301, 302, 400, 404, 405, 414), path
            assert b"root:" not in body
            assert b"import " not in body


def test_half_requests(target: Target) -> None:
    """Connections that stop within a head or a body leave room for a good client, and end."""
    body = request(target, "PUT /api/v1/tiers/x HTTP/1.1", b"", "Content-Length: 1000")
    halves = (b"", b"GET /api", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", body)
    with unharmed(target), ExitStack() as stack:
        for number in range(CONNECTIONS):
            with suppress(OSError):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", target.api), 5))
                connection.sendall(halves[number % len(halves)])
        assert target.get("/api/v1/status")[0] == 200


def test_guesses(target: Target) -> None:
    """Random requests with and without tokens, methods and bodies: none is a fault of the server."""
    rng = Random(SEED)
    methods = ["GET", "PUT", "PATCH", "DELETE", "POST", "OPTIONS", "TRACE", "CONNECT", "X" * 100]
    parts = [
        "clients",
        "tiers",
        "pools",
        "zones",
        "tokens",
        "audit",
        "keys",
        "status",
        "decode",
        "%00",
        "..",
        "-",
        "'",
        "*",
    ]
    with unharmed(target):
        for _ in range(REQUESTS):
            path = "/api/v1/" + "/".join(rng.choice(parts) for _ in range(rng.randrange(1, 4)))
            query = "?" + "&".join(
                f"{rng.choice(('limit', 'sort', 'cursor', 'match', 'x'))}={rng.randrange(9**9)}" for _ in range(2)
            )
            method = rng.choice(methods)
            if method in ("PUT", "PATCH", "DELETE", "POST"):
                path += "/nobody"  # what is there stays
            sent = request(target, f"{method} {path}{query} HTTP/1.1", rng.randbytes(rng.randrange(40)))
            status, body = answer_of(target.raw(sent))
            assert status < 500 or status == 501, (method, path, query, body[:200])


def test_guessed_tokens(target: Target) -> None:
    """Guesses at tokens from one address are refused, after ten without looking each up; a good token is let in from
    there all the same, also one that has not been used before."""
    sent = request(target, "POST /api/v1/tokens HTTP/1.1", b'{"name": "second"}')
    second = json.loads(answer_of(target.raw(sent))[1])["token"]
    rng = Random(SEED)

    def by(token: str) -> int:
        return target.get("/api/v1/tiers", Authorization=f"Bearer {token}")[0]

    with unharmed(target):
        guesses = [by("dnsvip_" + rng.randbytes(32).hex()) for _ in range(REQUESTS)]
        assert set(guesses) == {401, 429}
        assert guesses.count(401) < 60
        assert [by(second), by(target.token)] == [200, 200]
        assert by(second[:-1] + ("A" if second[-1] != "A" else "B")) == 429


def signed_in(target: Target, *more: str) -> tuple[int, str, bytes]:
    """Status, cookie and body of a sign-in to the console."""
    origin = f"Origin: http://127.0.0.1:{target.api}"
    received = target.raw(request(target, "POST /console/session HTTP/1.1", b"", origin, *more))
    head = received.partition(b"\r\n\r\n")[0].decode("latin-1")
    cookie = next((line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("set-cookie")), "")
    status, body = answer_of(received)
    return status, cookie, body


def test_a_session_is_not_fixed(target: Target) -> None:
    """A cookie that an attacker has set before the sign-in is not the session after it, and opens nothing."""
    fixed = "dnsvip_session=" + "a" * 43
    with unharmed(target):
        status, cookie, body = signed_in(target, f"Cookie: {fixed}")
        assert status == 201
        value = cookie.partition(";")[0]
        assert value.partition("=")[2] not in fixed
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "csrf" in json.loads(body)
        bare = f"GET /api/v1/tiers HTTP/1.1\r\nHost: 127.0.0.1:{target.api}\r\nConnection: close\r\nCookie: "
        name = value.partition("=")[0]
        assert answer_of(target.raw(f"{bare}{value}\r\n\r\n".encode()))[0] == 200
        assert answer_of(target.raw(f"{bare}{name}={'a' * 43}\r\n\r\n".encode()))[0] == 401


def test_forged_changes(target: Target) -> None:
    """A browser's cookie alone changes nothing: not from another site, not without the CSRF token, not by a form."""
    with unharmed(target):
        _, cookie, body = signed_in(target)
        value, csrf, own = cookie.partition(";")[0], json.loads(body)["csrf"], f"http://127.0.0.1:{target.api}"
        forged = [
            [],
            [f"Origin: {own}"],
            [f"X-CSRF-Token: {csrf}"],
            [f"X-CSRF-Token: {csrf}", "Origin: https://evil.test"],
            [f"X-CSRF-Token: {csrf}", f"Origin: {own}.evil.test"],
            [f"X-CSRF-Token: {csrf}", f"Origin: {own}", "Sec-Fetch-Site: cross-site"],
            [f"X-CSRF-Token: {csrf[:-1]}x", f"Origin: {own}"],
            ["Origin: null", f"X-CSRF-Token: {csrf}"],
        ]
        for more in forged:
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                lines = ["DELETE /api/v1/tiers/gold HTTP/1.1", f"Host: 127.0.0.1:{target.api}", f"Cookie: {value}",
                         f"Content-Type: {kind}", "Content-Length: 0", "Connection: close", *more, "", ""]  # fmt: skip
                assert answer_of(target.raw("\r\n".join(lines).encode()))[0] == 403, more


def test_streams_and_upgrades(target: Target) -> None:
    """Upgrades to protocols that are not spoken, HTTP/2 and TLS to the plain port, and pipelines that are not read."""
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
    with unharmed(target):
        for path in ("/console/live", "/console/", "/api/v1/status", "/api/v1/clients/export"):
            status, _ = answer_of(target.raw(request(target, f"GET {path} HTTP/1.1", b"", *upgrade)))
            assert status != 101
        for start in (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        ):
            assert answer_of(target.raw(start))[0] in (0, 400, 505)
        pipeline = request(target, "GET /api/v1/clients HTTP/1.1").replace(b"Connection: close\r\n", b"") * 200
        with ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", target.api), 5))
                connection.settimeout(0.2)
                with suppress(OSError):
                    connection.sendall(pipeline)
            assert target.get("/api/v1/status")[0] == 200
