"""The kernel program's connection key table seen from user space: its size, its division, its records.

The table is maps that only make sense together (rows.h, flow.h): flow records (`flows`), the index from a key to its
record (`rows`), a filter of the keys there are (`filters`), free record numbers (`spare`), the decode cache (`decoded`)
and the buckets of clients and sources, which are found by the same secret, and the figures of the whole (`lanes`).
"""

from __future__ import annotations

import secrets
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping

from dnsvip.dispatcher.bucket_table import OWN_BUCKETS, WAYS, sets_for
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32, u64

TABLE = ("flows", "rows", "filters", "spare", "lanes", "places", "decoded", "client_buckets", "source_buckets")
LEAST_ROWS = 4096
"""Rows of the smallest index: with few rows one might fill up by chance."""
FLOWS_A_ROW = 8
"""Average of a full table: a row has fifteen places, and the row beside it fifteen more."""
ROWS_A_LINE = 32
"""Index rows for each line of the filter, which thus has two bits for each flow: few enough to stay in the processor's
cache under a flood."""
LEAST_DECODED = 32_768
"""Addresses in the smallest decode cache. A larger table has one for each flow: clients of as many flows may use as
many addresses, and decrypting one again takes several times a look-up."""
TURNS = 2
"""Sequence numbers in the words of the index for each flow: more take longer to wrap, and leave fewer bits of a word
for the hash of the key."""


def sizes(flows: int, buckets: int = OWN_BUCKETS) -> dict[str, int]:
    """Entries of the maps that are sized before loading, for so many flows (`dispatch.flows`) and buckets of one client
    or source each (`dispatch.buckets`)."""
    new, rows = _new(flows), max(_power(flows // FLOWS_A_ROW), LEAST_ROWS)
    return {
        "flows": flows,
        "rows": rows,
        "decoded": max(_power(flows), LEAST_DECODED),
        "filters": 2 * max(rows // ROWS_A_LINE, 1),
        "spare": max(flows - new, 1),
        "replies": flows,
        "uses": new,
        "client_buckets": sets_for(buckets),
        "source_buckets": sets_for(buckets),
        "use_shares": new,
    }


def divide(maps: Mapping[str, Map]) -> None:
    """Divide a new table between new and established flows, and draw the secret key of its hash."""
    lanes, flows, lanes_type = maps["lanes"], maps["flows"].max_entries, TYPES.struct("lanes")
    if any(lanes_type.unpack(lanes.get(u32(0)) or bytes(lanes_type.size))["key"]):
        return
    new = _new(flows)
    lanes.put(
        u32(0),
        lanes_type.pack(
            key=secrets.token_bytes(lanes_type.members["key"].size),
            new_places=new,
            established_places=flows - new,
            row_mask=maps["rows"].max_entries - 1,
            number_mask=_power(flows * TURNS) - 1,
            cursor=1,
            established=0,
            anonymous=0,
            used=0,
            phase=2,
            bucket_mask=maps["client_buckets"].max_entries - 1,
            decoded_mask=maps["decoded"].max_entries // 2 - 1,
        ),
    )


def count_uses(maps: Mapping[str, Map]) -> None:
    """Count the used single-use addresses of each client, before a program sees the map."""
    unpack = TYPES.struct("used").unpack
    counts = Counter(unpack(values[0])["client"] for _, values in maps["uses"].items())
    for client, number in counts.items():
        maps["use_shares"].put(u64(client), u64(number))


def states(flows: Map) -> bytes:
    """The state of each record (enum flow_state)."""
    offset, size = _state_column()
    with flows.mapped() as table:
        return table[offset::size]


def records(flows: Map) -> Iterator[bytes]:
    """The records that hold flows (`struct flow`), read in place."""
    offset, size = _state_column()
    with flows.mapped() as table:
        for number, state in enumerate(table[offset::size]):
            if state:
                yield table[number * size : (number + 1) * size]


def bucket_status(maps: Mapping[str, Map], shared: Mapping[str, int], now: int) -> dict[str, dict[str, int]]:
    """As `Buckets.status`, of the program's tables; `shared` are its auxiliary counters."""
    return {
        f"{kind}s": {
            "used": _used(maps[f"{kind}_buckets"], now),
            "bound": maps[f"{kind}_buckets"].max_entries * WAYS,
            "shared": shared[f"{kind}-shared"],
        }
        for kind in ("client", "source")
    }


def _used(buckets: Map, now: int) -> int:
    """How many buckets are not full at `now` (unix ns)."""
    kind = TYPES.struct("bucket_set")
    start, size = kind.members["full"].offset // 8, kind.size // 8
    with buckets.mapped() as table:
        words = array("Q", table[:])
    return sum(
        max(words[at], words[at + 1]) > now
        for first in range(start, len(words), size)
        for at in range(first, first + 2 * WAYS, 2)
    )


def _state_column() -> tuple[int, int]:
    """Where the state of the first record is, and how far it is to the next, in bytes."""
    flow = TYPES.struct("flow")
    return flow.members["state"].offset, flow.size


def _new(flows: int) -> int:
    """How many of the records are for new flows, as in the reference (dispatcher/flows/flow.py)."""
    return max(flows // 4, 1)


def _power(number: int) -> int:
    """The smallest power of two that is not less than a number."""
    return 1 << max(number - 1, 0).bit_length()
