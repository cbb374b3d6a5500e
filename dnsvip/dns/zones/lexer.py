"""The text of a zone file as entries (RFC 1035 section 5.1): one record or directive each, on one line of ASCII.

It knows remarks, quotes, escapes and parentheses, and splits as BIND does, and it knows nothing about records. An entry
that cannot be split is a fault with its line; reading goes on with the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BYTE_ORDER_MARK = "\ufeff"

_PLAIN = re.compile(r'[^"();\\]*')
_TOKEN = re.compile(r'[ \t\r]+|;.*|[()]|"(?:\\.|[^"\\])*"|(?:\\[^\r]|[^ \t\r();"\\])+')
_WORD = re.compile(r' *((?:\\.|[^ "\\])+)')
_QUOTED = re.compile(r' *"((?:\\.|[^"\\])*)"')
_BEYOND_ASCII = re.compile(r"(\\[\x00-\x7f])|\\?([^\x00-\x7f])")
_BLANKS = str.maketrans("\t\r", "  ")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: the lines it begins and ends on, whether its owner is left out (it begins with a blank), its text with
    remarks, parentheses and line ends as spaces; or `fault`, why it cannot be split, with its first line as `text`."""

    line: int
    end: int
    blank: bool
    text: str
    fault: str = ""


def entries(text: str) -> Iterator[Entry]:
    """All entries of a zone file, empty ones left out."""
    parts: list[str] = []
    first, depth, blank = 0, 0, False
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not depth:
            first, blank, parts = number, line[:1] in (" ", "\t"), []
        if not depth and _PLAIN.fullmatch(line):
            parts = [line.translate(_BLANKS)]
        else:
            depth, fault = _split(line, depth, parts)
            if fault:
                yield Entry(first, number, blank, lines[first - 1], fault)
                depth = 0
                continue
        if depth:
            parts.append(" ")
            continue
        entry = "".join(parts)
        if entry.strip(" "):
            yield Entry(first, number, blank, octets(entry))
    if depth:
        yield Entry(first, len(lines), blank, lines[first - 1], "unbalanced parentheses")


def word(text: str, at: int) -> tuple[str, int]:
    """The next unquoted word of an entry from offset `at` on, and the offset behind it; "" where there is none."""
    match = _WORD.match(text, at)
    return (match[1], match.end()) if match else ("", at)


def quoted_word(text: str, at: int) -> tuple[str, int]:
    """As `word`, where the word may be a quoted string; it is given without its quotes."""
    match = _QUOTED.match(text, at)
    return (match[1], match.end()) if match else word(text, at)


def octets(text: str) -> str:
    """The text with each octet beyond ASCII as an escape: a name or string keeps the octets that its file has."""
    return text if text.isascii() else _BEYOND_ASCII.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[1] or "".join(f"\\{octet:03d}" for octet in match[2].encode(errors="surrogatepass"))


def _split(line: str, depth: int, parts: list[str]) -> tuple[int, str]:
    """Add a line's tokens to `parts`; the parentheses open after it, and what is wrong with it."""
    at = 0
    while at < len(line):
        token = _TOKEN.match(line, at)
        if token is None:
            return depth, "unbalanced quotes" if line[at] == '"' else "an escape at the end of the line"
        at = token.end()
        value = token[0]
        if value == "(":
            depth += 1
        elif value == ")":
            depth -= 1
            if depth < 0:
                return 0, "unbalanced parentheses"
        parts.append(" " if value[0] in " \t\r;()" else value)
    return depth, ""
