"""SipHash and HKDF as the address format uses them."""

from __future__ import annotations

import json
from pathlib import Path

from dnsvip.address.mac import derive, siphash, siphashes

VECTORS = json.loads((Path(__file__).parent.parent / "fixtures" / "siphash-2-4.json").read_text())["vectors"]


def test_authors_table() -> None:
    """SipHash gives all 64 results of its authors' table, as unsigned integers."""
    key, message = bytes(range(16)), bytes(range(64))
    assert [f"{siphash(key, message[:size]):016x}" for size in range(64)] == VECTORS
    assert [f"{number:016x}" for number in siphashes(key, [message[:size] for size in range(64)])] == VECTORS


def test_hkdf_is_rfc_5869() -> None:
    """The key is the first 16 bytes of the output of RFC 5869's test case 3 (no salt, empty info)."""
    assert derive(bytes([0x0B] * 22), b"").hex() == "8da4e775a563c18f715f802a063c5a31"
