"""The program's connection key table seen from user space: how it is sized and divided, and what is in it.

It is five maps that only make sense together (rows.h, flow.h): records of flows (`flows`), the index by which a key
finds its record (`rows`), a filter of the keys there are (`filters`), places that are free again (`spare`), and the
numbers of the table as a whole (`lanes`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping

from dnsvip.dispatcher.io.xdp.layout import FLOW, LANES, word
from dnsvip.xdp.maps import Map

TABLE = ("flows", "rows", "filters", "spare", "lanes")
LEAST_ROWS = 4096
"""Rows of the smallest index: of few rows one might be full by chance."""
FLOWS_A_ROW = 8
"""Of a full table, on average: a row has fifteen places, and the one beside it fifteen more."""
ROWS_A_LINE = 32
"""Rows of the index for each line of the filter, which thus has two bits for each flow. Few, so that it stays near the
processor under a flood."""
TURNS = 2
"""Numbers that words of the index have, for each flow: the more, the longer until they come round, and the fewer bits
of a word are of the key's hash."""
_KEY_BYTES = 48
_STATE = FLOW.offsets()["state"][0]


def sizes(flows: int) -> dict[str, int]:
    """How many entries the maps are to have that are sized before loading, for so many flows (`dispatch.flows`)."""
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
    """Say how a table is divided, and draw the key of its hash, where that was not done before."""
    lanes, flows = maps["lanes"], maps["flows"].max_entries
    if any(LANES.unpack(lanes.get(word(0)) or b"")["key"]):
        return
    new = _new(flows)
    lanes.put(
        word(0),
        LANES.pack(
            key=secrets.token_bytes(_KEY_BYTES),
            new_places=new,
            established_places=flows - new,
            row_mask=maps["rows"].max_entries - 1,
            number_mask=_power(flows * TURNS) - 1,
            cursor=1,
            phase=2,
        ),
    )


def states(flows: Map) -> bytes:
    """The state of each record (layout.FLOW_STATES)."""
    with flows.mapped() as table:
        return table[_STATE :: FLOW.size]


def records(flows: Map) -> Iterator[bytes]:
    """The records that hold flows (`struct flow`), read in place."""
    with flows.mapped() as table:
        for number, state in enumerate(table[_STATE :: FLOW.size]):
            if state:
                yield table[number * FLOW.size : (number + 1) * FLOW.size]


def _new(flows: int) -> int:
    """How many of the records are of new flows, as in the reference (dispatcher/flows/flow.py)."""
    return max(flows // 4, 1)


def _power(number: int) -> int:
    """The power of two that is not less."""
    return 1 << max(number - 1, 0).bit_length()
