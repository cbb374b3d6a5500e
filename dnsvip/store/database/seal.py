"""The seal of a token's row: a digest of all that decides what the token may do, by which damage is told from intent.

No end, no networks and no scopes mean "never", "anywhere" and, in tokens of the first version, "everything": what has
been lost must not read so. Rows that programs of schemas before 0011 write have no seal ("") and are believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEALED = ("name", "hash", "created_at", "created_by", "scopes", "networks", "expires_at")
"""The columns under the seal; migration 0011 has the same."""


def seal_of(row: Mapping[str, Any]) -> str:
    """The seal of a row as it is stored."""
    values = json.dumps([_plain(row[name]) for name in SEALED])
    return hashlib.sha256(values.encode()).hexdigest()


def is_as_sealed(row: Any) -> bool:
    """Whether a row, with its columns as attributes, is as it was written, as far as that is known."""
    return bool(row.seal == "" or row.seal == seal_of({name: getattr(row, name) for name in SEALED}))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return float(value) if isinstance(value, int) else value
