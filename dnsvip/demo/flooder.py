"""Floods a cluster with forged addresses: datagrams to one address after the other, each with a random tag.

Run as `python -m dnsvip.demo.flooder ADDRESS BITS PER_SECOND SECONDS`: the last BITS bits of ADDRESS are random. Prints
`flooding` when it begins, and at the end a JSON array with `[moment, sent]` for each tenth of a second, by the
machine's monotonic clock.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from ipaddress import IPv6Address

SLICE_SECONDS = 0.1
BEATS = 10
"""Bursts in a slice, so that no queue on the way overflows by itself."""

PORT = 80


def run(address: IPv6Address, bits: int, per_second: int, seconds: float) -> list[tuple[float, int]]:
    """Flood; what was sent in each slice."""
    base = int(address) >> bits << bits
    slices: list[tuple[float, int]] = []
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as out:
        began = time.monotonic()
        while (at := time.monotonic()) < began + seconds:
            sent = 0
            for beat in range(BEATS):
                for _ in range(int(per_second * SLICE_SECONDS / BEATS)):
                    forged = IPv6Address(base | random.getrandbits(bits))
                    sent += out.sendto(b"forged", (str(forged), PORT)) > 0
                time.sleep(max(0.0, at + SLICE_SECONDS * (beat + 1) / BEATS - time.monotonic()))
            slices.append((at, sent))
    return slices


if __name__ == "__main__":
    print("flooding", flush=True)  # noqa: T201 - the output
    given = run(IPv6Address(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    print(json.dumps(given), flush=True)  # noqa: T201
