"""Expensive operations end with their caller, and one token's take turns while others' go on."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import cast

import pytest
from aiohttp import ClientError

from dnsvip.admin.http.work import JOBS
from dnsvip.admin.objects import zones
from dnsvip.dns.zones.examine import examined
from dnsvip.jobs.jobs import Jobs
from dnsvip.site import Service, Zone
from dnsvip.site.clients import MOST_MATCHES
from dnsvip.site.plain import parse
from dnsvip.site.plan import Change
from tests.admin.conftest import Api

HEAD = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
HOSTILE = HEAD + "$GENERATE 1-65000 h$ A 192.0.2.1\n" + "".join(f"a{n} A 192.0.2.1\n" for n in range(300_000))
"""Takes some ten seconds to check."""

TEXT = {"Content-Type": "text/dns"}


@pytest.fixture
def jobs(api: Api) -> Jobs:
    """The jobs of the API."""
    app = api.client.app
    assert app is not None
    return app[JOBS]


async def until(true: object) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 20
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "never came true"
        await asyncio.sleep(0.02)


async def abandoned(api: Api, jobs: Jobs, method: str, path: str, **options: object) -> None:
    """Ask for something, and go away once a process is at work; it ends at once."""
    task = asyncio.ensure_future(api(method, path, **options))
    await until(lambda: jobs.running)
    task.cancel()
    with suppress(asyncio.CancelledError, ClientError):
        await task
    gone = time.monotonic()
    await until(lambda: not jobs.running)
    assert time.monotonic() - gone < 2


async def test_a_check_ends_with_its_caller(api: Api, jobs: Jobs) -> None:
    """A zone's check ends where its caller goes away; a small zone is stored meanwhile, and the next check goes on."""
    await abandoned(api, jobs, "PUT", "zones/hostile.test", data=HOSTILE.encode(), headers=TEXT)
    slow = asyncio.ensure_future(api("PUT", "zones/hostile.test", data=HOSTILE.encode(), headers=TEXT))
    await until(lambda: jobs.running)
    assert (await api("PUT", "zones/small.test", data=HEAD.encode(), headers=TEXT)).status == 201
    revoked = time.monotonic()
    assert (await api("PATCH", "clients/acme", {"state": "revoked"})).status == 200
    assert time.monotonic() - revoked < 1
    assert not slow.done()
    slow.cancel()
    with suppress(asyncio.CancelledError):
        await slow


async def test_an_edit_ends_with_its_caller(api: Api, jobs: Jobs) -> None:
    """An edit by PowerDNS's API whose caller goes away changes nothing, and the zone is free for the next one."""
    await api.ok("PUT", "zones/example.test", {"text": HEAD + "".join(f"a{n} A 192.0.2.1\n" for n in range(4000))})
    generation = await api.store.generation()
    path = "servers/localhost/zones/example.test."
    record = {"type": "A", "ttl": 60, "changetype": "REPLACE", "records": [{"content": "192.0.2.2"}]}
    sets = [{"name": f"b{n}.example.test.", **record} for n in range(2000)]
    await abandoned(api, jobs, "PATCH", path, json={"rrsets": sets})
    assert await api.store.generation() == generation
    assert (await api("PATCH", path, {"rrsets": sets[:1]})).status == 204


