"""What requests ask of DNS over HTTPS."""

from base64 import urlsafe_b64encode

import pytest

from dnsvip.dns.doh.request import MAX_BODY, Head, Problem, message_of, read_head

QUERY = bytes.fromhex("00000100000100000000000003777777076578616d706c6503636f6d0000010001")
TEXT = urlsafe_b64encode(QUERY).decode().rstrip("=")
GET = f"/dns-query?dns={TEXT}"
POSTED = [(b"content-type", b"application/dns-message")]


def test_get_bears_its_message() -> None:
    """The example of RFC 8484 section 4.1.1."""
    assert TEXT == "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB"
    asked = read_head("GET", GET, [(b"accept", b"application/dns-message")], "dnsserver.example.net")
    assert asked == Head(QUERY, None, "dnsserver.example.net")
    assert isinstance(asked, Head)
    assert message_of(asked, b"") == QUERY


def test_post_is_followed_by_its_message() -> None:
    """A POST says how long its message is, and has it in its content."""
    fields = [*POSTED, (b"content-length", b"33"), (b"host", b"dns.example.test")]
    asked = read_head("POST", "/dns-query", fields)
    assert asked == Head(None, None, "dns.example.test", 33)
    assert isinstance(asked, Head)
    assert message_of(asked, QUERY) == QUERY


def test_head_is_a_get_without_content() -> None:
    """HEAD asks as GET does, and its answer and its problems have no content."""
    assert read_head("HEAD", GET, []) == Head(QUERY, bodyless=True)
    problem = read_head("HEAD", "/", [])
    assert isinstance(problem, Problem)
    assert (problem.status, problem.bodyless) == (404, True)


@pytest.mark.parametrize(
    ("target", "fields", "token"),
    [
        ("/dns-query", [], None),
        ("/dns-query/dvabc", [], "dvabc"),
        ("/dns-query", [(b"authorization", b"Bearer dvabc")], "dvabc"),
        ("/dns-query", [(b"authorization", b"bearer  dvabc ")], "dvabc"),
        ("/dns-query/DVABC", [(b"authorization", b"Bearer dvabc")], "dvabc"),
    ],
)
def test_tokens(target: str, fields: list[tuple[bytes, bytes]], token: str | None) -> None:
    """A token is in the path or in Authorization."""
    asked = read_head("POST", target, [*POSTED, *fields])
    assert isinstance(asked, Head)
    assert asked.token == token


@pytest.mark.parametrize(
    ("status", "method", "target", "fields"),
    [
        (404, "GET", "/", []),
        (404, "GET", "/dns-query/", []),
        (404, "GET", "/dns-query/a/b", []),
        (404, "GET", "/dns-queryx", []),
        (405, "PUT", "/dns-query", POSTED),
        (405, "OPTIONS", "/dns-query", []),
        (406, "GET", GET, [(b"accept", b"application/dns-json")]),
        (406, "GET", GET, [(b"accept", b"*/*, application/dns-message;q=0")]),
        (400, "GET", "/dns-query", []),
        (400, "GET", f"{GET}&dns={TEXT}", []),
        (400, "GET", f"{GET}=", []),
        (400, "GET", "/dns-query?dns=AA+AA/", []),
        (400, "GET", "/dns-query?dns=A", []),
        (400, "GET", "/dns-query?dns=A\x80AA", []),
        (414, "GET", "/dns-query?dns=" + "A" * 5464, []),
        (415, "POST", "/dns-query", []),
        (415, "POST", "/dns-query", [(b"content-type", b"text/plain")]),
        (415, "POST", "/dns-query", [*POSTED, (b"content-encoding", b"gzip")]),
        (413, "POST", "/dns-query", [*POSTED, (b"content-length", str(MAX_BODY + 1).encode())]),
        (400, "POST", "/dns-query", [*POSTED, (b"content-length", b"-1")]),
        (400, "POST", "/dns-query", [*POSTED, (b"content-length", b"9" * 5000)]),
        (400, "POST", "/dns-query", [*POSTED, (b"content-type", b"text/plain")]),
        (417, "POST", "/dns-query", [*POSTED, (b"expect", b"200-maybe")]),
        (401, "POST", "/dns-query", [*POSTED, (b"authorization", b"Basic YTpi")]),
        (400, "POST", "/dns-query/dvabc", [*POSTED, (b"authorization", b"Bearer dvxyz")]),
    ],
)
def test_problems(status: int, method: str, target: str, fields: list[tuple[bytes, bytes]]) -> None:
    """What is at fault has the status that RFC 9110 gives it, and a line that never repeats what was sent."""
    problem = read_head(method, target, fields)
    assert isinstance(problem, Problem)
    assert problem.status == status
    assert problem.text
    assert "dvabc" not in problem.text


def test_accept_may_be_wide() -> None:
    """Several fields, ranges and weights are read as RFC 9110 section 12.5.1 says."""
    for accept in (
        "*/*",
        "application/*;q=0.1",
        "text/html, */*;q=0.8",
        "application/DNS-message",
        "*/*;q=0, application/*",
    ):
        assert isinstance(read_head("GET", GET, [(b"accept", accept.encode())]), Head), accept
    assert isinstance(read_head("GET", GET, [(b"accept", b"text/html"), (b"accept", b"*/*")]), Head)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"x" * 11, 400), (QUERY + b"\0" * 4096, 413), (b"\0\0\x28" + b"\0" * 32766, 413)],
)
def test_messages_have_bounds(body: bytes, status: int) -> None:
    """A message has a header at least, and is no longer than its kind may be: an update may be long."""
    problem = message_of(Head(None), body)
    assert isinstance(problem, Problem)
    assert problem.status == status
    assert message_of(Head(None), b"\0\0\x28" + b"\0" * 32765) == b"\0\0\x28" + b"\0" * 32765
