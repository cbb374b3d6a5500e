"""Rights against a model: what any token sees equals what a naive filter over all objects leaves.

Random scopes on a site of some hundred objects; with DNSVIP_LONG=1, five hundred on one of two thousand. Each operation
of the API has its model: that of test_scopes_operations.py says for every one of them who may.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest

from dnsvip.site.plain import parse
from dnsvip.site.plan import Change
from dnsvip.site.registry import NAMED
from dnsvip.site.rights import KINDS, Action, Scope
from dnsvip.store import Token
from tests.admin.conftest import Api
from tests.fields import ZONE
from tests.long import LONG

SCOPES, OBJECTS, SECONDS = (500, 2000, 14_400) if LONG else (15, 140, 240)
FIELDS = {
    "cluster": "clusters",
    "key": "clusters",
    "zone": "zones",
    "decoder": "clusters",
    "acme": "zones",
    "service": "zones",
    "session": "zones",
    "client": "clients",
    "enrolment": "clients",
    "tier": "tiers",
    "tsig": "tsig",
    "dns_token": "tsig",
}
ATTRIBUTES = ("*", "lang=*", "lang=fr", "lang=e*", "plan=free")
WORDS = ("a", "ab", "b", "Ab", "a_b", "a.b", "web", "gold", "x")
LOOSE = ("*", "a*", "*b", "a*b", "A*", "a_*", "web", "*.a.test", "a.test", "*test", "client-1*", "gold", "nobody")


ZONES: set[str] = set()
"""All zones that there are; those of a test's site are in no other."""


@dataclass
class Everything:
    """All that there is: objects by kind as they are shown, audit rows and keys."""

    objects: dict[str, list[dict[str, Any]]]
    audit: list[dict[str, Any]]
    keys: list[dict[str, Any]]


