"""Objects in strict JSON (RFC 8259). Job processes read them too, so it loads neither store nor server."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from dnsvip.admin.http.problems import Refusal
from dnsvip.site.plain import JsonObject
from dnsvip.site.size import DEEPEST, is_deep

EXACT = 1 << 53
"""Up to here a float is exactly the number that was written."""

MOST_VALUES = 20_000
"""Values in a larger body: an object of so many is made in a process, in half a second."""


def parse_large(body: bytes) -> JsonObject:
    """The object in a large body: large texts, not very many values."""
    data = parse_object(body)
    if values(data) > MOST_VALUES:
        raise Refusal("too-large", f"The body has more than {MOST_VALUES} values.")
    return data


def values(data: Any) -> int:
    """How many values there are in one."""
    if isinstance(data, dict):
        return 1 + sum(map(values, data.values()))
    return 1 + (sum(map(values, data)) if isinstance(data, list) else 0)


def parse_object(body: bytes) -> JsonObject:
    """The object in strict JSON (RFC 8259): UTF-8, no key twice, no NaN, only text that can be stored."""
    try:
        text = body.decode()
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_number)
        # Only by escapes can there be a lone surrogate, which is legal in JSON and no text, or U+0000.
        stored = json.dumps(data, ensure_ascii=False) if "\\u" in text else ""
        stored.encode()
    except UnicodeError:
        raise Refusal("bad-request", "The body is not JSON in UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise Refusal("bad-request", f"The body is not JSON: {error}.") from None
    if "\\u0000" in stored.replace("\\\\", ""):
        raise Refusal("bad-request", "The body has a character U+0000 in a string.")
    if is_deep(data):
        raise Refusal("bad-request", f"The body is nested too deeply: {DEEPEST} levels are the most.")
    if not isinstance(data, dict):
        raise Refusal("bad-request", 'The body must be a JSON object, such as {"tier": "gold"}.')
    return data


def _once(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} stands more than once")
    return members


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _number(word: str) -> float | int:
    """A number written with a point or an exponent: 2.0 is a whole number in JSON Schema, too."""
    number = float(word)
    return int(number) if number.is_integer() and abs(number) <= EXACT else number
