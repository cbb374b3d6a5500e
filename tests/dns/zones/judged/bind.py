"""What BIND makes of a zone file: the records that `named-compilezone` writes in its raw format."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

Sets: TypeAlias = dict[tuple[bytes, int], tuple[int, frozenset[bytes]]]
"""(owner on the wire in lower case, type) -> (TTL, the data of its records)."""

_LENIENT = [
    "-k",
    "ignore",
    "-n",
    "ignore",
    "-i",
    "none",
    "-m",
    "ignore",
    "-M",
    "ignore",
    "-S",
    "ignore",
    "-r",
    "ignore",
    "-T",
    "ignore",
    "-W",
    "ignore",
]
_HEADER, _SET = 24, struct.Struct("!IHHHII")


def compiled(apex: str, file: Path) -> tuple[Sets | None, str]:
    """The record sets of a zone file and what BIND says about it; None where BIND refuses it."""
    command = ["named-compilezone", *_LENIENT, "-F", "raw", "-o", f"{file}.raw", apex, str(file)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        return None, said
    return dict(_sets(Path(f"{file}.raw").read_bytes())), said


def _sets(raw: bytes) -> Iterator[tuple[tuple[bytes, int], tuple[int, frozenset[bytes]]]]:
    at = _HEADER
    while at < len(raw):
        total, _, rtype, _, ttl, number = _SET.unpack_from(raw, at)
        end, at = at + total, at + _SET.size
        owner, at = _counted(raw, at)
        data = set()
        for _ in range(number):
            one, at = _counted(raw, at)
            data.add(one)
        assert at == end
        yield (owner.lower(), rtype), (ttl, frozenset(data))


def _counted(raw: bytes, at: int) -> tuple[bytes, int]:
    size = int.from_bytes(raw[at : at + 2], "big")
    return raw[at + 2 : at + 2 + size], at + 2 + size
