"""What HTTP/2 and HTTP/3 have in common for DNS over HTTPS (RFC 8484): a request's fields, a response judged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dnsvip.client.io.encrypted.credentials import ChannelError, Credentials
from dnsvip.site.server_forms import ServerForm

MESSAGE = b"application/dns-message"
LONGEST = 65_535
"""Bytes of an answer."""
MOST_IDLE_BYTES = 1 << 20
"""Bytes that a server may send without ending an answer."""
_OK, _UNAUTHORIZED = 200, 401
_HTTP3 = re.compile(r'(?:^|,)\s*h3=":(\d{1,5})"([^,]*)')
_LIFETIME = re.compile(r";\s*ma=(\d{1,9})\b")
_DAY = 86_400

Fields = list[tuple[bytes, bytes]]


def request_fields(server: ServerForm, name: str, credentials: Credentials) -> Fields:
    """The fields of each request to a server, without the length of its content."""
    host = f"[{name}]" if ":" in name else name
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", (host if server.port == 443 else f"{host}:{server.port}").encode()),
        (b":path", server.path.encode()),
        (b"accept", MESSAGE),
        (b"content-type", MESSAGE),
    ]
    if credentials.token:
        fields.append((b"authorization", f"Bearer {credentials.token}".encode()))
    return fields


@dataclass(slots=True, eq=False)
class Response:
    """What has come of one response."""

    fields: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def begin(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Take its head."""
        self.fields = dict(fields)

    def add(self, data: bytes) -> None:
        """Take a piece of its content; raises ChannelError where that gets too long."""
        self.body += data
        if len(self.body) > LONGEST:
            raise ChannelError(f"answers more than {LONGEST} bytes")

    def message(self) -> bytes:
        """The answer in the whole response; raises ChannelError where it has none."""
        text = self.fields.get(b":status", b"")
        status = int(text) if len(text) == 3 and text.isdigit() else 0  # of thousands of digits int makes nothing
        if status == _UNAUTHORIZED:
            raise ChannelError("refuses this client's token (HTTP 401): enrol anew")
        if status != _OK:
            raise ChannelError(f"answers HTTP {status}")
        if self.fields.get(b"content-type", b"").partition(b";")[0].strip().lower() != MESSAGE:
            raise ChannelError("answers what is no DNS message")
        return bytes(self.body)


class Http3Offer(NamedTuple):
    """The port of a server's host that speaks HTTP/3, and for how many seconds that is good."""

    port: int
    seconds: float


def http3_offer(alt_svc: str) -> Http3Offer | None:
    """The first offer of HTTP/3 at the same host in an Alt-Svc field (RFC 7838 section 3)."""
    offer = _HTTP3.search(alt_svc)
    if offer is None or not 0 < int(offer[1]) < 1 << 16:
        return None
    lifetime = _LIFETIME.search(offer[2])
    return Http3Offer(int(offer[1]), float(lifetime[1]) if lifetime else _DAY)
