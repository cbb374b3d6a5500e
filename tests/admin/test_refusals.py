"""Every way to fail: always problem+json, never half applied."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest

from dnsvip.admin.http.auth import SECONDS_EACH, Attempts
from dnsvip.admin.http.known_tokens import REREAD_SECONDS
from dnsvip.admin.http.problems import MEDIA_TYPE, PROBLEMS, TYPE_PREFIX
from dnsvip.errors import StoreError
from dnsvip.store import Token
from tests.admin.conftest import Answer, Api

JSON = {"Content-Type": "application/json"}


def check(answer: Answer, kind: str) -> list[dict[str, str]]:
    """The errors of a problem, whose form is checked."""
    status, title = PROBLEMS[kind]
    assert answer.headers["Content-Type"].partition(";")[0] == MEDIA_TYPE
    body = json.loads(answer.text)
    assert (answer.status, body["status"], body["type"]) == (status, status, TYPE_PREFIX + kind), answer.text
    assert body["title"] == title
    assert body["detail"]
    errors: list[dict[str, str]] = body.get("errors", [])
    return errors


BAD_BODIES: list[tuple[bytes, dict[str, str], str]] = [
    (b"{", JSON, "bad-request"),
    (b"", JSON, "bad-request"),
    (b"[1]", JSON, "bad-request"),
    (b'{"tier": "a", "tier": "b"}', JSON, "bad-request"),
    (b'{"tier": "\xff"}', JSON, "bad-request"),
    (b'{"tier": "\\ud800"}', JSON, "bad-request"),
    (b'{"tier": "\\u0000"}', JSON, "bad-request"),
    (b'{"id": NaN}', JSON, "bad-request"),
    (b'{"id": ' + b"9" * 5000 + b"}", JSON, "bad-request"),
    (b"[" * 100_000, JSON, "bad-request"),
    (b'{"tier": "gold"}', {"Content-Type": "text/plain"}, "unsupported-media-type"),
    (b'{"tier": "gold"}', {"Content-Type": "application/x-www-form-urlencoded"}, "unsupported-media-type"),
    (b'{"tier": "' + b"x" * (1 << 20) + b'"}', JSON, "too-large"),
]


@pytest.mark.parametrize(("body", "headers", "kind"), BAD_BODIES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_bodies(api: Api, method: str, body: bytes, headers: dict[str, str], kind: str) -> None:
    """A body that cannot be read is refused, and says why."""
    before = await api.store.snapshots.load()
    check(await api(method, "clients/acme", data=body, headers=headers), kind)
    assert await api.store.snapshots.refresh(before) is before


INVALID: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("PATCH", "clients/acme", {"tier": "platinum"}, ["client.acme.tier"]),
    ("PATCH", "clients/acme", {"colour": 1, "id": "x"}, ["client.acme.id", "client.acme.colour"]),
    ("PATCH", "clients/acme", {"match": [{"source": "nonsense"}]}, ["client.acme.match.0"]),
    ("PATCH", "clients/acme", {"match": {"source": "::/0"}}, ["client.acme.match"]),
    ("PATCH", "clients/acme", {"name": "other"}, ["client.acme.name"]),
    ("PATCH", "clients/acme", {"name": 5}, ["client.acme.name"]),
    ("PATCH", "clients/acme", {"id": 1 << 30}, ["client.acme.id"]),
    ("PATCH", "clients/acme", {"tier": None}, ["client.acme.tier"]),
    ("PUT", "clients/no name", {"id": 5, "tier": "gold"}, ["client.no name.name"]),
    ("PUT", "tiers/new", {}, ["tier.new.code"]),
    ("PUT", "tiers/new", {"code": 99, "action": "drop"}, ["tier.new.code"]),
    ("PATCH", "clusters/web", {"tag_bits": 25}, ["cluster.web"]),
    ("PATCH", "clusters/web", {"plain": "::1"}, ["cluster.web.plain"]),
    ("PATCH", "clusters/web", {"layout": [["tier", 2], ["client", 22], ["nonce", 13]]}, ["tier.blocked.code"]),
    ("PATCH", "pools/slow/servers/slow-2", {"weight": 5000}, ["pool.slow.servers.slow-2.weight"]),
    ("PATCH", "pools/slow/servers/slow-2", {"address": "fd00:10::21"}, ["pool.slow.servers"]),
    ("PATCH", "pools/slow/servers/slow-2", {"name": "x"}, ["pool.slow.servers.slow-2.name"]),
    ("PUT", "services/www.example.test", {"cluster": "legacy"}, ["service.www.example.test.cluster"]),
    ("PATCH", "classify", {"order": ["tsig", "tsig"]}, ["classify.order"]),
    ("PUT", "tsig/acme-key", {"algorithm": "hmac-sha256"}, ["tsig.acme-key.secret"]),
    ("POST", "tokens", {"name": 1, "x": 1}, ["token.x", "token.name"]),
    ("POST", "tokens", {"name": "no name"}, ["token.name"]),
]


@pytest.mark.parametrize(("method", "path", "body", "where"), INVALID, ids=lambda value: str(value)[:40])
async def test_invalid(api: Api, method: str, path: str, body: dict[str, Any], where: list[str]) -> None:
    """What breaks a rule is refused with every problem under its dotted path, and nothing of it is stored."""
    before = await api.store.snapshots.load()
    errors = check(await api(method, path, body), "invalid")
    assert {error["where"] for error in errors} >= set(where)
    assert await api.store.snapshots.refresh(before) is before


async def test_secrets_are_not_echoed(api: Api) -> None:
    """A refused TSIG secret does not stand in the answer."""
    answer = await api("PUT", "tsig/k", {"secret": ["topsecret"], "algorithm": "md5"})
    check(answer, "invalid")
    assert "topsecret" not in answer.text


@pytest.mark.parametrize(
    ("path", "users"),
    [
        ("tiers/standard", ["cluster.legacy.default_tier", "cluster.web.default_tier", "client.newsreader.tier"]),
        ("pools/fast", ["tier.gold.pool"]),
        ("clusters/web", ["service.www.example.test.cluster"]),
        ("tsig/acme-key", ["client.acme.match"]),
        ("zones/example.test", ["service.www.example.test"]),
    ],
)
async def test_in_use(api: Api, path: str, users: list[str]) -> None:
    """What others refer to is not deleted, and they are named."""
    errors = check(await api("DELETE", path), "in-use")
    assert {error["where"] for error in errors} >= set(users)
    assert (await api("GET", path)).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clients/new", {"id": 1001, "tier": "gold"}),
        ("clients/new", {"id": 5, "tier": "gold", "match": [{"tsig": "acme-key"}]}),
        ("tiers/new", {"code": 1, "pool": "fast"}),
    ],
)
async def test_conflicts(api: Api, path: str, body: dict[str, Any]) -> None:
    """What another object has already is refused with its name."""
    errors = check(await api("PUT", path, body), "conflict")
    assert "acme" in errors[0]["message"] or "gold" in errors[0]["message"]


@pytest.mark.parametrize("path", ["nix", "clients/x/y/z", "clients/", "../v2/clients", "tiers/gold/servers"])
async def test_unknown_paths(api: Api, path: str) -> None:
    """A path that is none is a problem too."""
    check(await api("GET", path), "not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [(m, p) for p in ("tiers", "pools", "zones", "clients") for m in ("GET", "PATCH", "DELETE")]
    + [("GET", "pools/slow/servers"), ("PATCH", "pools/slow/servers"), ("DELETE", "pools/slow/servers")],
)
async def test_unknown_objects(api: Api, method: str, path: str) -> None:
    """An object that is none is named in the answer."""
    answer = await api(method, f"{path}/nobody", {} if method == "PATCH" else None)
    check(answer, "not-found")
    assert "'nobody'" in answer.text


async def test_methods(api: Api) -> None:
    """A method that a path has not is refused with those that it has."""
    answer = await api("POST", "tiers/gold", {})
    check(answer, "method-not-allowed")
    assert answer.headers["Allow"] == "DELETE, GET, HEAD, PATCH, PUT"
    check(await api("DELETE", "status"), "method-not-allowed")


@pytest.mark.parametrize("path", ["client-ca/rotate", "zones/example.test/keys/roll", "zones/a.test/keys/confirm"])
async def test_methods_of_words(api: Api, path: str) -> None:
    """A word in the place of a number has the methods of its own path alone."""
    answer = await api("DELETE", path)
    check(answer, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=", "limit=\u0661"])
async def test_queries(api: Api, query: str) -> None:
    """A number out of bounds is refused with its bounds."""
    answer = await api("GET", f"tiers?{query}")
    check(answer, "bad-request")
    assert "1 to 1000" in answer.text


async def test_very_many_parameters(api: Api) -> None:
    """A query of thousands of parameters is refused before any is looked at."""
    answer = await api("GET", "clients?" + "&".join(f"a{number}" for number in range(1000)))
    assert answer.status == 400
    assert answer.json["detail"] == "The query has more than 256 parameters."


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_deep_bodies(api: Api, opening: str) -> None:
    """A body that is nested very deeply is refused as it is read, whatever it is for: nothing recurses into it."""
    body = (
        '{"name": "a.test.", "kind": "Native", "x": ' + opening * 900 + "1" + {"[": "]"}.get(opening, "}") * 900 + "}"
    )
    for path in ("zones/a.test", "servers/localhost/zones", "server-states", "explain", "clusters/web/preview"):
        method = "PUT" if path == "zones/a.test" else "POST"
        answer = await api(method, path, data=body, headers={"Content-Type": "application/json"})
        assert answer.status == 400, (path, answer.text)
        assert "nested too deeply" in answer.text


async def test_conditions(api: Api) -> None:
    """If-Match lets a change through only on the form that it was made for; If-None-Match: * only makes anew."""
    seen = (await api("GET", "tiers/gold")).headers["ETag"]
    assert (await api("GET", "tiers/gold", headers={"If-None-Match": seen})).status == 304
    assert (await api("PATCH", "tiers/gold", {"dscp": 1}, headers={"If-Match": seen})).status == 200
    check(await api("PATCH", "tiers/gold", {"dscp": 2}, headers={"If-Match": seen}), "precondition-failed")
    check(await api("DELETE", "tiers/gold", headers={"If-Match": seen}), "precondition-failed")
    check(await api("PUT", "tiers/no", {"code": 9}, headers={"If-Match": "*"}), "precondition-failed")
    check(await api("PUT", "tiers/gold", {"code": 1}, headers={"If-None-Match": "*"}), "precondition-failed")
    server = (await api("GET", "pools/slow/servers/slow-1")).headers["ETag"]
    await api.ok("PATCH", "pools/slow/servers/slow-2", {"weight": 1})
    assert (await api("PATCH", "pools/slow/servers/slow-1", {"weight": 2}, headers={"If-Match": server})).status == 200


@pytest.mark.parametrize("given", ["", "Basic eDp5", "Bearer", "Bearer wrong", "Bearer w\u00f6rong", "bearer dnsvip_x"])
async def test_without_a_good_token(api: Api, given: str) -> None:
    """Every path needs a token, also one that is none, and the answer says how to send it."""
    for path in ("tiers", "nix"):
        answer = await api("GET", path, headers={"Authorization": given})
        check(answer, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_too_many_wrong_tokens(api: Api) -> None:
    """A source that tries many tokens has to wait, but not with a token that is good, first seen there or not."""
    fresh = (await api.ok("POST", "tokens", {"name": "fresh"}))["token"]
    answers = [await api("GET", "tiers", headers={"Authorization": f"Bearer {n}"}) for n in range(15)]
    assert [answer.status for answer in answers].count(401) == 10
    check(answers[-1], "too-many-attempts")
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 6
    assert (await api("GET", "tiers", headers={"Authorization": f"Bearer {fresh}"})).status == 200
    assert (await api("GET", "tiers")).status == 200
    await api.store.tokens.delete("fresh", "test")
    assert (await api("GET", "tiers", headers={"Authorization": f"Bearer {fresh}"})).status == 401
    check(await api("GET", "tiers", headers={"Authorization": "Bearer 99"}), "too-many-attempts")
    later = await api.store.tokens.create("later", "test")
    await asyncio.sleep(REREAD_SECONDS)
    assert (await api("GET", "tiers", headers={"Authorization": f"Bearer {later}"})).status == 200


async def test_wrong_tokens_cost_the_database_little(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wrong tokens come from a source that has to wait, the database is asked twice a second at most."""
    reads, looked_up = 0, []
    generation, find = api.store.generation, api.store.tokens.find

    async def counted() -> int:
        nonlocal reads
        reads += 1
        return await generation()

    async def noted(clear: str) -> Token | None:
        looked_up.append(clear)
        return await find(clear)

    monkeypatch.setattr(api.store, "generation", counted)
    monkeypatch.setattr(type(api.store.tokens), "find", lambda _, clear: noted(clear))
    start = time.monotonic()
    for number in range(300):
        await api("GET", "tiers", headers={"Authorization": f"Bearer {number}"})
    seconds = time.monotonic() - start
    assert reads <= 1 + seconds / REREAD_SECONDS
    assert len(looked_up) <= 10 + seconds / SECONDS_EACH + 1


