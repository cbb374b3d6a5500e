"""From which address a change was asked: the audit tells it, whatever the way of the change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from aiohttp.test_utils import TestClient, TestServer

from dnsvip.admin.app import make_app
from dnsvip.admin.bulk import transfer
from dnsvip.admin.node import NODE
from dnsvip.site import Client
from dnsvip.site.node_admin import AdminSettings
from dnsvip.site.plan import Change
from dnsvip.store.access.audit import LONGEST_SOURCE
from dnsvip.store.database.warrant import IN_FORCE
from tests.admin.conftest import Api

LINE = b'{"name": "one", "id": 5000, "tier": "gold"}\n'


async def sources(api: Api, query: str) -> set[str | None]:
    """Those of the rows that a query finds; there are some."""
    rows = (await api.ok("GET", f"audit?{query}"))["items"]
    assert rows, query
    return {row["source"] for row in rows}


@pytest.mark.parametrize("small", [0, 1 << 16])
async def test_every_change_has_it(api: Api, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects, imports (in a process too), keys, cookies, tokens; what a node does by itself has none."""
    monkeypatch.setattr(transfer, "SMALL_IMPORT", small)
    newest = (await api.ok("GET", "audit?limit=1"))["items"][0]["generation"]
    await api.ok("PATCH", "tiers/gold", {"dscp": 3})
    await api.ok("POST", "clients/import", data=LINE, headers={"Content-Type": "application/x-ndjson"})
    await api.ok("POST", "keys/web/rotate")
    await api.ok("POST", "cookies/roll")
    await api.ok("POST", "tokens", {"name": "more", "role": "viewer"})
    await api.ok("POST", "tokens/more/rotate")
    assert (await api("DELETE", "tokens/more")).status == 204
    assert (await api("DELETE", "clients/one")).status == 204
    rows = (await api.ok("GET", "audit?source=127.0.0.1"))["items"]
    kinds = {row["kind"] for row in rows}
    assert kinds >= {"tier", "client", "key", "cookies", "token"}
    assert {row["generation"] for row in rows} == {*range(newest + 1, newest + 9)}
    await api.store.objects.apply([Change("client", "two", "+", None, Client("two", 5001, "gold"))], "me", "api")
    assert await sources(api, "name=two") == {None}
    assert await sources(api, "name=one") == {"127.0.0.1"}


async def test_what_a_proxy_says(api: Api) -> None:
    """Behind a trusted proxy it is the address of the proxy's client; one that no proxy appended does not count."""
    assert api.client.app is not None
    for trusted, expected in ((("127.0.0.0/8",), "2001:db8::7"), ((), "127.0.0.1")):
        settings = AdminSettings(proxy_from=tuple(map(ip_network, trusted)))
        async with TestClient(TestServer(make_app(api.client.app[NODE], settings=settings))) as client:
            headers = {"Authorization": f"Bearer {api.token}", "X-Forwarded-For": "2001:db8::7"}
            async with client.post("/api/v1/cookies/roll", headers=headers) as response:
                assert response.status == 200
        row = (await api.ok("GET", "audit?limit=1"))["items"][0]
        assert (row["kind"], row["source"]) == ("cookies", expected)


async def test_it_is_bounded(api: Api) -> None:
    """However long what a listener calls its peer: rows have LONGEST_SOURCE characters of it."""
    found = await api.store.tokens.warranted(api.token)
    assert found
    IN_FORCE.set(replace(found[1], source="x" * 1000))
    await api.store.keys.roll_cookies("me")
    IN_FORCE.set(None)
    assert await sources(api, "limit=1") == {"x" * LONGEST_SOURCE}
