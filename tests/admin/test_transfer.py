"""Bulk import and export of clients, as NDJSON and CSV."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientPayloadError

from dnsvip.cli.shared.api import ApiError, find_api
from dnsvip.errors import StoreError
from tests.admin.conftest import Answer, Api

HEADERS = {"Content-Type": "application/x-ndjson"}


def line(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "id": number, "tier": "gold"} | more


async def put(api: Api, query: str, *lines: Any, raw: str = "", headers: dict[str, str] | None = None) -> Answer:
    """The answer to an import of lines."""
    text = raw or "".join(json.dumps(each) + "\n" for each in lines)
    return await api("POST", f"clients/import?{query}", data=text.encode(), headers=HEADERS | (headers or {}))


async def test_many_clients_in_one_generation(api: Api) -> None:
    """New, changed and unchanged clients go in together, as one generation, each with its audit row."""
    before = await api.store.generation()
    some = [line(f"n{n:04}", 5000 + n, match=[{"ecs": f"198.19.{n % 256}.{n // 256}/32"}]) for n in range(4500)]
    moved = {"name": "acme", "id": 1001, "tier": "standard"}
    answer = await put(api, "", *some, moved, await api.ok("GET", "clients/newsreader"))
    assert answer.status == 200, answer.text
    report = answer.json
    assert (report["made"], report["changed"], report["unchanged"], report["failed"]) == (4500, 1, 1, 0)
    assert report["applied"]
    assert report["generation"] == before + 1 == int(answer.headers["Dnsvip-Generation"])
    assert await api.store.generation() == before + 1
    assert await api.store.objects.count("client") == 4502
    acme = await api.ok("GET", "clients/acme")
    assert (acme["tier"], acme["match"]) == ("standard", [])
    assert (await api.ok("GET", "clients/n0007/history"))["items"][0]["after"]["id"] == 5007
    (last, _) = (await api.ok("GET", "clients/acme/history"))["items"]
    assert (last["before"]["tier"], last["after"]["tier"]) == ("gold", "standard")
    refreshed = await api.store.snapshots.refresh(api.snapshots[0])
    assert (len(refreshed.site.clients), refreshed.site.clients["n0007"].id) == (4502, 5007)
    again = await put(api, "", *some)
    assert (again.json["unchanged"], again.json["generation"]) == (4500, None)


BAD: list[tuple[Any, str]] = [
    ("{", "is not JSON"),
    ("[1]", "must be a JSON object"),
    ({"id": 5, "tier": "gold"}, "missing"),
    ({"name": 5}, "must be a string"),
    (line("x", 5, colour=1), "unknown key"),
    (line("x", 5, tier="none"), "'none' is not a tier"),
    (line("x", 1001), "id 1001 belongs to client.acme already"),
    (line("x", 5, match=[{"tsig": "acme-key"}]), "tsig = acme-key belongs to client.acme already"),
    (line("good", 6), "duplicates line 1"),
    (line("x", 7000), "id 7000 belongs to client.good already"),
    (line("acme", 1001, key_generation=0), "cannot go down"),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=lambda value: str(value)[:40])
async def test_one_bad_line(api: Api, bad: Any, message: str) -> None:
    """One bad line spoils all, by its number, or with mode=per-line is left out while the others go in."""
    await api.ok("POST", "clients/acme/new-key")
    before = await api.store.snapshots.load()
    wrong = bad if isinstance(bad, str) else json.dumps(bad)
    raw = f"{json.dumps(line('good', 7000))}\n\n{wrong}\n{json.dumps(line('fine', 7001))}\n"
    answer = await put(api, "mode=all-or-nothing", raw=raw)
    assert answer.status == 422, answer.text
    assert [error["where"] for error in answer.json["errors"]] == ["line 3"]
    assert message in answer.json["errors"][0]["message"]
    assert await api.store.snapshots.refresh(before) is before
    per_line = (await put(api, "mode=per-line", raw=raw)).json
    assert (per_line["made"], per_line["failed"], per_line["lines"]) == (2, 1, 3)
    assert per_line["errors"][0]["line"] == 3
    assert message in per_line["errors"][0]["message"]
    assert {"good", "fine"} < (await api.store.snapshots.load()).site.clients.keys()


async def test_every_fault_is_listed(api: Api) -> None:
    """All faults of all lines are listed with their lines: of their form, of the site's rules, of what is stored."""
    text = "name,id,tier,match\nx,0,gold,source=10.0.0.1/8\ny,1001,gold,\nz,7,none,\n,8,gold,\nfine,9,gold,\n"
    answer = await put(api, "format=csv", raw=text)
    assert answer.status == 422
    errors = [(error["where"], error["message"]) for error in answer.json["errors"]]
    assert [where for where, _ in errors] == ["line 2", "line 2", "line 3", "line 4", "line 5"]
    found = " ".join(message for _, message in errors)
    for part in ("client.x.id", "client.x.match", "id 1001 belongs to client.acme", "'none' is not a tier", "missing"):
        assert part in found, part


