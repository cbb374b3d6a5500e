"""Text that a damaged SQLite file gives back: with bytes that are no UTF-8, or as a blob.

SQLite keeps what it is given: one flipped bit makes a text that is none. Such bytes are read as lone surrogates
(PEP 383), so that a damaged row costs itself and not the query. They never leave the store: whoever takes a text out of
a row looks at it with `readable`, or shows it with `shown`. PostgreSQL checks all text and stores no such thing.
"""

from __future__ import annotations

import re
from ast import literal_eval
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import LargeBinary, Text, cast, literal

decode = partial(str, encoding="utf-8", errors="surrogateescape")
"""A text of SQLite from its bytes."""

LATEST = 253_402_300_800
"""The unix second after the last one that dates can show."""


def is_text(value: object) -> bool:
    """Whether it is a text that can be encoded."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(value: Any) -> str:
    """A text of a row; raises ValueError where it is none."""
    if not is_text(value):
        raise ValueError("it has bytes that are no text")
    text: str = value
    return text


def shown(value: Any) -> str:
    """A text of a row as it may be shown: one that is no text with its wrong bytes as \\xNN, so that it is no name."""
    if is_text(value) or isinstance(value, (int, float)):
        return str(value)
    return value.encode(errors="surrogateescape").decode(errors="backslashreplace") if _is_str(value) else repr(value)


def place(value: Any) -> Any:
    """A value of a row, or what `shown` makes of one, to compare a column with."""
    if not _is_str(value) or (is_text(value) and "\\x" not in value):
        return value
    if _BLOB.fullmatch(value):
        with suppress(ValueError, SyntaxError):
            return literal(literal_eval(value), LargeBinary)
    octets = _OCTET.sub(lambda found: bytes([int(found[1], 16)]), value.encode(errors="surrogateescape"))
    return cast(literal(octets, LargeBinary), Text)


def whole(value: Any, below: int = 1 << 63) -> int:
    """A number of a row that is not negative; raises ValueError where it is none."""
    if not is_whole(value, below):
        raise ValueError("one of its numbers is none")
    number: int = value
    return number


def is_whole(value: Any, below: int = 1 << 63) -> bool:
    """Whether `whole` takes it."""
    return type(value) is int and 0 <= value < below


def moment(value: Any) -> float:
    """A time of a row in unix seconds; raises ValueError where it is none."""
    if type(value) not in (int, float) or not 0 <= value < LATEST:
        raise ValueError("one of its times is none")
    return float(value)


_BLOB = re.compile(r"b(['\"]).*\1")
_OCTET = re.compile(rb"\\x([89a-f][0-9a-f])")


def _is_str(value: object) -> bool:
    return isinstance(value, str)
