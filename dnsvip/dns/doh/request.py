"""What the head of a request asks of DNS over HTTPS (RFC 8484): a DNS message, or the problem with it (RFC 9110).

The same for HTTP/1.1, HTTP/2 and HTTP/3. Tokens are found here and verified elsewhere.
"""

from __future__ import annotations

from binascii import Error, a2b_base64
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from dnsvip.dns.protocol.message import HEADER_SIZE, MAX_QUERY, MAX_UPDATE, longest

PATH = "/dns-query"
MEDIA_TYPE = "application/dns-message"

MAX_HEAD = 8192
"""Bytes of a request's head: the longest query in base64url, and 2 KiB of everything else."""

MAX_BODY = MAX_UPDATE
"""Bytes of a request's body, whatever its message is."""


MOST_RECEIVED = 3 << 14
"""Bytes of a request that is too long, or has another problem, that are passed over so that its answer comes at its
end: some clients lose an answer that comes before. Less than HTTP/2's first window."""


class Problem(NamedTuple):
    """Why there is no DNS answer: a status code, a line for people, and header fields that the status needs."""

    status: int
    text: str
    fields: tuple[tuple[bytes, bytes], ...] = ()
    bodyless: bool = False


class Head(NamedTuple):
    """A request that asks a DNS question: in `message`, with GET and HEAD, or in the body that follows, with POST.
    `token` is what it bears, not yet verified; `host` is whom it was sent to; `bodyless` says that it is a HEAD."""

    message: bytes | None
    token: str | None = None
    host: str = ""
    length: int | None = None
    bodyless: bool = False
    expects: bool = False


class Request(NamedTuple):
    """A request that is complete, or has a problem before that; `stream` is for its answer."""

    stream: int
    asked: Head | Problem
    body: bytes = b""


Fields: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Header fields, their names in lower case."""

UNKNOWN_TOKEN = Problem(401, "this token is unknown", ((b"www-authenticate", b'Bearer realm="dns"'),))
NO_QUERY = Problem(400, "this is no DNS query: it needs a header of 12 bytes, with QR 0")
TOO_LONG = Problem(413, f"a query has at most {MAX_QUERY} bytes, an update {MAX_UPDATE}")
MISDIRECTED = Problem(421, "this connection has the token of another name: open a connection for this one")
TOO_MANY_FIELDS = Problem(431, f"the head of a request has at most {MAX_HEAD} bytes")


def read_head(method: str, target: str, fields: Fields, host: str = "") -> Head | Problem:
    """What a request asks; `host` is HTTP/2's `:authority`, where there is one."""
    wanted: dict[bytes, str] = {}
    twice = None
    for name, raw in fields:
        if name in _WANTED:
            value = raw.decode("latin-1").strip()
            if name in wanted and name == b"accept":
                value = f"{wanted[name]},{value}"
            elif wanted.get(name, value) != value:
                twice = name.decode()
            wanted[name] = value
    asked = (
        Problem(400, f"there are two fields {twice}")
        if twice
        else _asked(method, target, wanted, host or wanted.get(b"host", ""))
    )
    return asked._replace(bodyless=True) if method == "HEAD" else asked


def _asked(method: str, target: str, fields: dict[bytes, str], host: str) -> Head | Problem:
    path, _, query = target.partition("?")
    token = _token(path, fields.get(b"authorization"))
    if isinstance(token, Problem):
        return token
    if method not in ("GET", "HEAD", "POST"):
        return Problem(405, "use GET or POST", ((b"allow", b"GET, HEAD, POST"),))
    if not _accepts(fields.get(b"accept", "*/*")):
        return Problem(406, f"answers are {MEDIA_TYPE}, which Accept does not name")
    if method == "POST":
        return _posted(fields) or Head(None, token, host, _length(fields), expects=b"expect" in fields)
    message = _in_query(query)
    return message if isinstance(message, Problem) else Head(message, token, host)


def _posted(fields: dict[bytes, str]) -> Problem | None:
    """What is wrong with the content of a POST, as its fields describe it."""
    if fields.get(b"content-type", "").partition(";")[0].rstrip().lower() != MEDIA_TYPE:
        text = f"the content must be a DNS message: Content-Type: {MEDIA_TYPE}"
        return Problem(415, text, ((b"accept", MEDIA_TYPE.encode()),))
    if fields.get(b"content-encoding", "identity").lower() != "identity":
        return Problem(415, "the content must not be encoded", ((b"accept-encoding", b"identity"),))
    length = fields.get(b"content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        return Problem(400, "Content-Length must be a number")
    if int(length) > MAX_BODY:
        return TOO_LONG
    if fields.get(b"expect", "100-continue").lower() != "100-continue":
        return Problem(417, "Expect may be 100-continue only")
    return None


def _length(fields: dict[bytes, str]) -> int | None:
    length = fields.get(b"content-length")
    return None if length is None else int(length)


def message_of(head: Head, body: bytes) -> bytes | Problem:
    """The DNS message of a request that is complete."""
    message = body if head.message is None else head.message
    size = len(message)
    if size < HEADER_SIZE:
        return NO_QUERY
    return TOO_LONG if size > MAX_QUERY and size > longest(message[2]) else message


def _token(path: str, authorization: str | None) -> str | Problem | None:
    """The token of the path, /dns-query/TOKEN, or of `Authorization: Bearer TOKEN`."""
    if path == PATH:
        token = None
    elif path.startswith(PATH + "/") and (token := path[len(PATH) + 1 :]) and "/" not in token:
        pass
    else:
        return Problem(404, f"DNS over HTTPS is at {PATH}")
    if authorization is None:
        return token
    scheme, _, bearer = authorization.partition(" ")
    bearer = bearer.strip()
    if scheme.lower() != "bearer" or not bearer:
        return UNKNOWN_TOKEN._replace(text="authorization is by a token: Authorization: Bearer TOKEN")
    if token is not None and token.lower() != bearer.lower():
        return Problem(400, "the path and Authorization have different tokens: send one")
    return bearer


def _accepts(accept: str) -> bool:
    """Whether a client takes DNS messages (RFC 9110 section 12.5.1): by the most specific range that fits."""
    best = -1
    taken = False
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        if name in _RANGES and _RANGES[name] > best:
            best, taken = _RANGES[name], not any(_ZERO.get(word, False) for word in parameters)
    return taken


def _in_query(query: str) -> bytes | Problem:
    """The message of `?dns=` (RFC 8484 section 4.1)."""
    values = [value for name, _, value in (part.partition("=") for part in query.split("&")) if name == "dns"]
    if len(values) != 1:
        return Problem(400, f"GET needs one DNS message in base64url: {PATH}?dns=...")
    if len(values[0]) > (4 * MAX_QUERY + 2) // 3:
        return Problem(414, f"a query has at most {MAX_QUERY} bytes")
    message = decoded(values[0].encode("latin-1"))
    return message or Problem(400, "dns must be base64url without padding: A-Z, a-z, 0-9, - and _")


def decoded(text: bytes) -> bytes | None:
    """The bytes that base64url without padding stands for (RFC 4648 section 5); None where it is something else."""
    try:
        return a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4), strict_mode=True)
    except (Error, ValueError):
        return None


_WANTED = frozenset(
    (
        b"accept",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
    )
)
_RANGES = {"*/*": 0, "application/*": 1, MEDIA_TYPE: 2}
_ZERO = {"q=0": True, "q=0.0": True, "q=0.00": True, "q=0.000": True}
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
"""base64url to base64; what only the latter has is refused."""
