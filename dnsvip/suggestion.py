"""What a misspelt word was probably meant to be. Pure, and cheap: callers give the word, and may give many."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice

LONGEST_WORD = 64
"""Characters of a word that may be meant for a known one."""

MOST_COMPARED = 64
"""Known words that are compared: a comparison takes some 10 microseconds."""


def near(word: str, known: Collection[str], most: int = 1) -> list[str]:
    """The known words that are most like `word`, best first; of many only those that begin or end as it does."""
    if not 0 < len(word) <= LONGEST_WORD:
        return []
    lower = word.lower()
    some = known if len(known) <= MOST_COMPARED else (name for name in known if _alike(name.lower(), lower))
    by_lower = {name.lower(): name for name in islice(some, MOST_COMPARED)}
    return [by_lower[name] for name in get_close_matches(lower, by_lower, most)]


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`; did you mean 'client'?`, or nothing where no known word is like it."""
    close = near(word, known)
    return f"; did you mean {close[0]!r}?" if close else ""


def _alike(one: str, other: str) -> bool:
    return abs(len(one) - len(other)) <= 2 and (one[:2] == other[:2] or one[-2:] == other[-2:])
