"""How a message arrived: at which listener, over which transport, and what the connection has proved.

It is made once for each connection (of HTTP, for each credential) and kept, so no message pays for it again. Pure: the
transport has verified what it says here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Transport(StrEnum):
    """What carried a message. The words are labels of counters and of the query log."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    HTTPS = "https"
    QUIC = "quic"
    HTTP3 = "h3"

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the path can read it."""
        return self in _ENCRYPTED

    @property
    def single(self) -> bool:
        """Whether an answer is one message, so that nothing is transferred by it."""
        return self in _SINGLE

    @property
    def dnstap(self) -> str:
        """Its name in dnstap: UDP, TCP, DOT, DOH or DOQ."""
        return _DNSTAP[self]


_ENCRYPTED = frozenset((Transport.TLS, Transport.HTTPS, Transport.QUIC, Transport.HTTP3))

_SINGLE = frozenset((Transport.UDP, Transport.HTTPS, Transport.HTTP3))

_DNSTAP = {
    Transport.UDP: "UDP",
    Transport.TCP: "TCP",
    Transport.TLS: "DOT",
    Transport.HTTPS: "DOH",
    Transport.QUIC: "DOQ",
    Transport.HTTP3: "DOH",
}


class Arrival(NamedTuple):
    """The listener's name, the transport, and the verified identities of the peer.

    `certificate` are the names that a verified client certificate bears, in lower case: common name, DNS, email and URI
    names, and its fingerprint, `sha256:` and 64 hexadecimal digits. `token` is the name of a verified DNS token.
    """

    listener: str = "default"
    transport: Transport = Transport.TCP
    certificate: tuple[str, ...] = ()
    token: str | None = None
