"""A token that is deleted, expires or is narrowed while a request is under way changes nothing any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from dnsvip.admin.bulk import site as applying
from dnsvip.admin.bulk import transfer
from tests.admin.conftest import Answer, Api
from tests.admin.test_certificates import known_by_certificate
from tests.admin.test_certificates import request as request_for

JSON = "application/json"
CLIENT = {"id": 4711, "tier": "gold"}
RRSET = {"name": "new.example.test.", "type": "A", "ttl": 60, "changetype": "REPLACE", "records": [{"content": "::1"}]}
RRSET["records"] = [{"content": "192.0.2.1"}]
CHANGES: list[tuple[str, str, Any, str]] = [
    ("PUT", "clients/new", CLIENT, JSON),
    ("PATCH", "clients/acme", {"tier": "standard"}, JSON),
    ("POST", "tokens", {"name": "new", "role": "admin"}, JSON),
    ("POST", "apply", {}, JSON),
    ("PUT", "classify", {"order": ["source"]}, JSON),
    ("PATCH", "servers/localhost/zones/example.test.", {"rrsets": [RRSET]}, JSON),
    ("POST", "clients/import", CLIENT | {"name": "new"}, "application/x-ndjson"),
    ("POST", "clients/import?mode=per-line", CLIENT | {"name": "new"}, "application/x-ndjson"),
]
ENDS = ["deleted", "expired", "narrowed", "rotated"]


async def end(api: Api, how: str) -> None:
    """End the token `late`, or what it allows."""
    before = await api.store.tokens.get("late")
    assert before is not None
    if how == "deleted":
        await api.store.tokens.delete("late", "test")
    elif how == "rotated":
        await api.store.tokens.change(before, before, "test", renew=True)
    else:
        after = replace(before, expires_at=1.0) if how == "expired" else replace(before, role="viewer")
        await api.store.tokens.change(before, after, "test")


async def late(api: Api, method: str, path: str, body: Any, kind: str, how: str) -> Answer:
    """The answer to a request whose token ends before its body has come."""
    headers = {"Authorization": f"Bearer {await api.store.tokens.create('late', 'test')}", "Content-Type": kind}
    text = json.dumps(body).encode()
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield text[:1]
        begun.set()
        await ended.wait()
        yield text[1:]

    ended = asyncio.Event()
    asked = asyncio.ensure_future(api(method, path, data=pieces(), headers=headers))
    await begun.wait()
    while (token := await api.store.tokens.get("late")) is None or token.last_used_at is None:
        assert not asked.done(), asked.result()
        await asyncio.sleep(0.01)  # until it has been let in
    await end(api, how)
    ended.set()
    return await asked


@pytest.mark.parametrize(("method", "path", "body", "kind"), CHANGES, ids=[f"{m} {p}" for m, p, _, _ in CHANGES])
async def test_a_deleted_token_changes_nothing(api: Api, method: str, path: str, body: Any, kind: str) -> None:
    """Whatever the change: once its token is gone it is answered with 401, and nothing is stored."""
    before = await api.store.objects.site()
    answer = await late(api, method, path, body, kind, "deleted")
    assert (answer.status, "has been deleted" in answer.text) == (401, True), answer.text
    assert await api.store.objects.site() == before
    assert await api.store.tokens.get("new") is None


@pytest.mark.parametrize("how", ENDS)
async def test_every_end_counts(api: Api, how: str) -> None:
    """An expired, narrowed or rotated token ends like a deleted one."""
    answer = await late(api, "PUT", "clients/new", CLIENT, JSON, how)
    assert answer.status == 401, answer.text
    assert await api.store.objects.get("client", "new") is None


@pytest.mark.parametrize(("path", "kind"), [("apply", JSON), ("clients/import", "application/x-ndjson")])
async def test_in_a_process_of_its_own(api: Api, monkeypatch: pytest.MonkeyPatch, path: str, kind: str) -> None:
    """What a process of its own does by a token ends with it, too."""
    monkeypatch.setattr(transfer, "SMALL_IMPORT", 0)
    monkeypatch.setattr(applying, "SMALL", 0)
    before = await api.store.objects.site()
    answer = await late(api, "POST", path, {} if path == "apply" else CLIENT | {"name": "new"}, kind, "deleted")
    assert answer.status == 401, answer.text
    assert await api.store.objects.site() == before


ASKED: dict[str, Any] = {
    "decode": {"address": "2001:db8:a:1::1"},
    "explain": {"qname": "www.example.test", "source": "192.0.2.1"},
    "sessions": {"service": "*.s.example.test"},
    "apply?dry_run=true": {},
    "clients/import?dry_run=true": CLIENT | {"name": "new"},
    "clients/import?dry_run=true&mode=per-line": CLIENT | {"name": "acme"},
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("path", ASKED)
async def test_nobody_is_told(api: Api, path: str, how: str) -> None:
    """What changes nothing and is answered after its body has come, perhaps much later, is refused likewise."""
    kind = "application/x-ndjson" if "import" in path else JSON
    answer = await late(api, "POST", path, ASKED[path], kind, how)
    assert answer.status == 401, answer.text


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("what", ["enrolment", "certificate"])
async def test_nobody_is_enrolled(api: Api, what: str, how: str) -> None:
    """What changes no object and gives keys is refused likewise: no enrolment, and no certificate."""
    await known_by_certificate(api)
    await api.ok("POST", "client-ca")
    api.snapshots.append(await api.store.snapshots.load())
    body = {"servers": ["192.0.2.53:53"]} if what == "enrolment" else {"csr": request_for()}
    answer = await late(api, "POST", f"clients/acme/{what}", body, JSON, how)
    assert answer.status == 401, answer.text
    assert not await api.store.audit.rows(about={"kind": "enrolment"})