async def test_an_import_ends_with_its_caller(api: Api, jobs: Jobs) -> None:
    """An import whose caller goes away stores nothing, and its turn is free again."""
    generation = await api.store.generation()
    lines = b"".join(line(number) for number in range(100_000))
    await abandoned(api, jobs, "POST", "clients/import", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert await api.store.generation() == generation
    some = b"".join(line(number) for number in range(2000))
    answer = await api("POST", "clients/import", data=some, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["made"] == 2000


def line(number: int, sources: Sequence[str] = ()) -> bytes:
    """A client as a line of an import."""
    match = [{"source": source} for source in sources]
    return json.dumps({"name": f"n{number}", "id": 5000 + number, "tier": "gold", "match": match}).encode() + b"\n"


async def test_the_wait_for_ones_own_turn_ends(api: Api, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind an operation of the same token that does not end, one gets 429 with Retry-After; another's does not."""
    turn = jobs.turn
    monkeypatch.setattr(jobs, "turn", lambda owner, _patience: turn(owner, 0.3))
    other = await api.store.tokens.create("other", "test")

    async def slow() -> AsyncIterator[bytes]:
        yield line(1)
        await asyncio.sleep(60)

    stuck = asyncio.ensure_future(api("POST", "clients/import", data=slow()))
    await until(lambda: jobs._owners)
    refused = await api("POST", "clients/import", data=line(2))
    assert (refused.status, refused.json["type"]) == (429, "urn:problem-type:dnsvip:rate-limited")
    assert int(refused.headers["Retry-After"]) > 0
    assert "has waited for its turn" in refused.json["detail"]
    answer = await api("POST", "clients/import", data=line(3), headers={"Authorization": f"Bearer {other}"})
    assert answer.json["made"] == 1
    stuck.cancel()
    with suppress(asyncio.CancelledError, ClientError):
        await stuck
    await until(lambda: not jobs._owners)


async def test_a_body_that_never_comes_holds_only_its_token(api: Api) -> None:
    """A token whose import does not come on waits for itself; another token's import is stored."""
    other = await api.store.tokens.create("other", "test")

    async def slow() -> AsyncIterator[bytes]:
        yield line(1)
        await asyncio.sleep(60)

    stuck = asyncio.ensure_future(api("POST", "clients/import", data=slow()))
    await asyncio.sleep(0.2)
    own = asyncio.ensure_future(api("POST", "clients/import", data=line(2)))
    await asyncio.sleep(0.2)
    assert not own.done()
    answer = await api("POST", "clients/import", data=line(3), headers={"Authorization": f"Bearer {other}"})
    assert answer.json["made"] == 1
    stuck.cancel()
    with suppress(asyncio.CancelledError):
        await stuck
    assert (await own).json["made"] == 1


async def test_small_zones_of_a_token_take_turns(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many small zones a token sends at once, one thread checks them; another token's has its own."""
    other, busy, most = await api.store.tokens.create("other", "test"), Counter[str](), Counter[str]()

    def slow(zone: Zone, inside: Mapping[str, Service]) -> object:
        owner = zone.name.partition("-")[0]
        busy[owner] += 1
        busy["all"] += 1
        most.update({each: max(0, busy[each] - most[each]) for each in (owner, "all")})
        time.sleep(0.05)
        busy[owner] -= 1
        busy["all"] -= 1
        return examined(zone, inside)

    monkeypatch.setattr(zones, "examined", slow)
    headers = TEXT | {"Authorization": f"Bearer {other}"}
    sent = [api("PUT", f"zones/mine-{at}.test", data=HEAD.encode(), headers=TEXT) for at in range(30)]
    sent += [api("PUT", f"zones/other-{at}.test", data=HEAD.encode(), headers=headers) for at in range(3)]
    assert {answer.status for answer in await asyncio.gather(*sent)} == {201}
    assert most == {"mine": 1, "other": 1, "all": 2}


async def test_objects_of_many_values_are_made_apart(api: Api) -> None:
    """A client of thousands of bad matches is parsed in a process: no step of the node takes long for it."""
    await api.ok("PUT", "zones/warm.test", {"text": HEAD + "a A 192.0.2.1\n" * 1000})  # the process has started
    match = [{"source": "x"}] * 9000
    asked = asyncio.ensure_future(api("PUT", "clients/large", {"id": 9000, "tier": "gold", "match": match}))
    longest = await _longest_turn(asked)
    assert (await asked).status == 422
    assert longest < 0.15


async def test_a_page_ends_where_it_is_large(api: Api) -> None:
    """Pages of clients with very many matches, and of their history, hold a few; the pages together hold all, and
    none is read in one step."""
    clients = b"".join(line(at, [f"10.{at}.{n >> 8}.{n & 255}/32" for n in range(4000)]) for at in range(12))
    answer = await api("POST", "clients/import", data=clients, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["made"] == 12
    asked = asyncio.ensure_future(api("GET", "clients?limit=1000"))
    longest = await _longest_turn(asked)
    first = (await asked).json
    assert 1 <= len(first["items"]) < 8
    assert longest < 0.5
    assert [each["name"] for each in await _all(api, "clients?limit=1000")] == sorted(await _names(api))
    match = [{"source": f"172.16.{n >> 8}.{n & 255}/32"} for n in range(400)]
    await api.ok("PUT", "clients/busy", {"id": 9000, "tier": "gold", "match": match})
    for at in range(40):
        await api.ok("PATCH", "clients/busy", {"state": "enabled" if at % 2 else "disabled"})
    page = await api.ok("GET", "clients/busy/history?limit=1000")
    assert 1 <= len(page["items"]) < 41
    ids = [each["id"] for each in await _all(api, "clients/busy/history?limit=1000")]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == 41


async def _names(api: Api) -> list[str]:
    return list((await api.store.snapshots.load()).site.clients)


async def _all(api: Api, path: str) -> list[dict[str, object]]:
    """The items of all pages."""
    items: list[dict[str, object]] = []
    following: str | None = path
    while following:
        page = await api.ok("GET", following.removeprefix("/api/v1/"))
        items += page["items"]
        following = page["next"]
    return items


LARGE = {
    "clients/large": {
        "id": 9000,
        "tier": "gold",
        "match": [{"source": f"10.{n >> 8}.{n & 255}.0/24"} for n in range(4096)],
    },
    "pools/large": {"servers": [{"name": f"s{n}", "address": f"2001:db8:1::{n + 1:x}"} for n in range(2000)]},
    "classify": {"trust_ecs_from": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(4096)]},
}
SMALL: dict[str, list[tuple[str, str, object]]] = {
    "clients/large": [
        ("PATCH", "", {"tier": "standard"}),
        ("PATCH", "", {"state": "disabled"}),
        ("GET", "", None),
        ("POST", "/new-key", None),
        ("POST", "/revoke", None),
        ("GET", "/history", None),
        ("DELETE", "", None),
    ],
    "pools/large": [
        ("PATCH", "", {"check": {"tcp": 80}}),
        ("GET", "", None),
        ("GET", "/servers", None),
        ("GET", "/servers/s7", None),
        ("PATCH", "/servers/s7", {"weight": 3}),
        ("DELETE", "/servers/s7", None),
        ("DELETE", "", None),
    ],
    "classify": [("PATCH", "", {"order": ["source"]}), ("GET", "", None)],
}


@pytest.mark.parametrize("path", LARGE)
async def test_small_requests_about_large_objects(api: Api, path: str) -> None:
    """A few bytes about an object of thousands of values keep the loop no longer than about any other."""
    await api.ok("PUT", path, LARGE[path])
    for method, below, body in SMALL[path]:
        asked = asyncio.ensure_future(api(method, path + below, body))
        longest = await _longest_turn(asked)
        answer = await asked
        assert answer.status in (200, 204), answer.text
        assert longest < 0.02, (method, below)


async def test_pages_of_large_objects(api: Api) -> None:
    """A page with some pools of very many servers keeps the loop no longer than any other, nor does one of changes."""
    servers = cast("dict[str, list[object]]", LARGE["pools/large"])["servers"]
    for name in "abc":
        await api.ok("PUT", f"pools/{name}", {"servers": servers})
    for path in ("pools?limit=1000&count=true", "audit?kind=pool"):
        asked = asyncio.ensure_future(api("GET", path))
        longest = await _longest_turn(asked)
        answer = await asked
        assert len(answer.json["items"]) >= 3
        assert longest < 0.02, path


async def test_matches_are_bounded(api: Api) -> None:
    """A client with more matches than it may have is refused by the name of the field, whichever way it comes."""
    match = [{"listener": f"l{n}"} for n in range(MOST_MATCHES + 1)]
    client = {"id": 9000, "tier": "gold", "match": match}
    wanted = f"must have at most {MOST_MATCHES} entries (it has {MOST_MATCHES + 1})"
    problem = {"where": "client.large.match", "message": wanted}
    await api.ok("PUT", "clients/large", client | {"match": match[:5]})
    for answer in (await api("PUT", "clients/large", client), await api("PATCH", "clients/large", {"match": match})):
        assert (answer.status, answer.json["errors"]) == (422, [problem])
    ndjson = json.dumps({"name": "large", **client}).encode()
    csv = (
        f"name,id,tier,match\nlarge,9000,gold,{' '.join(f'listener=l{n}' for n in range(MOST_MATCHES + 1))}\n".encode()
    )
    for form, body in (("ndjson", ndjson), ("csv", csv)):
        answer = await api("POST", f"clients/import?format={form}", data=body)
        assert answer.status == 422
        assert [error["message"] for error in answer.json["errors"]] == [f"client.large.match: {wanted}"]
    answer = await api("POST", "apply?dry_run=true", {"client": {"large": client}})
    assert answer.status == 422
    assert problem in answer.json["errors"]


async def test_a_larger_client_of_before(api: Api) -> None:
    """A client that has more matches since before there was a bound is served, shown, changed and revoked."""
    match = [{"listener": f"l{n}"} for n in range(MOST_MATCHES + 10)]
    before = parse("client", "old", {"id": 9000, "tier": "gold", "match": match}, counted=True)
    await api.store.objects.apply([Change("client", "old", "+", None, before)], "test", "api")
    assert (await api.store.snapshots.load()).site.clients["old"] == before
    assert (await api.ok("GET", "clients/old"))["match"] == match
    assert (await api.ok("PATCH", "clients/old", {"tier": "standard"}))["tier"] == "standard"
    assert (await api("PATCH", "clients/old", {"match": [*match, {"listener": "new"}]})).status == 422
    fewer = await api.ok("PATCH", "clients/old", {"match": match[1:]})
    assert fewer["match"] == match[1:]
    assert (await api.ok("POST", "clients/old/revoke"))["state"] == "revoked"


async def test_a_match_stands_once(api: Api) -> None:
    """A client with the same match twice, however it is written, is refused by the name of the field."""
    client = {"id": 9000, "tier": "gold", "match": [{"source": "2001:db8::/48"}, {"source": "2001:DB8:0::/48"}]}
    message = 'has { source = "2001:db8::/48" } twice'
    answer = await api("PUT", "clients/twice", client)
    assert (answer.status, answer.json["errors"]) == (422, [{"where": "client.twice.match", "message": message}])
    answer = await api("POST", "clients/import", data=json.dumps({"name": "twice", **client}).encode())
    assert answer.status == 422
    assert message in answer.text.replace('\\"', '"')


HOSTILE_IMPORTS = {
    "matches": json.dumps({"name": "i", "id": 9099, "tier": "gold", "match": [{}] * 16_000}).encode(),
    "keys": json.dumps({"name": "i", **{f"k{n}": 0 for n in range(6000)}}).encode(),
    "attributes": json.dumps({"name": "i", "attributes": {f"k{n}": [] for n in range(5000)}}).encode(),
    "lines": b"{}\n" * 21_000,
}


@pytest.mark.parametrize("kind", HOSTILE_IMPORTS)
async def test_hostile_imports_are_read_apart(api: Api, jobs: Jobs, kind: str) -> None:
    """An import of 64 kB, whatever is in it, is read in a process: it takes nothing from who is answered meanwhile."""
    begun = time.process_time()
    asked = asyncio.ensure_future(api("POST", "clients/import", data=HOSTILE_IMPORTS[kind]))
    await until(lambda: jobs.running or asked.done())
    assert (await asked).status == 422
    assert time.process_time() - begun < 0.5
    assert jobs.pids


async def test_bodies_with_very_many_values(api: Api) -> None:
    """A body of a few megabytes that is nothing but values is refused; reading it stops nobody."""
    body = b'{"text": [' + b"0," * 500_000 + b"0]}"
    headers = {"Content-Type": "application/json"}
    asked = asyncio.ensure_future(api("PUT", "zones/x.test", data=body, headers=headers))
    longest = await _longest_turn(asked)
    answer = await asked
    assert answer.status == 413, answer.text
    assert longest < 0.1


async def _longest_turn(asked: asyncio.Future[object]) -> float:
    """The longest processor time of a turn of the loop meanwhile, seconds, but for the collector: a node's heap is
    frozen."""
    longest = 0.0
    gc.disable()
    try:
        while not asked.done():
            begin = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - begin)
    finally:
        gc.enable()
    return longest
