"""What programs ask a proxy for, as octets: HTTP CONNECT, plain HTTP requests, SOCKS5, and the replies.

A request comes with the password of the run, and may say claims of its connection: in a header field, which is
not passed on, or behind the user's name.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dnsvip.client.claims import Claims, parse_claims

USER = "dnsvip"
CLAIM_FIELD = "dnsvip-claim"
"""The header field that says claims, as NAME=VALUE with commas between them."""
CLAIM_MARK = "+"
"""What claims behind a user's name begin with."""

SOCKS_VERSION, SOCKS_AUTH_VERSION = 5, 1  # RFC 1928, RFC 1929
SOCKS_PASSWORD, SOCKS_NO_METHOD = 2, 255
SOCKS_OK, SOCKS_FAILED, SOCKS_NO_COMMAND, SOCKS_NO_ADDRESS_TYPE = 0, 1, 7, 8
SOCKS_BOUND = b"\x00\x01" + bytes(6)  # reserved, then the bound address: "0.0.0.0:0", undisclosed

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade", CLAIM_FIELD}
)
"""Header fields that are for the proxy alone (RFC 9110 section 7.6.1)."""


class Refused(Exception):
    """A request that is refused; `reply` is sent before the connection is closed."""

    def __init__(self, reply: bytes) -> None:
        super().__init__()
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the target, the reply once connected, bytes to forward first, the reply on failure, and what is said
    of the connection."""

    host: str
    port: int
    ready: bytes
    opening: bytes
    failed: Callable[[str], bytes]
    claims: Claims = field(default_factory=dict)


def http_request(head: bytes, password: str) -> Request:
    """The request in a head, up to its empty line (RFC 9110 section 9.3.6, RFC 9112 section 3.2); raises Refused."""
    start, *lines = head[:-4].split(b"\r\n")
    method, target, version = (*start.split(b" "), b"", b"")[:3]
    fields = [(name.strip().lower().decode("latin-1"), line) for line in lines for name in [line.split(b":")[0]]]
    claims = _authorized(fields, password)
    if claims is None:
        raise Refused(http_reply(407, "Proxy Authentication Required", "this proxy serves one command only"))
    if not version.startswith(b"HTTP/1."):
        raise Refused(http_reply(400, "Bad Request", "not an HTTP/1.x request"))
    try:
        said = parse_claims([*claims, *(word for name, line in fields if name == CLAIM_FIELD for word in _words(line))])
    except ValueError as error:
        raise Refused(http_reply(400, "Bad Request", f"claims: {error}")) from None
    scheme = b"//" if method == b"CONNECT" else b""
    host, port, path = _split_target(scheme + target)
    if method == b"CONNECT":
        return Request(host, port, b"HTTP/1.1 200 Connection established\r\n\r\n", b"", _http_failed, said)
    named = {word.lower() for name, line in fields if name == "connection" for word in _words(line)}
    kept = [line for name, line in fields if name not in HOP_BY_HOP | named]
    # One request per connection: what follows is opaque bytes.
    request = [b" ".join((method, path, version)), *kept, b"Connection: close"]
    return Request(host, port, b"", b"\r\n".join(request) + b"\r\n\r\n", _http_failed, said)


def socks_request(host: str, port: int, claims: Claims) -> Request:
    """A request for a connection by SOCKS5."""
    return Request(host, port, socks_reply(SOCKS_OK), b"", _socks_failed, claims)


def user_claims(user: str) -> list[str] | None:
    """The claims behind a user's name (`dnsvip+content=video+session=12`); None for another user."""
    name, *claims = user.split(CLAIM_MARK)
    return claims if hmac.compare_digest(name.encode(), USER.encode()) else None


def _authorized(fields: Iterable[tuple[str, bytes]], password: str) -> list[str] | None:
    """The claims behind the user's name, where the password is right; else None."""
    given = next((line.partition(b":")[2].strip() for name, line in fields if name == "proxy-authorization"), b"")
    scheme, _, credentials = given.partition(b" ")
    try:
        user, _, secret = b64decode(credentials.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    is_valid = hmac.compare_digest(secret, password.encode()) and scheme.lower() == b"basic"
    return user_claims(user.decode("latin-1")) if is_valid else None


def socks_reply(code: int) -> bytes:
    """The reply of SOCKS5 with a code."""
    return bytes([SOCKS_VERSION, code]) + SOCKS_BOUND


def _socks_failed(_reason: str) -> bytes:
    return socks_reply(SOCKS_FAILED)


def _http_failed(reason: str) -> bytes:
    return http_reply(502, "Bad Gateway", reason)


def http_reply(code: int, phrase: str, reason: str) -> bytes:
    """A reply that closes the connection, with the reason as text."""
    body = f"dnsvip client: {reason}\n".encode()
    fields = ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", "Connection: close"]
    if code == 407:
        fields.append('Proxy-Authenticate: Basic realm="dnsvip"')
    return "\r\n".join([f"HTTP/1.1 {code} {phrase}", *fields, "", ""]).encode() + body


def _split_target(target: bytes) -> tuple[str, int, bytes]:
    """Host, port and path of "http://host:port/path" or "//host:port"; raises Refused."""
    try:
        url = urlsplit(target.decode("ascii"))
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or url.scheme not in ("http", "") or not (port or url.scheme):
        raise Refused(http_reply(400, "Bad Request", "the target must be http://HOST/... or, by CONNECT, HOST:PORT"))
    path = target[len(url.scheme) + len(":" if url.scheme else "") + len("//") + len(url.netloc) :]
    return host, port or 80, path if path.startswith(b"/") else b"/" + path


def _words(line: bytes) -> list[str]:
    return [word.strip() for word in line.partition(b":")[2].decode("latin-1").split(",")]
