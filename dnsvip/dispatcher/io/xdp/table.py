"""The kernel program's connection key table seen from user space: its size, its division, its records.

The table is five maps that only make sense together (rows.h, flow.h): flow records (`flows`), the index from a key to
its record (`rows`), a filter of the keys there are (`filters`), free record numbers (`spare`), and the figures of the
table as a whole (`lanes`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32

TABLE = ("flows", "rows", "filters", "spare", "lanes")
LEAST_ROWS = 4096
"""Rows of the smallest index: with few rows one might fill up by chance."""
FLOWS_A_ROW = 8
"""Average of a full table: a row has fifteen places, and the row beside it fifteen more."""
ROWS_A_LINE = 32
"""Index rows for each line of the filter, which thus has two bits for each flow: few enough to stay in the processor's
cache under a flood."""
TURNS = 2
"""Sequence numbers in the words of the index for each flow: more take longer to wrap, and leave fewer bits of a word
for the hash of the key."""


def sizes(flows: int) -> dict[str, int]:
    """Entries of the maps that are sized before loading, for so many flows (`dispatch.flows`)."""
    new, rows = _new(flows), max(_power(flows // FLOWS_A_ROW), LEAST_ROWS)
    return {
        "flows": flows,
        "rows": rows,
        "filters": 2 * max(rows // ROWS_A_LINE, 1),
        "spare": max(flows - new, 1),
        "replies": flows,
        "uses": new,
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
        ),
    )


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
