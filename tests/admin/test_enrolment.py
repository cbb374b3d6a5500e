from __future__ import annotations

import json

import pytest

from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import parse
from tests.admin.conftest import Api


async def test_an_enrolment(api: Api) -> None:
    """It is the one that the command line makes, never to be kept by a cache."""
    answer = await api("POST", "clients/acme/enrolment", {"servers": ["[2001:db8::53]:53"]})
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    enrolled = make_enrolment(await api.store.snapshots.load(), "acme", ["[2001:db8::53]:53"])
    assert parse(json.dumps(answer.json), "the answer") == enrolled


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"servers": ["nowhere"]}, "enrolment.servers.0"),
        ({"servers": "192.0.2.1:53"}, "enrolment.servers"),
        ({"server": []}, "enrolment.server"),
    ],
)
async def test_bad_bodies(api: Api, body: object, where: str) -> None:
    """What cannot be used is named."""
    answer = await api("POST", "clients/acme/enrolment", body)
    assert answer.status == 422
    assert [error["where"] for error in answer.json["errors"]] == [where]


async def test_no_enrolment(api: Api) -> None:
    """There is none for an unknown client, nor for a state that this node does not work with yet."""
    assert (await api("POST", "clients/nobody/enrolment", {})).status == 404
    await api.ok("POST", "clients/acme/new-key")
    answer = await api("POST", "clients/acme/enrolment", {})
    assert answer.status == 503
    assert answer.headers["Retry-After"]
