"""JSON of objects with very long texts, written a slice at a time: the interpreter lets others in between two of
them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SLICE = 1 << 16
"""Characters of a text that are written at once, in some hundred microseconds."""


def dumped(
    data: Mapping[str, Any],
    *,
    ensure_ascii: bool = False,
    sort_keys: bool = False,
    separators: tuple[str, str] = (", ", ": "),
) -> str:
    """As `json.dumps` of an object."""
    if not any(isinstance(value, str) and len(value) > SLICE for value in data.values()):
        return json.dumps(data, ensure_ascii=ensure_ascii, sort_keys=sort_keys, separators=separators)

    def written(value: Any) -> str:
        if isinstance(value, str) and len(value) > SLICE:
            slices = (value[at : at + SLICE] for at in range(0, len(value), SLICE))
            return f'"{"".join(json.dumps(each, ensure_ascii=ensure_ascii)[1:-1] for each in slices)}"'
        return json.dumps(value, ensure_ascii=ensure_ascii, sort_keys=sort_keys, separators=separators)

    keys = sorted(data) if sort_keys else data
    comma, colon = separators
    return f"{{{comma.join(written(key) + colon + written(data[key]) for key in keys)}}}"
