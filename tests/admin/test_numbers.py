"""Every number of every kind, from the declarations: an extreme one is refused with 422 or kept, never a 500."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.admin.conftest import Api
from tests.fields import ZONE, Sample, samples

EXTREMES = ("1e400", "-1e400", "1" * 30, "-" + "1" * 30, str(1 << 63), str(-(1 << 63) - 1), "1e308", "-1", "1e-320")


def numbers(body: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every number in plain data."""
    if isinstance(body, dict):
        for key, value in body.items():
            yield from numbers(value, (*path, key))
    elif isinstance(body, list):
        for at, value in enumerate(body):
            yield from numbers(value, (*path, at))
    elif isinstance(body, int | float) and not isinstance(body, bool):
        yield path


def with_number(body: Any, path: tuple[str | int, ...]) -> str:
    """The body as JSON with a mark in place of the number."""
    changed = copy.deepcopy(body)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "@@"
    return json.dumps(changed)


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: f"{sample.kind.name}-{sample.name}")
async def test_extreme_numbers(api: Api, sample: Sample) -> None:
    """An extreme number is refused as invalid, or can be read back and listed; the object stays readable as JSON."""
    if sample.kind.name == "service":
        await api.ok("PUT", "zones/example.org", {"text": ZONE})
    path = sample.kind.plural + (f"/{sample.name}" if sample.kind.named else "")
    headers = {"Content-Type": "application/json"}
    body = sample.body
    if sample.kind.name == "client":
        body = body | {"attributes": {"age": 7}}
    for place in numbers(body):
        text = with_number(body, place)
        for extreme in EXTREMES:
            answer = await api("PUT", path, data=text.replace('"@@"', extreme).encode(), headers=headers)
            assert answer.status in (200, 201, 422), (place, extreme, answer.text)
            if answer.status == 422:
                assert answer.json["errors"], (place, extreme)
                continue
            listed = await api("GET", sample.kind.plural)
            assert listed.status == 200, (place, extreme, listed.text)
            json.loads(listed.text, parse_constant=_no_constant)


def _no_constant(word: str) -> float:
    raise AssertionError(f"{word} in an answer")


def test_extremes_are_extreme() -> None:
    """The list holds what neither a database nor JSON can hold."""
    assert math.isinf(float(EXTREMES[0]))
