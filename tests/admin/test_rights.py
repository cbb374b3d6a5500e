"""Rights reach as far as a token's scope: what a client may be given, and who may make, change and delete tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import Engine, event

from dnsvip.site import Client, Match, Step
from dnsvip.site.rights import Action, Rights, Scope
from dnsvip.store.objects import checking
from tests.admin.conftest import Api
from tests.admin.test_refusals import check
from tests.admin.test_tokens import made

EDITOR = {"actions": ["read", "write"], "kinds": ["client"], "clients": ["news*"]}
KEY = {"algorithm": "hmac-sha256", "secret": "c2VjcmV0IHNlY3JldCBzZWNyZXQ="}


async def test_a_tsig_match_needs_a_right_on_the_key(api: Api) -> None:
    """Who may write a client does not thereby get a TSIG key: neither as its match nor by its enrolment."""
    await api.ok("PUT", "tsig/spare-key", KEY)
    headers = await made(api, scopes=[EDITOR])
    body = {"match": [{"tsig": "spare-key"}]}
    check(await api("PATCH", "clients/newsreader", body, headers=headers), "forbidden")
    line = b'{"name": "newsreader", "id": 1002, "tier": "standard", "match": [{"tsig": "spare-key"}]}\n'
    check(await api("POST", "clients/import", data=line, headers=headers), "invalid")
    check(
        await api("POST", "clients/newsreader/enrolment", {"servers": ["192.0.2.1:53"]}, headers=headers), "forbidden"
    )
    key = {"actions": ["write"], "kinds": ["tsig"], "tsig": ["spare-*"]}
    may = await made(api, "keys", scopes=[EDITOR, key])
    assert (await api("PATCH", "clients/newsreader", body, headers=may)).status == 200
    api.snapshots.append(await api.store.snapshots.load())
    enrol = {"actions": ["write"], "kinds": ["enrolment"], "clients": ["news*"]}
    may = await made(api, "enroller", scopes=[enrol])
    assert (await api("POST", "clients/newsreader/enrolment", {"servers": ["192.0.2.1:53"]}, headers=may)).status == 200
    check(await api("POST", "clients/acme/enrolment", {"servers": ["192.0.2.1:53"]}, headers=may), "forbidden")


async def test_a_transfer_key_identifies_no_client(api: Api) -> None:
    """A key that zones are transferred with is no client's, whichever of the two comes first."""
    await api.ok("PUT", "tsig/transfer-key", KEY)
    await api.ok("PATCH", "zones/example.test", {"transfer": {"tsig": "transfer-key"}})
    body = {"match": [{"tsig": "transfer-key"}]}
    errors = check(await api("PATCH", "clients/newsreader", body), "invalid")
    assert "zone transfers" in errors[0]["message"]
    line = b'{"name": "newsreader", "id": 1002, "tier": "standard", "match": [{"tsig": "transfer-key"}]}\n'
    check(await api("POST", "clients/import", data=line), "invalid")
    await api.ok("PATCH", "zones/example.test", {"transfer": None})
    await api.ok("PATCH", "clients/newsreader", body)
    check(await api("PATCH", "zones/example.test", {"transfer": {"tsig": "transfer-key"}}), "invalid")


