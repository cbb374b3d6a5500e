"""Expensive operations end with their caller, and one token's take turns while others' go on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiohttp import ClientError

from dnsvip.admin.http.work import JOBS
from dnsvip.jobs.jobs import Jobs
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


async def test_an_import_ends_with_its_caller(api: Api, jobs: Jobs) -> None:
    """An import whose caller goes away stores nothing, and its turn is free again."""
    generation = await api.store.generation()
    lines = b"".join(line(number) for number in range(100_000))
    await abandoned(api, jobs, "POST", "clients/import", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert await api.store.generation() == generation
    some = b"".join(line(number) for number in range(2000))
    answer = await api("POST", "clients/import", data=some, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["made"] == 2000


def line(number: int) -> bytes:
    """A client as a line of an import."""
    return json.dumps({"name": f"n{number}", "id": 5000 + number, "tier": "gold"}).encode() + b"\n"


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
    """The longest processor time of a turn of the loop meanwhile, seconds."""
    longest = 0.0
    while not asked.done():
        begin = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - begin)
        await asyncio.sleep(0.001)
    return longest