async def test_what_is_set_at_run_time_stays(api: Api) -> None:
    """A line that does not name state and key generation leaves them; one that does sets them."""
    await api.ok("PATCH", "clients/acme", {"state": "revoked"})
    await put(api, "", line("acme", 1001, tier="standard"))
    assert (await api.ok("GET", "clients/acme"))["state"] == "revoked"
    await put(api, "", line("acme", 1001, state="enabled"))
    acme = await api.ok("GET", "clients/acme")
    assert (acme["state"], acme["key_generation"]) == ("enabled", 1)


async def test_clients_can_swap(api: Api) -> None:
    """Two clients of one import can take each other's ids and matches."""
    swapped = [
        line("acme", 1002, tier="gold", match=[{"source": "203.0.113.0/24"}]),
        line("newsreader", 1001, match=[{"tsig": "acme-key"}]),
    ]
    assert (await put(api, "", *swapped)).json["changed"] == 2
    assert (await api.ok("GET", "clients?match=203.0.113.9"))["items"][0]["name"] == "acme"


async def test_dry_run(api: Api) -> None:
    """A dry run finds the same and stores nothing."""
    before = await api.store.snapshots.load()
    report = (await put(api, "dry_run=true", line("new", 9), line("acme", 1001))).json
    assert (report["made"], report["changed"], report["applied"], report["generation"]) == (1, 1, False, None)
    assert await api.store.snapshots.refresh(before) is before


async def test_progress_comes_before_the_report(api: Api) -> None:
    """To who asks for NDJSON, lines of progress come first and the report last."""
    accept = {"Accept": "application/x-ndjson"}
    answer = await put(api, "", *(line(f"n{n}", 5000 + n) for n in range(9000)), headers=accept)
    lines = [json.loads(text) for text in answer.text.splitlines()]
    assert all("progress" in each for each in lines[:-1])
    assert lines[0]["progress"]["of"] == 9000
    assert lines[-1]["report"]["made"] == 9000
    spoilt = await put(api, "", line("a", 1), line("a", 2), headers=accept)
    report = json.loads(spoilt.text.splitlines()[-1])["report"]
    assert (report["applied"], report["failed"], report["errors"][0]["line"]) == (False, 1, 2)


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
async def test_what_comes_out_goes_in(api: Api, kind: str) -> None:
    """An export is taken by import, and changes nothing; a client that was deleted since has another key."""
    layout = [["tier", 4], ["client", 20], ["lang", 6], ["nonce", 7]]
    await api.ok("PATCH", "clusters/web", {"layout": layout, "values": {"lang": {"fr": 1, "en": 2, "5": 3}}})
    body = {"proof": {"bind": "none", "single_use": True}, "attributes": {"lang": "5"}, "state": "disabled"}
    await api.ok("PATCH", "clients/acme", body | {"match": [{"tls": "CN=a b, O=c"}, {"geo": "country:DE"}]})
    exported = await api("GET", f"clients/export?format={kind}")
    assert len(exported.text.splitlines()) == (3 if kind == "csv" else 2)
    report = (await put(api, f"format={kind}", raw=exported.text)).json
    assert (report["unchanged"], report["changed"], report["failed"]) == (2, 0, 0), report
    before = await api.store.objects.site()
    assert (await api("DELETE", "clients/acme")).status == 204
    assert (await put(api, f"format={kind}", raw=exported.text)).json["made"] == 1
    acme = replace(before.clients["acme"], key_generation=1)
    assert (await api.store.objects.site()).clients == {**before.clients, "acme": acme}


