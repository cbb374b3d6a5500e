"""`/explain`: told by the functions that serve, so what it says is what DNS and dispatchers do."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.simulate import syn
from dnsvip.dispatcher.token_bucket import SECOND
from tests.admin.conftest import Api


async def explained(api: Api, **asked: Any) -> Any:
    """The explanation, which is the same by query and by body."""
    asked = {"qname": "www.example.test", "source": "192.0.2.200"} | asked
    explanation = await api.ok("POST", "explain", asked)
    query = {key: str(value) for key, value in asked.items()}
    again = await api.ok("GET", "explain", params=query)
    assert [step["detail"] for step in again["steps"]] == [step["detail"] for step in explanation["steps"]]
    assert again.keys() == explanation.keys()
    return explanation


WHO: list[tuple[dict[str, Any], str | None, dict[str, Any] | None]] = [
    ({}, None, None),
    ({"source": "2001:db8:77::5"}, "acme", {"step": "source", "value": "2001:db8:77::/48"}),
    ({"tsig": "Acme-Key."}, "acme", {"step": "tsig", "value": "acme-key"}),
    ({"source": "127.0.0.1", "ecs": "198.51.100.7"}, "acme", {"step": "ecs", "value": "198.51.100.0/24"}),
    ({"source": "192.0.2.200", "ecs": "198.51.100.7/32"}, None, None),
    ({"source": "203.0.113.9", "tsig": "acme-key"}, "acme", {"step": "tsig", "value": "acme-key"}),
]


@pytest.mark.parametrize(("asked", "client", "rule"), WHO, ids=lambda value: str(value)[:50])
async def test_who(api: Api, asked: dict[str, Any], client: str | None, rule: dict[str, Any] | None) -> None:
    """The rule that matched is named with step, value and client, and every step says why it did or did not."""
    explanation = await explained(api, **asked)
    assert (explanation["client"] and explanation["client"]["name"]) == client
    assert (explanation["rule"] and {key: explanation["rule"][key] for key in ("step", "value")}) == rule
    assert [step["step"] for step in explanation["steps"]] == [
        "tsig",
        "tls",
        "token",
        "ecs",
        "source",
        "geo",
        "listener",
    ]
    assert [step["step"] for step in explanation["steps"] if step["decided"]] == ([rule["step"]] if rule else [])
    assert all(step["detail"] for step in explanation["steps"])


async def test_who_over_encrypted_transports(api: Api) -> None:
    """A certificate's name and a DNS token identify, over TLS where nothing else is said, and are named."""
    await api.ok("POST", "dns-tokens/van/mint", {"client": "newsreader"})
    match = (await api.ok("GET", "clients/acme"))["match"]
    await api.ok("PATCH", "clients/acme", {"match": [*match, {"tls": "phone"}]})
    api.snapshots.append(await api.store.snapshots.load())
    by_token = await explained(api, token="van", transport="https")
    assert (by_token["client"]["name"], by_token["rule"]["step"]) == ("newsreader", "token")
    assert by_token["question"]["transport"] == "https"
    by_name = await explained(api, tls="Phone")
    assert (by_name["client"]["name"], by_name["rule"]["value"]) == ("acme", "phone")
    assert by_name["question"]["transport"] == "tls"
    assert (await explained(api))["question"]["transport"] == "udp"


async def test_why_not(api: Api) -> None:
    """An ECS option of somebody who is not trusted is said to be not believed, later steps are not asked."""
    steps = {s["step"]: s["detail"] for s in (await explained(api, source="203.0.113.9", ecs="198.51.100.7"))["steps"]}
    assert steps["ecs"] == "not believed: 203.0.113.9 is not in classify.trust_ecs_from"
    assert steps["source"] == "fits newsreader by source = 203.0.113.0/24"
    assert steps["tsig"] == "the query carries none"
    assert steps["listener"].startswith("not looked at")
    await api.ok("PATCH", "classify", {"order": ["tsig"]})


async def test_a_revoked_client(api: Api) -> None:
    """A revoked client is found by its claim and named, and answered as nobody."""
    await api.ok("PATCH", "clients/acme", {"state": "revoked"})
    api.snapshots.append(await api.store.snapshots.load())
    explanation = await explained(api, source="2001:db8:77::5")
    assert explanation["client"] is None
    assert explanation["rule"] == {"step": "source", "value": None, "client": "acme", "in_use": False}
    assert explanation["answer"]["addresses"][0]["address"] == "2001:db8:a:1::1"
    assert "acme, which is disabled or revoked" in json.dumps(explanation["steps"])


async def test_answer_and_flow(api: Api) -> None:
    """Each address of the answer comes with the decision of the dispatcher on a connection to it."""
    explanation = await explained(api, source="2001:db8:77::5", flow_port=1234)
    answer = explanation["answer"]
    assert (answer["rcode"], answer["outcome"], answer["kind"]) == ("NOERROR", "service", "encoded")
    (address,) = answer["addresses"]
    assert (address["ttl"], address["cluster"], address["service"]) == (60, "web", "www.example.test")
    (flow,) = explanation["flows"]
    assert (flow["tier"], flow["pool"], flow["server"], flow["dscp"]) == ("gold", "fast", "fast-1", 34)
    assert flow["judgement"]["client"] == "acme"
    assert flow["candidates"] == [
        {"server": "fast-1", "address": "fd00:10::11", "weight": 100, "state": "up", "share": 1.0}
    ]
    packet = syn(ip_address("2001:db8:77::5"), 1234, ip_address(address["address"]), 443)
    verdict = decide(
        packet, DispatchTables(await api.store.snapshots.load()), Flows(4), int(explanation["judged_at"] * SECOND)
    )
    assert (flow["action"], flow["reason"], flow["server"]) == (
        verdict.action.value,
        verdict.reason,
        verdict.server.name if verdict.server else None,
    )


