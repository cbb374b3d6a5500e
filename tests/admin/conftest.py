"""The API over HTTP on a real store with the example site in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from dnsvip.admin.app import make_app
from dnsvip.admin.node import Node
from dnsvip.errors import StoreError
from dnsvip.site import Site, Snapshot
from dnsvip.site.io.files import load_site
from dnsvip.site.plan import plan
from dnsvip.store import KeyEncryptionKey, Store

EXAMPLE = Path(__file__).parents[2] / "examples" / "site.toml"


@dataclass
class Answer:
    """A response, read."""

    status: int
    headers: Any
    text: str
    json: Any = None


@dataclass
class Api:
    """A caller with a good token, and the parts behind the API."""

    client: TestClient[web.Request, web.Application]
    store: Store
    token: str
    folder: Path
    down: list[StoreError] = field(default_factory=list)
    """Put an error here and the database is gone."""
    snapshots: list[Snapshot] = field(default_factory=list)
    """What the node serves; put a newer one at the end."""
    ahead: list[float] = field(default_factory=lambda: [0.0])
    """Seconds by which the node's clock is ahead."""

    async def __call__(self, method: str, path: str, json: Any = None, **options: Any) -> Answer:
        """One request; options as aiohttp takes them."""
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        if json is not None:
            options["json"] = json
        async with self.client.request(method, f"/api/v1/{path}", headers=headers, **options) as response:
            return await read(response)

    async def ok(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """The JSON of an answer that must be a success."""
        answer = await self(method, path, json, **options)
        assert answer.status < 300, answer.text
        return answer.json


async def read(response: ClientResponse) -> Answer:
    text = await response.text()
    as_json = await response.json() if response.content_type.endswith(("/json", "+json")) else None
    return Answer(response.status, response.headers, text, as_json)


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SQLite store that holds examples/site.toml, and its key: each test gets a copy."""
    folder = tmp_path_factory.mktemp("applied")

    async def apply() -> None:
        store = await opened_in(folder)
        await store.objects.apply(plan(Site(), load_site(EXAMPLE), {}), "test", "site")
        await store.close()

    asyncio.run(apply())
    return folder


async def opened_in(folder: Path) -> Store:
    return await Store.open(f"sqlite:///{folder}/test.db", KeyEncryptionKey.load(folder / "key", os.environ))


@pytest.fixture
async def api(applied: Path, tmp_path: Path) -> AsyncIterator[Api]:
    """The API on a fresh SQLite store that holds examples/site.toml."""
    for name in ("test.db", "key"):
        shutil.copy(applied / name, tmp_path)
    store = await opened_in(tmp_path)
    snapshots, down = [await store.snapshots.load()], list[StoreError]()

    def opened() -> Store:
        if down:
            raise down[0]
        return store

    def current() -> Snapshot:
        return snapshots[-1]

    dispatcher, ahead = tmp_path / "dispatch.sock", [0.0]
    node = Node(opened, current, lambda: {"answered": 3}, dispatcher, lambda: time.time() + ahead[0])
    async with TestClient(TestServer(make_app(node))) as client:
        yield Api(client, store, await store.tokens.create("test", "test"), tmp_path, down, snapshots, ahead)
    await store.close()
