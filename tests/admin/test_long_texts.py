"""What callers send may be a megabyte; what is said about it is short, and bounded in all."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from dnsvip.errors import LONGEST_MESSAGE, LONGEST_WHERE, InvalidSite, Problem
from dnsvip.store.objects.bulk import MAX_PROBLEMS, PROBLEM_BYTES, Tally
from tests.admin.conftest import Api

LONG = "x" * 90_000
HEADERS = {"Content-Type": "application/x-ndjson"}


def test_a_problem_is_short_wherever_it_is_made() -> None:
    """Of a long message the beginning and the end stay; also in another process."""
    problem = Problem(f"client.{LONG}", f"starts {LONG} ends", hidden=LONG)
    assert (len(problem.where), len(problem.message)) == (LONGEST_WHERE, LONGEST_MESSAGE)
    assert problem.message.startswith("starts x")
    assert problem.message.endswith("x ends")
    assert len(pickle.dumps(InvalidSite([problem]))) < 4000
    assert Problem("client.a", "missing").message == "missing"


def test_a_tally_keeps_few_bytes() -> None:
    """However many lines are refused, the problems that are kept have a bound in number and in bytes."""
    tally = Tally()
    for line in range(5000):
        tally.fail(line, [Problem("\N{SNOWMAN}" * 300, "\N{SNOWMAN}" * 400)] * 3)
    texts = [problem.where + problem.message for problem in tally.problems]
    assert tally.failed == 5000
    assert 0 < sum(len(text.encode()) for text in texts) <= PROBLEM_BYTES
    few = Tally()
    for line in range(5000):
        few.fail(line, [Problem("a", "b")])
    assert len(few.problems) == MAX_PROBLEMS


BAD: list[dict[str, Any]] = [
    {"match": [{"source": LONG}]},
    {"match": [{LONG: "203.0.113.0/24"}]},
    {"tier": LONG},
    {LONG: 1},
    {"attributes": {LONG: []}},
    {"name": LONG},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:20])
@pytest.mark.parametrize("mode", ["per-line", "all-or-nothing"])
async def test_refusals_do_not_echo_all_that_was_sent(api: Api, bad: dict[str, Any], mode: str) -> None:
    """Refused lines with very long values have an answer of some kilobytes, with narrow rights too."""
    scope = {"actions": ["read", "write"], "kinds": ["client"], "clients": ["p-*"]}
    token = (await api.ok("POST", "tokens", {"name": "narrow", "scopes": [scope]}))["token"]
    some = "".join(json.dumps({"name": f"p-{n}", "id": 7000 + n, "tier": "gold"} | bad) + "\n" for n in range(2))
    headers = HEADERS | {"Authorization": f"Bearer {token}"}
    answer = await api("POST", f"clients/import?mode={mode}", data=some.encode(), headers=headers)
    assert answer.status == (200 if mode == "per-line" else 422)
    assert len(answer.text) < 10_000
    assert "x" * 100 in answer.text or "at most" in answer.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"match": [{"token": "t" * 1025}]}, "token: must have at most 1024 characters (it has 1025)"),
        ({"attributes": {"a": "v" * 1025}}, "a: name and value must have at most 1024 characters each"),
        ({"attributes": {"k" * 1025: 1}}, "must have at most 1024 characters each"),
        ({"attributes": {f"a{n}": n for n in range(257)}}, "must be at most 256 attributes"),
    ],
    ids=["match", "value", "name", "number"],
)
async def test_values_have_a_length(api: Api, body: dict[str, Any], message: str) -> None:
    """Free values of a client are bounded, so that no change of one fills the disk or an index; the line of an import
    is refused alone."""
    answer = await api("PATCH", "clients/acme", body)
    assert (answer.status, message in answer.text) == (422, True), answer.text
    some = [{"name": "good", "id": 7000, "tier": "gold"}, {"name": "bad", "id": 7001, "tier": "gold"} | body]
    text = "".join(json.dumps(one) + "\n" for one in some)
    report = (await api("POST", "clients/import?mode=per-line", data=text.encode(), headers=HEADERS)).json
    assert (report["made"], report["failed"]) == (1, 1)


async def test_a_single_refusal_is_short(api: Api) -> None:
    """The answer to one object with a long value is short, too."""
    for body in ({"tier": LONG}, {LONG: 1}, {"match": [{"source": LONG}]}):
        answer = await api("PATCH", "clients/acme", body)
        assert (answer.status, len(answer.text) < 5000) == (422, True), answer.text[:200]
    twice = await api("PATCH", "clients/acme", data=f'{{"{LONG}":1,"{LONG}":2}}'[:1_000_000].encode(), headers=JSON)
    assert len(twice.text) < 5000


JSON = {"Content-Type": "application/json"}


WITHOUT = {"Zone/text"}
"""Texts whose bound is a setting of the node, `zone_bytes`."""


async def test_every_text_has_a_bound(api: Api) -> None:
    """In the document each text of an object that is written has a greatest length, or a form that has one."""
    schemas = (await api.ok("GET", "openapi.json"))["components"]["schemas"]
    written = [kind["schemas"] for kind in (await api.ok("GET", "openapi.json"))["x-kinds"]]
    names = {name for some in written for name in some}
    unbounded = {place for name in names for place in unbounded_in(name, schemas[name])}
    assert unbounded - WITHOUT == set()


def unbounded_in(place: str, schema: Any) -> set[str]:
    """The places of texts without a bound in a schema."""
    if isinstance(schema, list):
        return set().union(*(unbounded_in(place, one) for one in schema))
    if not isinstance(schema, dict):
        return set()
    bounds = ("maxLength", "pattern", "enum", "const", "format")
    own = {place} if schema.get("type") == "string" and not any(bound in schema for bound in bounds) else set()
    inner = [unbounded_in(f"{place}/{key}", one) for key, one in schema.get("properties", {}).items()]
    inner += [unbounded_in(place, schema.get(key)) for key in ("items", "prefixItems", "anyOf", "additionalProperties")]
    return own.union(*inner)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("services/www.example.test", {"cluster": "web", "attributes": {"app": "x" * 1025}}, "attributes"),
        ("tsig/long", {"secret": "AAAA" * 300}, "secret"),
        ("clients/acme", {"id": 7, "tier": "gold", "match": [{"tls": "x" * 1025}]}, "match"),
    ],
)
async def test_a_text_that_is_too_long_is_named_with_its_limit(
    api: Api, path: str, body: dict[str, Any], field: str
) -> None:
    """It is refused by a problem that names the field and how many characters it may have."""
    answer = await api("PUT", path, body)
    assert answer.status == 422, answer.text
    (error,) = answer.json["errors"]
    assert field in error["where"]
    assert "1024" in error["message"]
