"""IPv6 in IPv6 (RFC 2473) and IPv4 in IPv6: the outer header under `forward = "encap"`.

    version 6, DSCP of the verdict or else of the inner packet, ECN of the inner packet (RFC 6040 section 4.1),
    flow label = the low 20 bits of the flow's hash (RFC 6438), payload length = the inner packet's,
    next header 41 or 4, hop limit 64, source = `encap_source` with the flow's hash as its low 64 bits,
    destination = the server

The inner packet is unchanged. All packets of a flow have the same outer source, so RSS on a server and ECMP spread
flows as they would without a tunnel.
"""

from __future__ import annotations

from dnsvip.dispatcher.packet import ip_length

OVERHEAD = 40
"""Size of the outer header in bytes."""
DISCARD = bytes.fromhex("0100000000000000")
"""The high 64 bits of 100::/64 (RFC 6666): errors sent to it are discarded."""
HOP_LIMIT = 64

NEXT_HEADER = {6: 41, 4: 4}
"""Of the outer header, by the IP version of the packet inside."""


def encapsulate(data: bytes, server: bytes, dscp: int | None, flow: int, source: bytes = DISCARD) -> bytes:
    """The packet in an outer header to `server` (16 bytes); `source` is the high half of the outer source address."""
    version = data[0] >> 4
    inner_class = (data[0] & 15) << 4 | data[1] >> 4 if version == 6 else data[1]
    traffic_class = inner_class if dscp is None else dscp << 2 | inner_class & 3
    head = (6 << 28 | traffic_class << 20 | flow & 0xFFFFF).to_bytes(4, "big")
    size = ip_length(data).to_bytes(2, "big")
    return b"".join(
        (head, size, bytes((NEXT_HEADER[version], HOP_LIMIT)), source, flow.to_bytes(8, "big"), server, data)
    )