async def fill(api: Api) -> None:
    """Objects of every narrowed kind, with names that patterns confuse, in a few changes."""
    things: list[tuple[str, str, dict[str, Any]]] = []
    for number, word in enumerate(WORDS):
        things += [
            ("tier", f"t{word}", {"code": 3 + number, "action": "drop"}),
            ("zone", f"{word.lower()}.test", {"text": ZONE}),
            ("tsig", f"{word.lower()}-{number}-key", {"secret": "c2VjcmV0LXNlY3JldC1zZWNyZXQ="}),
        ]
    seen: set[str] = set()
    things = [thing for thing in things if not (thing[1] in seen or seen.add(thing[1]))]  # type: ignore[func-returns-value]
    things += [("service", f"{host}.{zone}", {"cluster": "web"}) for host in "pq" for zone in ("a.test", "b.test")]
    for number in range(OBJECTS // 20):
        word = WORDS[number % len(WORDS)].lower()
        zone = f"z{number}.{word}.test"
        things += [("zone", zone, {"text": ZONE}), ("service", f"{word}.{zone}", {"cluster": "web"})]
        things.append(("tsig", f"{word}.k{number}-key", {"secret": "c2VjcmV0LXNlY3JldC1zZWNyZXQ="}))
    for number in range(OBJECTS - len(things)):
        word = WORDS[number % len(WORDS)]
        body = {"id": 5000 + number, "tier": ("gold", "standard")[number % 2]}
        things.append(
            ("client", f"{word}-{number}", {**body, "match": [{"source": f"2001:db8:{number + 0x1000:x}::/48"}]})
        )
    changes = [Change(kind, name, "+", None, parse(kind, name, body)) for kind, name, body in things]
    for first in range(0, len(changes), 100):
        some = changes[first : first + 100]
        await api.store.objects.apply(some, f"token {some[0].kind}", "api")
    api.snapshots.append(await api.store.snapshots.load())
    ZONES.update(api.snapshots[-1].site.zones)
    await api.store.usage.add("d1", {5000 + number: (1, 100 + number, 1, 0) for number in range(0, OBJECTS, 3)}, 1.0)


async def everything(api: Api) -> Everything:
    """All of it, by a token that may see all."""
    objects = {kind: (await walked(api, kind_.plural, 1000, {}))[0] for kind, kind_ in NAMED.items()}
    audit, _ = await walked(api, "audit", 1000, {})
    return Everything(objects, audit, (await api.ok("GET", "keys"))["items"])


async def walked(
    api: Api, path: str, limit: int, headers: dict[str, str], query: str = ""
) -> tuple[list[Any], list[int]]:
    """Every item of a list, page by page, and the sizes of its pages; the totals that it names must agree."""
    items: list[Any] = []
    sizes: list[int] = []
    following: str | None = f"{path}?limit={limit}{query}"
    while following is not None:
        answer = await api.ok("GET", following.removeprefix("/api/v1/"), headers=headers)
        items += answer["items"]
        sizes.append(len(answer["items"]))
        following = answer["next"]
    return items, sizes


def sees(scopes: Iterable[dict[str, Any]], kind: str, name: str | None, right: str | None = None) -> bool:
    """The naive filter: whether one of the scopes reads the object; `right` is the kind that it must allow instead."""
    return any(_one_sees(scope, kind, name, right or kind) for scope in scopes)


def _one_sees(scope: dict[str, Any], kind: str, name: str | None, right: str) -> bool:
    return one_allows(scope, "read", kind, name, right)


def one_allows(scope: dict[str, Any], action: str, kind: str, name: str | None, right: str | None = None) -> bool:
    """Whether a scope allows an action on an object, or with None on any of the kind."""
    if action not in scope["actions"] or not {"*", right or kind} & set(scope["kinds"]):
        return False
    if kind == "site":  # a whole site holds objects of every kind
        return not any("*" not in scope.get(field, ["*"]) for field in {*FIELDS.values(), "attributes"})
    patterns = scope.get(FIELDS.get(kind, ""), ["*"])
    if name is None:
        return True
    if kind in ("service", "session"):
        around = [zone for zone in ZONES if f".{name}".endswith(f".{zone}")]
        if around:  # it belongs to the closest zone, whoever has the one above
            return any(fnmatchcase(max(around, key=len), p) for p in patterns)
        return any(fnmatchcase(name, p) or fnmatchcase(name, f"*.{p}") for p in patterns)
    if kind == "key":
        return any(fnmatchcase(name, p) or fnmatchcase(name, f"{p}/*") for p in patterns)
    return any(fnmatchcase(name, p) for p in patterns)


def random_scopes(dice: random.Random) -> list[dict[str, Any]]:
    """One to three scopes, most of which read something."""
    scopes = []
    for _ in range(dice.randint(1, 3)):
        scope: dict[str, Any] = {
            "actions": dice.sample([action.value for action in Action], dice.randint(1, 3)),
            "kinds": ["*"] if dice.random() < 0.3 else dice.sample(KINDS, dice.randint(1, 8)),
        }
        if dice.random() < 0.8 and "read" not in scope["actions"]:
            scope["actions"].append("read")
        for field in sorted(set(FIELDS.values())):
            if dice.random() < 0.5:
                scope[field] = dice.sample(LOOSE, dice.randint(1, 3))
        own = random.Random(repr(scope))
        if own.random() < 0.4:
            scope["attributes"] = own.sample(ATTRIBUTES, own.randint(1, 2))
        scopes.append(scope)
    return scopes


async def token_with(api: Api, name: str, scopes: list[dict[str, Any]]) -> dict[str, str]:
    """The headers of a token with these scopes."""
    held = tuple(Scope(**{key: tuple(value) for key, value in scope.items()}) for scope in scopes)
    clear = await api.store.tokens.create(name, "test", Token(name, 0.0, "", scopes=held))
    return {"Authorization": f"Bearer {clear}"}


async def check_lists(api: Api, all_: Everything, scopes: Any, headers: dict[str, str], dice: random.Random) -> None:
    """Rows, their order, the cursors and the totals of every kind's list in every order."""
    for kind, declared in NAMED.items():
        if not sees(scopes, kind, None):
            assert (await api("GET", declared.plural, headers=headers)).status == 403
            continue
        sort = dice.choice(("", "-")) + dice.choice(declared.sorts)
        ordered, _ = await walked(api, declared.plural, 1000, {}, f"&sort={sort}")
        wanted = [item for item in ordered if sees(scopes, kind, item["name"])]
        limit = min(1000, max(1, len(wanted) // dice.randint(1, 6)))
        items, sizes = await walked(api, declared.plural, limit, headers, f"&sort={sort}")
        assert items == wanted, (kind, sort, scopes)
        assert all(size == limit for size in sizes[:-1]), (kind, sort, scopes)
        assert not sizes[:-1] or sizes[-1] > 0, (kind, "an empty last page tells of hidden rows", scopes)
        counted = await api.ok("GET", f"{declared.plural}?limit=1&count=true", headers=headers)
        assert counted["total"] == len(wanted), (kind, scopes)


async def check_gets(api: Api, all_: Everything, scopes: Any, headers: dict[str, str], dice: random.Random) -> None:
    """One object: shown, or refused alike whether it exists or not."""
    for kind, declared in NAMED.items():
        names = [item["name"] for item in all_.objects[kind]]
        for name in [*dice.sample(names, min(4, len(names))), "a-nobody", "nobody"]:
            known = name in names
            status = (200 if known else 404) if sees(scopes, kind, name) else 403
            answer = await api("GET", f"{declared.plural}/{name}", headers=headers)
            assert answer.status == status, (kind, name, scopes)
            if kind == "client":
                answer = await api("GET", f"clients/{name}/usage", headers=headers)
                assert answer.status == status, (name, scopes)
                answer = await api("GET", f"clients/{name}/history", headers=headers)
                assert answer.status == (200 if sees(scopes, kind, name) else 403)
                if answer.status == 200:
                    rows = [row for row in all_.audit if (row["kind"], row["name"]) == ("client", name)]
                    assert answer.json["items"] == rows


async def check_looks(api: Api, all_: Everything, scopes: Any, headers: dict[str, str], dice: random.Random) -> None:
    """Audit, keys, export, clients' usage and the counts of the status."""
    if sees(scopes, "client", None):
        used, _ = await walked(api, "usage", 1000, {})
        wanted = [item for item in used if sees(scopes, "client", item["name"])]
        assert used
        assert (await walked(api, "usage", dice.randint(5, 50), headers))[0] == wanted, scopes
    else:
        assert (await api("GET", "usage", headers=headers)).status == 403
    if sees(scopes, "audit", None):
        wanted = [row for row in all_.audit if sees(scopes, row["kind"], row["name"], "audit")]
        items, sizes = await walked(api, "audit", min(1000, len(wanted) // 3 + dice.randint(2, 9)), headers, "&since=1")
        known = {row["id"] for row in all_.audit}
        assert [row for row in items if row["id"] in known] == wanted, scopes
        assert not sizes[:-1] or sizes[-1] > 0
    if sees(scopes, "key", None):
        listed = (await api.ok("GET", "keys", headers=headers))["items"]
        assert [item["cluster"] for item in listed] == [
            item["cluster"] for item in all_.keys if sees(scopes, "key", item["cluster"])
        ]
    if sees(scopes, "client", None):
        lines = (await api("GET", "clients/export", headers=headers)).text.splitlines()
        assert [json.loads(line)["name"] for line in lines] == [
            item["name"] for item in all_.objects["client"] if sees(scopes, "client", item["name"])
        ]
    if sees(scopes, "status", None):
        objects = (await api.ok("GET", "status", headers=headers))["objects"]
        assert objects == {
            declared.collection: sum(sees(scopes, kind, item["name"], "status") for item in all_.objects[kind])
            for kind, declared in NAMED.items()
        }, scopes


@pytest.mark.timeout(SECONDS)
async def test_every_answer_equals_a_naive_filter(api: Api) -> None:
    """Lists, objects, history, audit, keys, export and status of random tokens, against the filter over everything."""
    await fill(api)
    dice = random.Random(11)
    all_ = await everything(api)
    for number in range(SCOPES):
        scopes = random_scopes(dice)
        headers = await token_with(api, f"model-{number}", scopes)
        for check in (check_lists, check_gets, check_looks):
            await check(api, all_, scopes, headers, dice)
