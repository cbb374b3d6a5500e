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


async def test_servers_of_the_group(api: Api) -> None:
    """Without servers the enrolment has those of the DNS group of the client's tier; without a group it is refused."""
    refused = await api("POST", "clients/acme/enrolment", {})
    assert refused.status == 422
    assert "at least one DNS server" in refused.json["errors"][0]["message"]
    servers = ["[2001:db8:53::1]:53", "tls://[2001:db8:53::1]:853#dns.example.test"]
    made = await api("PUT", "dns-groups/high", {"servers": servers, "tiers": ["gold"]})
    assert made.status == 201
    assert (await api("DELETE", "tiers/gold")).status in (409, 422)
    again = await api("PUT", "dns-groups/low", {"servers": ["192.0.2.1:53"], "tiers": ["gold"]})
    assert again.status == 422
    assert "dns_group.low.tiers" in [error["where"] for error in again.json["errors"]]
    api.snapshots.append(await api.store.snapshots.load())
    answer = await api("POST", "clients/acme/enrolment", {})
    assert (answer.status, answer.json["servers"]) == (200, servers)