async def test_a_transfer_key_from_before_stays(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that an older version gave a key of zone transfers can still be changed and revoked."""
    await api.ok("PUT", "tsig/transfer-key", KEY)
    await api.ok("PATCH", "clients/newsreader", {"match": [{"tsig": "transfer-key"}]})
    with monkeypatch.context() as older:
        older.setattr(checking, "_check_keys", AsyncMock(return_value=[]))
        await api.ok("PATCH", "zones/example.test", {"transfer": {"tsig": "transfer-key"}})
    assert (await api.ok("PATCH", "clients/newsreader", {"state": "revoked"}))["state"] == "revoked"
    await api.ok("PATCH", "zones/example.test", {"transfer": {"to": ["192.0.2.0/24"]}})


REACH: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"networks": ["192.0.2.0/24"]}, {"match": [{"source": "192.0.2.64/26"}]}, True),
    ({"networks": ["192.0.2.0/24"]}, {"match": [{"source": "127.0.0.0/8"}]}, False),
    ({"networks": ["192.0.2.0/24"]}, {"match": [{"geo": "country:DE"}]}, False),
    ({"networks": ["192.0.2.0/24"]}, {"match": [{"listener": "default"}]}, False),
    ({"networks": ["192.0.2.0/24"]}, {"match": [{"ecs": "2001:db8:9::/48"}]}, False),
    ({"tiers": ["standard"]}, {"tier": "gold"}, False),
    ({"tiers": ["standard", "go*"]}, {"tier": "gold"}, True),
    ({"tiers": ["gold"]}, {"match": [{"source": "192.0.2.0/26"}]}, False),  # into a tier that it may not give
    ({"tiers": ["gold"]}, {"attributes": {"lang": "fr"}}, True),
    ({"tiers": ["gold"]}, {"state": "disabled"}, True),
    ({}, {"match": [{"source": "2001:db8:77:1::/64"}]}, False),  # inside a network of acme
    ({}, {"match": [{"ecs": "198.51.100.128/25"}]}, False),
    ({}, {"match": [{"source": "198.51.100.128/25"}]}, False),
    ({}, {"match": [{"source": "2001:db8:78::/48"}]}, True),
]


@pytest.mark.parametrize(("narrow", "body", "allowed"), REACH, ids=[f"{n}-{b}" for n, b, _ in REACH])
async def test_what_a_client_may_be_given(
    api: Api, narrow: dict[str, Any], body: dict[str, Any], allowed: bool
) -> None:
    """A narrowed token gives its clients tiers and networks within its scope, and nothing inside another's network."""
    headers = await made(api, scopes=[EDITOR | narrow])
    answer = await api("PATCH", "clients/newsreader", body, headers=headers)
    assert (answer.status == 200) is allowed, answer.text
    if not allowed:
        check(answer, "forbidden")
        assert "acme" not in answer.text


async def test_many_networks_are_looked_up_together(api: Api) -> None:
    """Thousands of networks take no look-up each, and one of them inside another's client is found among them."""
    headers, statements = await made(api, scopes=[EDITOR]), list[str]()
    many = [{"source": f"2001:db8:{0x1000 + number:x}::/64"} for number in range(2000)]

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        inside = [*many, {"source": "2001:db8:77:1::/64"}, {"ecs": "2001:db8:78::/48"}]
        check(await api("PATCH", "clients/newsreader", {"match": inside}, headers=headers), "forbidden")
        assert (await api("PATCH", "clients/newsreader", {"match": many}, headers=headers)).status == 200
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(statements) < 600


async def test_errors_do_not_name_what_one_may_not_see(api: Api) -> None:
    """A collision with another client, or a reference to nothing, names no object outside the scope."""
    headers = await made(api, scopes=[EDITOR])
    acme = await api.ok("GET", "clients/acme")
    for body in ({"id": acme["id"]}, {"match": [acme["match"][0]]}, {"tier": "none"}):
        answer = await api("PATCH", "clients/newsreader", body, headers=headers)
        assert answer.status in (403, 409, 422), answer.text
        assert not any(word in answer.text for word in ("acme", "gold", "standard")), answer.text
    line = f'{{"name": "news2", "id": {acme["id"]}, "tier": "gold"}}\n'.encode()
    answer = await api("POST", "clients/import", data=line, headers=headers)
    assert answer.status == 422
    assert "acme" not in answer.text
    tiers = await made(api, "tiers", scopes=[{"actions": ["delete", "read"], "kinds": ["tier"]}])
    answer = await api("DELETE", "tiers/gold", headers=tiers)
    check(answer, "in-use")
    assert "acme" not in answer.text


async def test_cursors_and_counts_hold_visible_rows_only(api: Api) -> None:
    """Pages, cursors, totals and filters of a narrowed list tell nothing about other clients."""
    headers = await made(api, scopes=[EDITOR])
    for query in (
        "limit=1&sort=tier",
        "limit=1&sort=-changed&count=true",
        "count=true",
        "count=true&match=198.51.100.7",
    ):
        answer = await api("GET", f"clients?{query}", headers=headers)
        assert answer.json["next"] is None
        assert answer.json.get("total", 1) == len(answer.json["items"]) <= 1
        assert "acme" not in answer.text


async def test_audit_alone_shows_every_change_that_it_is_not_narrowed_from(api: Api) -> None:
    """A scope of the audit shows changes of every kind without a right to read them, within its own patterns."""
    await api.ok("PATCH", "clients/acme", {"tier": "standard"})
    await api.ok("PATCH", "clients/newsreader", {"tier": "gold"})
    await api.ok("PATCH", "tiers/gold", {"dscp": 10})
    scope = {"actions": ["read"], "kinds": ["audit"]}
    whole = await made(api, "whole", scopes=[scope])
    part = await made(api, "part", scopes=[scope | {"clients": ["news*"]}])
    everything = (await api.ok("GET", "audit?limit=1000"))["items"]
    assert {"client", "tier", "token"} <= {row["kind"] for row in everything}
    assert (await api.ok("GET", "audit?limit=1000", headers=whole))["items"] == everything
    seen = (await api.ok("GET", "audit?limit=1000", headers=part))["items"]
    assert seen == [row for row in everything if row["kind"] != "client" or row["name"].startswith("news")]
    auditor = await made(api, "auditor", role="auditor")
    assert (await api.ok("GET", "audit?kind=client&name=acme", headers=auditor))["items"]


async def test_a_child_lies_within_its_maker(api: Api) -> None:
    """A token limited in networks, time and rate makes no token that is less limited, and does not widen itself."""
    limits: dict[str, Any] = {"networks": ["127.0.0.0/8", "::1"], "expires_in": 1000, "per_minute": 500}
    headers = await made(api, role="admin", **limits)
    own = await api.ok("GET", "tokens/robot")
    child = await api.ok("POST", "tokens", {"name": "child"}, headers=headers)
    assert {key: child[key] for key in ("networks", "expires_at", "per_minute")} == {
        key: own[key] for key in ("networks", "expires_at", "per_minute")
    }
    less = {"networks": ["127.0.0.1/32"], "expires_in": 10, "per_minute": 5}
    assert (await api("POST", "tokens", {"name": "less"} | less, headers=headers)).status == 201
    for beyond in ({"networks": ["0.0.0.0/0"]}, {"expires_in": 5000}, {"per_minute": 501}):
        check(await api("POST", "tokens", {"name": "more"} | beyond, headers=headers), "forbidden")
        check(await api("PATCH", "tokens/robot", beyond, headers=headers), "forbidden")
    for open_ in ({"networks": None}, {"per_minute": None}, {"expires_in": None}):
        assert (await api("PATCH", "tokens/robot", open_, headers=headers)).status == 200
    now = await api.ok("GET", "tokens/robot")
    assert (now["networks"], now["per_minute"]) == (own["networks"], 500)
    assert now["expires_at"] <= own["expires_at"]
    renewed = await api.ok("POST", "tokens/robot/rotate", headers=headers)
    assert renewed["expires_at"] <= own["expires_at"]


async def test_deleting_a_token_needs_its_rights(api: Api) -> None:
    """Who may delete tokens deletes none that may do more than he."""
    headers = await made(api, scopes=[{"actions": ["read", "write", "delete"], "kinds": ["token", "tier"]}])
    check(await api("DELETE", "tokens/test", headers=headers), "forbidden")
    assert (await api("GET", "tokens/test")).status == 200
    await api.ok("POST", "tokens", {"name": "less"}, headers=headers)
    assert (await api("DELETE", "tokens/less", headers=headers)).status == 204


async def test_a_refusal_does_not_tell_what_another_token_may(api: Api) -> None:
    """Who may delete or renew tokens and not look at them does not read their scopes out of the refusal."""
    scope = {"actions": ["read"], "kinds": ["client"], "clients": ["secret-partner-*"]}
    await made(api, "other", scopes=[scope])
    headers = await made(api, scopes=[{"actions": ["write", "delete"], "kinds": ["token"]}])
    for method, path in (("DELETE", "tokens/other"), ("POST", "tokens/other/rotate"), ("PATCH", "tokens/other")):
        answer = await api(method, path, {} if method == "PATCH" else None, headers=headers)
        check(answer, "forbidden")
        assert "secret-partner" not in answer.text
    looking = await made(api, "looking", scopes=[{"actions": ["read", "delete"], "kinds": ["token"]}])
    assert "secret-partner" in (await api("DELETE", "tokens/other", headers=looking)).text


async def test_enabling_gives_a_tier_again(api: Api) -> None:
    """Who may not give a tier does not enable a client of it either."""
    await api.ok("PATCH", "clients/newsreader", {"state": "disabled"})
    headers = await made(api, scopes=[EDITOR | {"tiers": ["gold"]}])
    check(await api("PATCH", "clients/newsreader", {"state": "enabled"}, headers=headers), "forbidden")
    headers = await made(api, "may", scopes=[EDITOR | {"tiers": ["standard"]}])
    assert (await api("PATCH", "clients/newsreader", {"state": "enabled"}, headers=headers)).status == 200


async def test_a_place_takes_nothing_from_a_larger_one(api: Api) -> None:
    """A token gives its client no place while clients that it may not write are known by one."""
    headers = await made(api, scopes=[EDITOR])
    body = {"match": [{"geo": "country:DE"}]}
    assert (await api("PATCH", "clients/newsreader", body, headers=headers)).status == 200
    await api.ok("PATCH", "clients/newsreader", {"match": []})
    await api.ok("PATCH", "clients/acme", {"match": [{"geo": "continent:EU"}]})
    answer = await api("PATCH", "clients/newsreader", body, headers=headers)
    check(answer, "forbidden")
    assert "acme" not in answer.text
    wide = await made(api, "wide", scopes=[{"actions": ["write"], "kinds": ["client"]}])
    assert (await api("PATCH", "clients/newsreader", body, headers=wide)).status == 200


async def test_an_enrolment_holds_what_its_scope_reaches(api: Api) -> None:
    """Clusters, zones and services outside the patterns of the scope that enrols are not in the enrolment."""
    zone = (await api.ok("GET", "zones/example.test"))["text"].replace("example.test", "other.test")
    await api.ok("PUT", "zones/other.test", {"text": zone})
    await api.ok("PUT", "services/www.other.test", {"cluster": "web"})
    api.snapshots.append(await api.store.snapshots.load())
    scope = {"actions": ["write"], "kinds": ["enrolment"]}
    for name, more, seen in (("all", {}, True), ("some", {"zones": ["example.test"]}, False)):
        headers = await made(api, name, scopes=[scope | more])
        servers = {"servers": ["192.0.2.1:53"]}
        answer = await api("POST", "clients/acme/enrolment", servers, headers=headers)
        assert answer.status == 200, answer.text
        assert ("other.test" in answer.text) is seen
        assert "www.example.test" in answer.text


def test_new_narrowings_cover() -> None:
    """Scopes of tiers, keys and networks cover what lies within them; a stored scope without them is not narrowed."""
    old = Scope((Action.READ, Action.WRITE), ("client",))
    narrow = replace(old, networks=("192.0.2.0/24",), tiers=("gold",))
    assert old.covers(narrow)
    assert not narrow.covers(old)
    assert narrow.covers(replace(narrow, networks=("192.0.2.128/25",)))
    assert str(narrow) == "read,write:client tiers=gold networks=192.0.2.0/24"
    client = Client("a", 1, "gold", (Match(Step.SOURCE, "198.51.100.0/24"),))
    assert Rights((old,)).allow_client(None, client)
    assert not Rights((narrow,)).allow_client(None, client)
    assert Rights((narrow,)).allow_client(client, client)


ATTRIBUTES = [  # a scope's patterns, the client's attributes before and after, whether it may
    (["lang=*"], {}, {"lang": "fr"}, True),
    (["lang=fr"], {}, {"lang": "fr"}, True),
    (["lang=fr"], {}, {"lang": "en"}, False),
    (["lang=fr"], {"lang": "fr"}, {}, True),
    (["lang=en"], {"lang": "fr"}, {"lang": "en"}, False),  # what it loses counts too
    (["plan=*"], {"lang": "fr"}, {"lang": "fr"}, True),  # it keeps what others gave it
    (["plan=*"], {"lang": "fr"}, {}, False),
    (["*"], {}, {"lang": "fr"}, True),
]


@pytest.mark.parametrize(("patterns", "before", "after", "may"), ATTRIBUTES)
async def test_attributes_are_narrowed(
    api: Api, patterns: list[str], before: dict[str, str], after: dict[str, str], may: bool
) -> None:
    """A narrowed token gives and takes the attributes in its reach and no other, by PATCH, PUT, NDJSON and CSV."""
    body = {"id": 9000, "tier": "gold", "attributes": before}
    await api.ok("PUT", "clients/narrow", body)
    headers = await made(api, scopes=[{"actions": ["write"], "kinds": ["client"], "attributes": patterns}])
    wanted = body | {"attributes": after}
    cell = json.dumps(after).replace('"', '""')
    lines = {
        "ndjson": json.dumps({"name": "narrow", **wanted}).encode(),
        "csv": f'name,id,tier,attributes\nnarrow,9000,gold,"{cell}"\n'.encode(),
    }
    refusals = []
    for form, line in lines.items():
        answer = await api("POST", f"clients/import?dry_run=true&format={form}", data=line, headers=headers)
        refusals.append("lacks a scope write:client that reaches" in answer.text)
    patch = {"attributes": {**dict.fromkeys(before), **after}}
    for method, sent in (("PATCH", patch), ("PUT", wanted)):
        answer = await api(method, "clients/narrow", sent, headers=headers)
        refusals.append(answer.status == 403)
        assert answer.status == (200 if may else 403), answer.text
        await api.ok("PUT", "clients/narrow", body)
    assert refusals == [not may] * 4


async def test_attributes_with_more_traffic(api: Api) -> None:
    """A client's attributes out of reach go to no new match of it, nor back into force with it."""
    await api.ok("PUT", "clients/narrow", {"id": 9000, "tier": "gold", "attributes": {"lang": "fr"}})
    headers = await made(api, scopes=[{"actions": ["write"], "kinds": ["client"], "attributes": ["lang=en"]}])
    for body in ({"match": [{"source": "2001:db8:9::/48"}]}, {"attributes": {"lang": None}}):
        assert (await api("PATCH", "clients/narrow", body, headers=headers)).status == 403
    assert (await api("PATCH", "clients/narrow", {"state": "disabled"}, headers=headers)).status == 200
    assert (await api("PATCH", "clients/narrow", {"state": "enabled"}, headers=headers)).status == 403


async def test_attributes_of_services_are_narrowed(api: Api) -> None:
    """What is asked for at a service's name is sealed into its addresses: it follows the scope, too."""
    headers = await made(api, scopes=[{"actions": ["write"], "kinds": ["service"], "attributes": ["lang=en"]}])
    answer = await api("PATCH", "services/www.example.test", {"attributes": {"lang": "fr"}}, headers=headers)
    assert answer.status == 403
    assert "reaches its attributes" in answer.json["detail"]
    await api.ok("PATCH", "services/www.example.test", {"attributes": {"lang": "en"}}, headers=headers)


async def test_attributes_are_not_lost_by_deleting(api: Api) -> None:
    """Who may not take an attribute does not take it by deleting what has it, to make it anew without."""
    await api.ok("PUT", "clients/narrow", {"id": 9000, "tier": "gold", "attributes": {"lang": "fr"}})
    await api.ok("PATCH", "services/www.example.test", {"attributes": {"lang": "fr"}})
    places = "clients/narrow", "services/www.example.test"
    scope = {"actions": ["write", "delete"], "kinds": ["client", "service"]}
    for n, (patterns, status) in enumerate(((["lang=en"], 403), (["plan=*", "lang=f*"], 204))):
        headers = await made(api, f"narrow-{n}", scopes=[scope | {"attributes": patterns}])
        answers = [await api("DELETE", place, headers=headers) for place in places]
        assert [answer.status for answer in answers] == [status] * 2
    both = [scope | {"actions": ["write"]}, scope | {"actions": ["delete"], "attributes": ["lang=en"]}]
    await api.ok("PUT", "clients/narrow", {"id": 9000, "tier": "gold", "attributes": {"lang": "fr"}})
    headers = await made(api, "apart", scopes=both)
    check(await api("DELETE", "clients/narrow", headers=headers), "forbidden")


async def test_attributes_are_passed_on_narrowed(api: Api) -> None:
    """Who may give some attributes makes no token that gives others, and applies no site; a pattern is NAME=VALUE."""
    scope = {"actions": ["read", "write"], "kinds": ["*"], "attributes": ["lang=*"]}
    headers = await made(api, scopes=[scope])
    assert (await api("POST", "tokens", {"name": "same", "scopes": [scope]}, headers=headers)).status == 201
    for patterns in (["*"], ["plan=free"], ["lang=*", "plan=free"]):
        wider = {"name": "wider", "scopes": [scope | {"attributes": patterns}]}
        assert (await api("POST", "tokens", wider, headers=headers)).status == 403
    assert (await api("POST", "apply?dry_run=true", {}, headers=headers)).status == 403
    for pattern in ("lang", "=fr", "lang=", "lang=f r", "lang=[a]"):
        wrong = await api("POST", "tokens", {"name": "wrong", "scopes": [scope | {"attributes": [pattern]}]})
        assert wrong.status == 422, pattern
        assert wrong.json["errors"][0]["where"].endswith("scopes.0.attributes.0")


async def test_a_catalog_needs_a_right_on_all_zones(api: Api) -> None:
    """Who may write and delete one zone neither makes it a catalog nor ends one, whose members would go with it."""
    catalog = {"primaries": ["192.0.2.1:53"], "catalog": "consume"}
    some = {"actions": ["read", "write", "delete"], "kinds": ["zone"], "zones": ["catalog.test"]}
    headers = await made(api, scopes=[some])
    check(await api("PUT", "zones/catalog.test", catalog, headers=headers), "forbidden")
    await api.ok("PUT", "zones/catalog.test", catalog)
    check(await api("PATCH", "zones/catalog.test", {"catalog": None}, headers=headers), "forbidden")
    check(await api("PUT", "zones/catalog.test", {**catalog, "catalog": None}, headers=headers), "forbidden")
    check(await api("DELETE", "zones/catalog.test", headers=headers), "forbidden")
    await api.ok("PATCH", "zones/catalog.test", {"primaries": ["192.0.2.2:53"]})
    await api.ok("DELETE", "zones/catalog.test")


async def test_a_member_of_a_catalog_needs_the_right_to_delete_it(api: Api) -> None:
    """A zone goes with the catalog that it is a member of: who may only write it makes it a member of none."""
    headers = await made(api, role="zone-editor")
    check(await api("PATCH", "zones/example.test", {"member_of": "catalog.test"}, headers=headers), "forbidden")
    await api.ok("PATCH", "zones/example.test", {"member_of": "catalog.test"})
    assert (await api("PATCH", "zones/example.test", {"notify_ns": False}, headers=headers)).status == 200
    assert (await api("PATCH", "zones/example.test", {"member_of": None}, headers=headers)).status == 200


async def test_a_zone_refers_to_keys_that_its_token_reaches(api: Api) -> None:
    """A token for some zones has these transferred with TSIG keys that it names, or may read; not with any."""
    for key in ("mine", "theirs"):
        await api.ok("PUT", f"tsig/{key}", KEY)
    zone = {"actions": ["read", "write"], "kinds": ["zone"], "zones": ["example.test"]}
    wanted = [{"transfer": {"tsig": "theirs"}}, {"update": [{"tsig": "theirs"}]}]
    headers = await made(api, scopes=[zone])
    for body in (*wanted, {"transfer": {"tsig": "mine"}}):
        check(await api("PATCH", "zones/example.test", body, headers=headers), "forbidden")
    headers = await made(api, "named", scopes=[{**zone, "tsig": ["mine"]}])
    await api.ok("PATCH", "zones/example.test", {"transfer": {"tsig": "mine"}}, headers=headers)
    for body in wanted:
        check(await api("PATCH", "zones/example.test", body, headers=headers), "forbidden")
    reading = {"actions": ["read"], "kinds": ["tsig"], "tsig": ["theirs"]}
    headers = await made(api, "reading", scopes=[zone, reading])
    for body in wanted:
        await api.ok("PATCH", "zones/example.test", body, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        {"notify": ["127.0.0.1:53"]},
        {"notify": ["192.0.2.1:53", "[::1]:8053"]},
        {"notify": ["[::ffff:127.0.0.1]:53"]},
        {"primaries": ["169.254.169.254:80"]},
        {"primaries": ["tls://[fe80::1]:853#a.test"]},
        {"dnssec": {"parental_agents": ["[fd00:ec2::254]:80"]}},
    ],
)
async def test_where_nodes_send_to(api: Api, body: dict[str, Any]) -> None:
    """A token for some zones has nodes send neither to themselves nor to services of their links; one for all may, and
    what is there already stays."""
    zone = {"actions": ["read", "write"], "kinds": ["zone"], "zones": ["new.test"]}
    headers = await made(api, scopes=[zone])
    text = {} if "primaries" in body else {"text": "@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1\n"}
    check(await api("PUT", "zones/new.test", {**text, **body}, headers=headers), "forbidden")
    await api.ok("PUT", "zones/new.test", {**text, **body})
    await api.ok("PATCH", "zones/new.test", {"notify_ns": False}, headers=headers)