async def test_a_revoked_token_counts_against_itself(api: Api) -> None:
    """A program that polls on with a revoked token locks nobody else out, and waits a minute at most."""
    revoked = await api.store.tokens.create("gone", "test")
    fresh = await api.store.tokens.create("fresh", "test")
    await api.store.tokens.delete("gone", "test")
    answers = [await api("GET", "tiers", headers={"Authorization": f"Bearer {revoked}"}) for _ in range(60)]
    check(answers[-1], "too-many-attempts")
    assert int(answers[-1].headers["Retry-After"]) <= 60
    assert (await api("GET", "tiers", headers={"Authorization": f"Bearer {fresh}"})).status == 200


def test_waits_are_capped() -> None:
    """However many wrong tokens came from a source, it waits a minute at most."""
    attempts = Attempts()
    for number in range(600):
        attempts.fail("192.0.2.1", 0, f"wrong-{number}")
    assert 0 < attempts.wait("192.0.2.1", 0) <= 60
    assert attempts.wait("192.0.2.1", 61) == 0


def test_attempts_are_forgiven_and_bounded() -> None:
    """One attempt comes back every few seconds, an IPv6 /64 is one source, and the table does not grow."""
    attempts = Attempts(allowed=3, seconds_each=10, sources=100)
    for n in range(3):
        assert attempts.wait("2001:db8::1", 0) == 0
        attempts.fail(f"2001:db8::{n}", 0)
    assert attempts.wait("2001:db8::ffff", 0) == 10
    assert attempts.wait("2001:db8:0:1::1", 0) == 0
    assert attempts.wait("2001:db8::1", 9.9) > 0
    assert attempts.wait("2001:db8::1", 10) == 0
    attempts.fail("2001:db8::1", 10)
    assert attempts.wait("2001:db8::1", 10) == 10
    for n in range(1000):
        attempts.fail(f"192.0.2.{n}", 10)
    assert len(attempts._clear_at) == 100


