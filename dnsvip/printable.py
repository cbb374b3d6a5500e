"""Text of others as a terminal may show it: what it would not show as what it is, is written as an escape."""

from __future__ import annotations

import json
from collections.abc import Callable


class _Escapes(dict[int, str]):
    """What stands for a character: itself, or where nobody sees it as what it is, as it controls the terminal, turns
    the direction of what follows or takes no room, an escape."""

    def __init__(self, escape: Callable[[str], str]) -> None:
        super().__init__({ord(letter): letter for letter in "\t\n"})
        self._escape = escape

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        self[code] = shown = letter if letter.isprintable() else self._escape(letter)
        return shown


_IN_TEXT = _Escapes(lambda letter: "".join(f"\\{byte:03}" for byte in letter.encode(errors="surrogatepass")))
_IN_JSON = _Escapes(lambda letter: json.dumps(letter)[1:-1])


def printable(text: str) -> str:
    """A text of others as a terminal may show it: each byte of what is not printable as \\DDD (RFC 1035 section 5.1),
    but tabs and line ends."""
    return text.translate(_IN_TEXT)


def printable_json(text: str) -> str:
    """JSON text with what is not printable escaped."""
    return text.translate(_IN_JSON)
