"""/clusters/NAME/decoding-keys: for decoders, and nobody else."""

from __future__ import annotations

import json

import pytest

from dnsvip.decoder.keys import make, read
from tests.admin.conftest import Api

PATH = "clusters/web/decoding-keys"


async def test_the_document(api: Api) -> None:
    """It is that of the snapshot, never to be kept by a cache; who has it already gets no other."""
    answer = await api("GET", PATH)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    snapshot = await api.store.snapshots.load()
    assert read(json.dumps(answer.json), "answer") == make(snapshot, snapshot.site.clusters["web"])
    again = await api("GET", PATH, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.text) == (304, "")
    assert (await api("GET", "clusters/legacy/decoding-keys")).json["epochs"] == []
    assert (await api("GET", "clusters/nothing/decoding-keys")).status == 404


@pytest.mark.parametrize(
    ("rights", "status"),
    [
        ({"role": "decoder"}, 200),
        ({"role": "viewer"}, 403),
        ({"role": "operator"}, 403),
        ({"role": "auditor"}, 403),
        ({"scopes": [{"actions": ["write"], "kinds": ["decoder"], "clusters": ["web"]}]}, 200),
        ({"scopes": [{"actions": ["write"], "kinds": ["decoder"], "clusters": ["video"]}]}, 403),
        ({"scopes": [{"actions": ["read"], "kinds": ["*"]}]}, 403),
    ],
)
async def test_rights(api: Api, rights: dict[str, object], status: int) -> None:
    """Only a right to the keys themselves gives them; a look at everything does not."""
    made = await api.ok("POST", "tokens", {"name": "other", **rights})
    answer = await api("GET", PATH, headers={"Authorization": f"Bearer {made['token']}"})
    assert answer.status == status
    assert (status == 200) == ("encryption_key" in answer.text)