async def test_database_down(api: Api) -> None:
    """Without its database the API says so, with and without effect, but not where it is."""
    api.down.append(StoreError("database postgresql://user@db.example.test/name: gone"))
    for method, body in (("GET", None), ("PATCH", {"tier": "gold"})):
        answer = await api(method, "clients/acme", body)
        check(answer, "unavailable")
        assert answer.headers["Retry-After"]
        assert "db.example.test" not in answer.text
        assert "log" in answer.json["detail"]


@pytest.mark.parametrize(
    "path", ["clients/a%00b", "clients?tier=a%00", "clients?%00=1", "zones/a%00b", "explain?name=%00"]
)
async def test_null_characters(api: Api, path: str) -> None:
    """U+0000, which databases take for an end or not at all, is refused before they are asked."""
    answer = await api("GET", path)
    check(answer, "bad-request")


async def test_unexpected_errors(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of ours is a problem without its inside, which the log has; the token is in neither."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(api.store.objects, "page_within", fail)
    answer = await api("GET", "tiers")
    check(answer, "internal")
    assert "inside" not in answer.text
    logged = "".join(capsys.readouterr())
    assert "the inside" in logged
    assert api.token not in logged


async def test_a_wrong_zone(api: Api) -> None:
    """A zone file that cannot be served is refused with its lines, in JSON and as it is, put and patched."""
    text = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\nx 60 IN A nonsense\n"
    raw = await api("PUT", "zones/new.test", data=text, headers={"Content-Type": "text/dns"})
    for answer in (
        raw,
        await api("PUT", "zones/new.test", {"text": text}),
        await api("PATCH", "zones/example.test", {"text": text}),
    ):
        (error,) = check(answer, "invalid")
        assert "3" in error["where"] + error["message"]
    octet = await api("PUT", "zones/n.test", data=b"\xff", headers={"Content-Type": "text/dns"})
    (error,) = check(octet, "invalid")  # an octet is a name's, as RFC 1035 section 5.1 has it, not a broken request
    assert re.search(r"line 1: .*255.* has no type; a record is .*TYPE DATA", error["message"])
    check(await api("PUT", "zones/n.test", data=b"\0", headers={"Content-Type": "text/dns"}), "bad-request")
    check(await api("PUT", "zones/n.test", {"text": 5}), "invalid")
    large = b"; as long as it takes\n" * (1 << 20)
    check(await api("PUT", "zones/n.test", data=large, headers={"Content-Type": "text/dns"}), "too-large")


async def test_an_object_has_bounded_values_problems_and_warnings(api: Api) -> None:
    """A body of very many values is refused unread; of the faults, and of the warnings, some are named and the others
    counted."""
    many = {f"k{number}": "x" for number in range(25_000)}
    check(await api("PATCH", "clients/acme", {"attributes": many}), "too-large")
    few = dict(list(many.items())[:1000])
    answer = await api("PATCH", "clients/acme", few)
    check(answer, "invalid")
    assert len(answer.json["errors"]) == 201
    assert answer.json["errors"][-1] == {"where": "client.acme", "message": "has 800 more faults"}
    stored = await api("PATCH", "clients/acme", {"attributes": dict(list(few.items())[:250])})
    assert stored.status == 200
    assert len(stored.headers.getall("Dnsvip-Warning")) == 51