async def test_the_rule_that_decides(api: Api) -> None:
    """The flow and the verdict on its address name the rule that picks the pool, and so does `decode`; none by a
    tier."""
    (flow,) = (await explained(api, source="2001:db8:77::5"))["flows"]
    assert (flow["rule"], flow["judgement"]["rule"], flow["priority"]) == (None, None, 0)
    rules = [
        {"when": {"tier": ["standard"]}, "pool": "fast"},
        {"when": {"tier": ["gold"]}, "pool": "slow", "priority": 6},
    ]
    await api.ok("PATCH", "clusters/web", {"select": rules})
    api.snapshots.append(await api.store.snapshots.load())
    (flow,) = (await explained(api, source="2001:db8:77::5"))["flows"]
    assert (flow["pool"], flow["rule"], flow["judgement"]["rule"], flow["priority"]) == ("slow", "2", "2", 6)
    decoded = await api.ok("GET", f"decode?address={flow['address']}")
    assert decoded["rule"] == "2"
    assert {"title": "route", "detail": "rule 2 fits first: tier gold", "ok": True} in decoded["steps"]
    assert decoded["steps"][-1]["detail"] == "accepted as issued: tier gold, pool slow, priority 6"
    await api.ok("PATCH", "clients/acme", {"pool": "fast"})
    api.snapshots.append(await api.store.snapshots.load())
    assert (await api.ok("GET", f"decode?address={flow['address']}"))["rule"] == "client"


async def test_weights(api: Api) -> None:
    """The pool's servers stand with weights and shares, and the port chooses among them as it does in earnest."""
    explanation = await explained(api)
    (flow,) = explanation["flows"]
    shares = {one["server"]: one["share"] for one in flow["candidates"]}
    assert shares["slow-1"] == pytest.approx(2 / 3, abs=0.01)
    assert shares["slow-2"] == pytest.approx(1 / 3, abs=0.01)
    tables = DispatchTables(await api.store.snapshots.load())
    for port in range(5000, 5008):
        (flow,) = (await api.ok("POST", "explain", _asked(flow_port=port)))["flows"]
        packet = syn(ip_address("2001:db8::1"), port, ip_address("2001:db8:a:1::1"), 443)
        verdict = decide(packet, tables, Flows(4), 0)
        assert verdict.server is not None
        assert flow["server"] == verdict.server.name


async def test_other_answers(api: Api) -> None:
    """Aliases, hints, static records and refusals are explained too."""
    shop = await explained(api, qname="shop.example.test")
    assert shop["answer"]["records"][0] == "shop.example.test. 300 IN CNAME www.example.test."
    https = await explained(api, qtype="https", source="2001:db8:77::5")
    assert [flow["reason"] for flow in https["flows"]] == ["class", "issued"]
    static = await explained(api, qname="ns1.example.test")
    assert static["answer"]["addresses"][0]["service"] is None
    assert static["flows"][0]["reason"] == "not-ours"
    assert (await explained(api, qname="other.test"))["answer"]["rcode"] == "REFUSED"
    assert (await explained(api, qname="no.example.test"))["answer"]["rcode"] == "NXDOMAIN"
    assert (await explained(api, qtype="A", source="2001:db8:77::5"))["answer"]["kind"] == "class"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"qname": "a..b"}, "explain.qname"),
        ({"qtype": "NONSENSE"}, "explain.qtype"),
        ({"source": "x"}, "explain.source"),
        ({"ecs": "198.51.100.0/33"}, "explain.ecs"),
        ({"tsig": "nobody"}, "explain.tsig"),
        ({"token": "nobody"}, "explain.token"),
        ({"tls": "acme", "transport": "tcp"}, "explain.transport"),
        ({"transport": "pigeon"}, "explain.transport"),
        ({"flow_port": 70000}, "explain.flow_port"),
        ({"sauce": 1}, "explain.sauce"),
    ],
)
async def test_wrong_questions(api: Api, change: dict[str, Any], where: str) -> None:
    """What cannot be asked is refused by its key."""
    answer = await api("POST", "explain", _asked(**change))
    assert answer.status == 422, answer.text
    assert [error["where"] for error in answer.json["errors"]] == [where]


def _asked(**change: Any) -> dict[str, Any]:
    return {"qname": "www.example.test", "source": "192.0.2.200"} | change


HINTS = ",".join(f"10.1.{n >> 8}.{n & 255}" for n in range(1000))


@pytest.mark.parametrize(
    ("records", "qtype", "shown"),
    [([f"A 10.0.{n >> 8}.{n & 255}" for n in range(1000)], "A", 100), ([f"HTTPS 1 . ipv4hint={HINTS}"], "HTTPS", 1)],
    ids=["records", "hints"],
)
async def test_a_large_set(api: Api, records: list[str], qtype: str, shown: int) -> None:
    """Of a set with very many records or addresses some are shown and led on: each takes a millisecond of the process
    that answers DNS."""
    head = "@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
    text = "$TTL 60\n" + head + "".join(f"many {record}\n" for record in records)
    await api.ok("PUT", "zones/large.test", {"text": text})
    api.snapshots.append(await api.store.snapshots.load())
    explanation = await explained(api, qname="many.large.test", qtype=qtype)
    answer = explanation["answer"]
    assert (len(answer["records"]), answer["left_out"]) == (shown, len(records) - shown)
    assert len(answer["addresses"]) == len(explanation["flows"]) == 16
