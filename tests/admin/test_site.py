"""A whole site in one call, and services that nobody could ask for."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tests.admin.conftest import EXAMPLE, Api


def whole() -> dict[str, Any]:
    """The example site as JSON."""
    tables = tomllib.loads(EXAMPLE.read_text())
    text = EXAMPLE.with_name("example.test.zone").read_text()
    return tables | {"zone": {"example.test": {"text": text}}}


async def test_apply(api: Api) -> None:
    """A whole site is planned, tried, applied as one generation, and changes nothing a second time."""
    before = await api.store.generation()
    same = await api.ok("POST", "apply", whole())
    assert (same["applied"], same["number"], same["generation"]) == (False, 0, before)
    site = whole()
    site["tier"]["gold"]["dscp"] = 10
    site["client"]["new"] = {"id": 7, "tier": "gold"}
    del site["client"]["newsreader"]
    tried = await api.ok("POST", "apply?dry_run=true", site)
    assert (tried["applied"], tried["number"]) == (False, 3)
    assert await api.store.generation() == before
    done = await api("POST", "apply", site)
    assert done.headers["Dnsvip-Generation"] == str(before + 1) == str(done.json["generation"])
    assert {(c["action"], c["kind"], c["name"]) for c in done.json["changes"]} == {
        ("~", "tier", "gold"),
        ("+", "client", "new"),
        ("-", "client", "newsreader"),
    }
    assert next(c for c in done.json["changes"] if c["kind"] == "tier")["fields"] == {"dscp": {"old": 34, "new": 10}}
    assert done.json["warnings"]
    assert "c2VjcmV0" not in done.text


async def test_a_serial_that_is_not_raised(api: Api) -> None:
    """A zone whose records change while its serial does not is warned of, by apply and in the answer to a PUT."""
    site, warning = whole(), "has changed, but its serial"
    site["zone"]["example.test"]["text"] += "more 60 A 192.0.2.77\n"
    done = await api.ok("POST", "apply", site)
    assert [each["where"] for each in done["warnings"] if warning in each["message"]] == ["zone.example.test"]
    assert not [each for each in (await api.ok("POST", "apply", site))["warnings"] if warning in each["message"]]
    text = site["zone"]["example.test"]["text"]
    for line, warned in (("; a remark\n", False), ("again 60 A 192.0.2.78\n", True)):
        answer = await api("PUT", "zones/example.test", {"text": text + line})
        assert (warning in answer.headers.get("Dnsvip-Warning", "")) is warned
    assert (await api("PUT", "zones/example.test", {"text": text + "$UNICODE 2008\n"})).status == 422
    hostile = await api("PUT", "zones/example.test", {"text": text + "m TYPE41 \\# 0\n"})
    assert hostile.status == 422
    assert "pseudo-record" in hostile.text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"tier": {"x": {"code": 1, "pool": "nowhere"}}}, "tier.gold.pool"),
        ({"colour": {}}, "colour"),
        ({"classify": [1]}, "classify"),
        ({"zone": {"example.test": {"file": "/etc/passwd"}}}, "zone.example.test.file"),
        ({"zone": {"example.test": {"text": "nonsense"}}}, "zone.example.test"),
        ({"client": {"acme": {"id": 1, "tier": "gold", "state": "revoked"}}}, "client.acme"),
    ],
)
async def test_a_wrong_site(api: Api, change: dict[str, Any], where: str) -> None:
    """A site with anything wrong is refused whole; no file of the server is read for it."""
    before = await api.store.snapshots.load()
    site = whole() | change
    if "tier" in change:
        site["tier"] = whole()["tier"] | {"gold": {"code": 1, "pool": "nowhere"}}
    answer = await api("POST", "apply", site)
    assert answer.status == 422, answer.text
    assert where in {error["where"] for error in answer.json["errors"]}
    assert "root:" not in answer.text
    assert await api.store.snapshots.refresh(before) is before


async def test_services_that_nobody_could_ask_for(api: Api) -> None:
    """A service whose zone aliases or delegates its name is refused, and so is a zone that would do that to one."""
    refused = await api("PUT", "services/shop.example.test", {"cluster": "web"})
    assert refused.status == 422
    assert "has a CNAME there" in refused.text
    text = EXAMPLE.with_name("example.test.zone").read_text()
    for line in ("www IN CNAME mail\n", "www IN NS ns1.other.test.\n"):
        zone = "\n".join(each for each in text.splitlines() if "HTTPS" not in each) + "\n" + line
        answer = await api("PUT", "zones/example.test", {"text": zone})
        assert answer.status == 422, answer.text
        assert "service.www.example.test" in answer.text
    assert (await api("PUT", "services/api.example.test", {"cluster": "web"})).status == 201
