"""`$GENERATE`: a line that stands for many records, as BIND reads it (its manual, section 8.2, "Zone File").

The number of records is known from the range alone, so that it can be refused before one is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

WIDEST = 127
"""Digits that a counter may be padded to; BIND's buffer has no room for more."""

_RANGE = re.compile(r"(\d{1,10})-(\d{1,10})(?:/(\d{1,10}))?")
_FIELD = re.compile(r"\\.|\$\$|\$(?:\{([+-]?\d{1,10})(?:,(\d{1,3})(?:,([doxXnN]))?)?\}|(?=(\{)))?")


def may_generate(text: str) -> bool:
    """Whether a zone's text may make far more records than it has lines."""
    return "$GENERATE" in text.upper()


def parse_range(text: str) -> range:
    """The numbers of a range such as "1-100" or "0-254/2", both ends included; raises ValueError."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a range; write START-STOP or START-STOP/STEP")
    start, stop, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if start > stop or step < 1 or max(stop, step) >= 1 << 31:
        raise ValueError(f"{text!r} is not a range: it ends before it begins, has no step, or is beyond 2147483647")
    return range(start, stop + 1, step)


def substituted(template: str, counter: int) -> str:
    """The template with each `$`, or `${OFFSET,WIDTH,BASE}`, replaced by the counter; raises ValueError."""

    def replaced(match: re.Match[str]) -> str:
        if match[0][0] == "\\":
            return match[0]
        if match[0] == "$$":
            return "$"
        if match[4]:
            raise ValueError("a modifier is ${OFFSET,WIDTH,BASE} with base d, o, x, X, n or N")
        width = int(match[2] or 0)
        if width > WIDEST:
            raise ValueError(f"a width of {width} is too large; {WIDEST} is the most")
        return _BASES[match[3] or "d"](counter + int(match[1] or 0), width)

    return _FIELD.sub(replaced, template)


def _number(base: str) -> Callable[[int, int], str]:
    return lambda value, width: format(value, base).zfill(width)


def _nibbles(base: str) -> Callable[[int, int], str]:
    """Hexadecimal digits, the last first, with dots between; `width` counts the dots."""

    def dotted(value: int, width: int) -> str:
        if value < 0:
            raise ValueError("a negative number has no nibbles")
        digits = format(value, base)[::-1]
        return ".".join(digits.ljust((width + 1) // 2, "0")) + ("." if width and width % 2 == 0 else "")

    return dotted


_BASES: Mapping[str, Callable[[int, int], str]] = {
    **{base: _number(base) for base in "doxX"},
    "n": _nibbles("x"),
    "N": _nibbles("X"),
}
