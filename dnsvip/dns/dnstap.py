"""One query and its response as a message of dnstap (https://dnstap.info). Pure.

Where addresses are truncated, so is all else that could tell of a client: messages are then cut to their header,
question and an OPT record without options (no ECS, cookie, TSIG, nor any address made for the requester), and names
below those that are secret become `*`. Otherwise they are as on the wire.
"""

from __future__ import annotations

from collections.abc import Container
from ipaddress import ip_address

from dnstap_pb import DOH, DOQ, DOT, INET, INET6, TCP, UDP, Dnstap, Message

from dnsvip import __version__
from dnsvip.dns.protocol.message import Malformed, Query
from dnsvip.dns.protocol.names import Labels, flat_name
from dnsvip.dns.protocol.parser import parse
from dnsvip.dns.querylog import Anonymise, Sample, without_secrets

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"

_VERSION = f"dnsvip {__version__}".encode()
_PROTOCOLS = {"UDP": UDP, "TCP": TCP, "DOT": DOT, "DOH": DOH, "DOQ": DOQ}

_ROOT, _TYPE_OPT = b"\0", b"\0\x29"


def frame(sample: Sample, anonymise: Anonymise, secret: Container[Labels] = (), *, whole: bool = False) -> bytes:
    """The message of a sample, serialized; AUTH_RESPONSE where it was answered, else AUTH_QUERY. `whole`: addresses and
    messages are as they are, but for names below those in `secret` (lower case)."""
    reply, source = sample.reply, sample.source
    answered = reply.wire is not None and reply.more is None
    query = reply.query or parse(sample.wire)
    known = None if isinstance(query, Malformed) else query
    as_it_is = whole and (known is None or without_secrets(known.key, secret) == known.key)
    tap = Dnstap(type=Dnstap.MESSAGE, version=_VERSION, extra=sample.listener.encode())
    message = tap.message
    message.type = Message.AUTH_RESPONSE if answered else Message.AUTH_QUERY
    message.socket_family = INET if source.version == 4 else INET6
    message.socket_protocol = _PROTOCOLS[sample.transport.dnstap]
    message.query_address = source.packed if whole else _network(anonymise(source))
    message.query_time_sec, message.query_time_nsec = divmod(round(sample.now * 1e6), 1_000_000)
    message.query_time_nsec *= 1000
    wire = reply.wire if answered and reply.wire is not None else sample.wire
    if not as_it_is:
        wire = _cut(wire, known, (reply.rcode or 0) if answered else 0, secret) if known is not None else b""
    if answered:
        message.response_time_sec, message.response_time_nsec = message.query_time_sec, message.query_time_nsec
        message.response_message = wire
    else:
        message.query_message = wire
    made: bytes = tap.SerializeToString()
    return made


def _network(text: str) -> bytes:
    """A truncated address, the bits that are not kept zero."""
    return ip_address(text.partition("/")[0]).packed


def _cut(wire: bytes, query: Query, rcode: int, secret: Container[Labels]) -> bytes:
    """Header, question and OPT record of a message about what `query` asks."""
    question = b""
    if query.question:
        name = without_secrets(query.key, secret)
        question = flat_name(query.qname if name == query.key else name) + query.qtype.to_bytes(2, "big")
        question += query.qclass.to_bytes(2, "big")
    opt, edns = b"", query.edns
    if edns is not None:
        opt = _ROOT + _TYPE_OPT + edns.udp_size.to_bytes(2, "big") + bytes((rcode >> 4, 0, edns.do << 7, 0, 0, 0))
    counts = (bool(question), 0, 0, bool(opt))
    return wire[:4] + b"".join(int(count).to_bytes(2, "big") for count in counts) + question + opt