async def test_an_export_is_filtered(api: Api) -> None:
    """An export takes the filters of the list."""
    assert len((await api("GET", "clients/export?tier=gold")).text.splitlines()) == 1


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
async def test_an_export_takes_little_memory(api: Api, kind: str) -> None:
    """An export holds about a page of clients, however many there are."""
    some = ({"ecs": f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32"} for n in range(12_000))
    answer = await put(api, "", *(line(f"n{n:05}", 5000 + n, match=[match]) for n, match in enumerate(some)))
    assert answer.json["made"] == 12_000
    lines = 0
    headers = {"Authorization": f"Bearer {api.token}"}
    tracemalloc.start()
    try:
        async with api.client.get(f"/api/v1/clients/export?format={kind}", headers=headers) as response:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            async for chunk in response.content.iter_chunked(1 << 16):
                lines += chunk.count(b"\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lines == 12_002 + (kind == "csv")
    assert peak - before < 3 << 20  # measured: 0.8 MiB, of 2000 clients too; the clients themselves take some 12 MiB


async def test_an_export_that_is_broken_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database goes away in the middle, what came so far does not look like all there is."""
    await put(api, "", *(line(f"n{n:04}", 5000 + n) for n in range(2500)))
    places = api.store.objects.places
    read = 0

    async def fails(wanted: Any) -> Any:
        nonlocal read
        read += 1
        if read % 3 == 0:
            raise StoreError("the database is gone")
        return await places(wanted)

    monkeypatch.setattr(api.store.objects, "places", fails)
    with pytest.raises(ClientPayloadError):
        await api("GET", "clients/export")
    (api.folder / "token").write_text(api.token)
    command_line = find_api(f"127.0.0.1:{api.client.port}", api.folder / "token")
    with pytest.raises(ApiError, match="broke off"):
        await asyncio.to_thread(lambda: list(command_line.stream("GET", "clients", "export", query={}, headers={})))
    monkeypatch.undo()
    assert len((await api("GET", "clients/export")).text.splitlines()) == 2502


CSV: list[tuple[str, str]] = [
    ("id,tier\n5,gold\n", "must name the columns"),
    ("name,id\na,5,gold\n", "has 3 cells, the first line 2"),
    ("name,id,tier\na,x,gold\n", "valid integer"),
    ('name,id,tier\na,5,"gold\n', "is not CSV"),
    ("name,id,tier,match\na,5,gold,shoe\n", "unknown kind of match"),
    ("name,id,tier,proof.single_use\na,5,gold,maybe\n", "boolean"),
]


@pytest.mark.parametrize(("text", "message"), CSV, ids=[message for _, message in CSV])
async def test_wrong_csv(api: Api, text: str, message: str) -> None:
    """A CSV file that is wrong is refused by line, and says what is right."""
    answer = await put(api, "format=csv", raw=text)
    assert answer.status == 422, answer.text
    assert message in answer.json["errors"][0]["message"]


async def test_lines_without_end(api: Api) -> None:
    """A line that is too long is refused, and the next one read."""
    answer = await put(api, "mode=per-line", raw=f'{{"name": "{"x" * (3 << 20)}"}}\n{json.dumps(line("ok", 5))}\n')
    assert (answer.json["made"], answer.json["errors"][0]["line"]) == (1, 1)
