"""Exports whose readers are slow hold no process, and end with their token."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import ClientPayloadError

from dnsvip.admin.bulk import transfer
from dnsvip.admin.http.work import JOBS
from dnsvip.jobs.jobs import Busy, Jobs
from tests.admin.conftest import Api

MANY = 12_000


@pytest.fixture
async def full(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The API of a site with so many clients that an export of them does not fit into socket buffers."""
    monkeypatch.setattr(transfer, "SMALL_EXPORT", 0)
    long = {"note": "x" * 400}
    some = ({"name": f"n{n:05}", "id": 5000 + n, "tier": "gold", "attributes": long} for n in range(MANY))
    text = "".join(json.dumps(one) + "\n" for one in some)
    answer = await api("POST", "clients/import", data=text.encode(), headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["made"] == MANY, answer.text
    return api


async def test_slow_readers_hold_no_process(full: Api) -> None:
    """While several tokens read exports slowly or not at all, no job runs, and another's export ends."""
    app = full.client.app
    assert app is not None
    responses = []
    for number in range(3):
        token = await full.store.tokens.create(f"slow{number}", "test")
        headers = {"Authorization": f"Bearer {token}"}
        responses.append(await full.client.get("/api/v1/clients/export", headers=headers))
    async with asyncio.timeout(60):
        while app[JOBS].running:  # until each waits for its reader
            await asyncio.sleep(0.05)
        lines = (await full("GET", "clients/export")).text.splitlines()
    assert len(lines) == len({json.loads(line)["name"] for line in lines}) == MANY + 2
    for response in responses:
        response.close()


async def test_an_export_ends_with_its_token(full: Api) -> None:
    """Once its token is deleted, an export gives no further page; that its end is missing can be seen."""
    headers = {"Authorization": f"Bearer {await full.store.tokens.create('slow', 'test')}"}
    response = await full.client.get("/api/v1/clients/export", headers=headers)
    await full.store.tokens.delete("slow", "test")
    with pytest.raises(ClientPayloadError):
        await response.read()


async def test_waiting_for_a_process_ends() -> None:
    """Where no process gets free, a job is refused as busy after a while."""
    jobs = Jobs(processes=1)
    async with jobs._place(1):
        with pytest.raises(Busy, match="busy for"):
            await jobs.run(int, seconds=1, patience=0.01)
    assert await jobs.run(int, seconds=60) == 0
    await jobs.close()
