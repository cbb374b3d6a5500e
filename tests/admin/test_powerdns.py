"""Zone records by PowerDNS's API: what its clients send, a real client of it, and what a challenge token may do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dns.zone
import pytest

from dnsvip.dns.zones.edit import Replacement, edited, record_sets
from dnsvip.errors import InvalidSite
from dnsvip.site import Zone
from tests.admin.conftest import Api
from tests.node.serving import node, within

LEXICON = """
import json, sys
from lexicon.client import Client
from lexicon.config import ConfigResolver
print(json.dumps(Client(ConfigResolver().with_dict(json.loads(sys.argv[1]))).execute()))
"""

ZONE = "servers/localhost/zones/example.test."
TXT = "_acme-challenge.www.example.test."


def change(name: str, rtype: str, *contents: str, **more: Any) -> dict[str, Any]:
    """One entry of a PATCH."""
    records = [{"content": content, "disabled": False} for content in contents]
    return {"name": name, "type": rtype, "ttl": 60, "changetype": "REPLACE", "records": records, **more}


async def rrset(api: Api, name: str, rtype: str) -> Any:
    """A record set of the zone, None where there is none."""
    found = (await api.ok("GET", ZONE))["rrsets"]
    return next((each for each in found if (each["name"], each["type"]) == (name, rtype)), None)


async def test_looking(api: Api) -> None:
    """Version, server, zones and one zone come in PowerDNS's form, by X-API-Key."""
    headers = {"X-API-Key": api.token, "Authorization": ""}
    async with api.client.get("/api", headers={"X-API-Key": api.token}) as response:
        assert await response.json() == [{"version": 1, "url": "/api/v1"}]
    (server,) = await api.ok("GET", "servers", headers=headers)
    assert (server["id"], server["daemon_type"]) == ("localhost", "authoritative")
    (listed,) = await api.ok("GET", "servers/localhost/zones", headers=headers)
    assert (listed["id"], listed["kind"], listed["serial"]) == ("example.test.", "Native", 2026112301)
    assert await api.ok("GET", "servers/localhost/zones?zone=other.test.", headers=headers) == []
    assert (await rrset(api, "mail.example.test.", "A"))["records"] == [{"content": "192.0.2.25", "disabled": False}]
    assert "rrsets" not in await api.ok("GET", f"{ZONE}?rrsets=false")
    (one,) = (await api.ok("GET", f"{ZONE}?rrset_name=mail.example.test.&rrset_type=A"))["rrsets"]
    assert one["ttl"] == 300
    mail = (await api.ok("GET", f"{ZONE}?rrset_type=MX"))["rrsets"]
    assert {each["type"] for each in mail} == {"MX"}


async def test_patching(api: Api) -> None:
    """Record sets are replaced and deleted together, the serial rises once, and the same again changes nothing."""
    before = await api.store.generation()
    changes = [
        change(TXT, "TXT", '"one"', '"two"'),
        change("mail.example.test.", "A", "192.0.2.99"),
        change("ns2.example.test.", "AAAA", changetype="DELETE"),
        change("*.apps.example.test.", "CNAME", "mail.example.test."),
    ]
    assert (await api("PATCH", ZONE, {"rrsets": changes})).status == 204
    assert await api.store.generation() == before + 1
    assert {r["content"] for r in (await rrset(api, TXT, "TXT"))["records"]} == {'"one"', '"two"'}
    assert (await rrset(api, "mail.example.test.", "A"))["records"][0]["content"] == "192.0.2.99"
    assert await rrset(api, "ns2.example.test.", "AAAA") is None
    assert (await api.ok("GET", ZONE))["serial"] == 2026112302
    assert (await api("PATCH", ZONE, {"rrsets": changes})).status == 204
    assert await api.store.generation() == before + 1
    assert await rrset(api, "www.example.test.", "HTTPS") is not None
    assert (await api("PUT", f"{ZONE}/notify")).status == 200


WRONG: list[tuple[dict[str, Any], int]] = [
    (change("www.other.test.", "A", "192.0.2.1"), 422),
    (change("a.example.test.", "A", "nonsense"), 422),
    (change("a.example.test.", "NONSENSE", "x"), 422),
    (change("mail.example.test.", "CNAME", "x.test."), 422),
    (change("example.test.", "SOA", changetype="DELETE"), 422),
    (change("www.example.test.", "CNAME", "mail.example.test."), 422),
    (change("a.example.test.", "A", "192.0.2.1", changetype="EXTEND"), 422),
    (change("a.example.test.", "ANY", "x"), 422),
]


@pytest.mark.parametrize(("wrong", "status"), WRONG, ids=lambda value: str(value)[:60])
async def test_refusals(api: Api, wrong: dict[str, Any], status: int) -> None:
    """What the zone cannot hold is refused with its reason as `error`, and nothing of the request is stored."""
    before = await api.store.snapshots.load()
    answer = await api("PATCH", ZONE, {"rrsets": [change("ok.example.test.", "A", "192.0.2.1"), wrong]})
    assert answer.status == status, answer.text
    assert answer.json["error"]
    assert await api.store.snapshots.refresh(before) is before
    assert (await api("GET", "servers/localhost/zones/other.test.")).status == 404


async def test_a_token_for_challenges(api: Api) -> None:
    """A token of the role acme changes TXT records at _acme-challenge and nothing else, narrowed to its zones."""
    scopes = [{"actions": ["read"], "kinds": ["zone"]}, {"actions": ["write"], "kinds": ["acme"], "zones": ["other.*"]}]
    for body, allowed in (({"role": "acme"}, True), ({"scopes": scopes}, False)):
        made = await api.ok("POST", "tokens", {"name": "acme" if allowed else "narrow"} | body)
        headers = {"X-API-Key": made["token"], "Authorization": ""}
        answer = await api("PATCH", ZONE, {"rrsets": [change(TXT, "TXT", '"x"')]}, headers=headers)
        assert (answer.status == 204) is allowed, answer.text
        for other in (change("www.example.test.", "TXT", '"x"'), change(TXT, "A", "192.0.2.1")):
            refused = await api("PATCH", ZONE, {"rrsets": [change(TXT, "TXT", '"y"'), other]}, headers=headers)
            assert refused.status == 403
            assert "write:zone" in refused.json["error"]
        assert (await api("PUT", "zones/example.test", {"text": ""}, headers=headers)).status == 403


def test_an_edit_keeps_all_else() -> None:
    """An edited zone has the same records as before but for the edit, whatever form its text had."""
    text = "$TTL 1h\n@ SOA ns1 host 4294967295 1 2 3 4 ; serial\n NS ns1\n$ORIGIN sub.example.test.\nns1 A 192.0.2.1\n"
    text += 'x.example.test. 5 IN TXT "a;b" "c\\"d"\n\\@odd A 192.0.2.3\n'
    zone = Zone("example.test", text)
    after = edited(zone, [Replacement("New.example.test.", "AAAA", 60, ("2001:db8::1",))])
    assert {(s.name, s.rtype, s.ttl, s.records) for s in record_sets(after) if s.rtype not in ("SOA", "AAAA")} == {
        (s.name, s.rtype, s.ttl, s.records) for s in record_sets(zone) if s.rtype != "SOA"
    }
    parsed = dns.zone.from_text(after.text, "example.test.", check_origin=False)
    assert parsed.find_rrset("new", "AAAA").ttl == 60
    assert parsed.find_rrset("@", "SOA")[0].serial == 1  # after 4294967295 comes 0, which some take for none
    assert edited(after, []) is after
    with pytest.raises(InvalidSite):
        edited(Zone("example.test", "nonsense"), [])


def test_a_real_client(tmp_path: Path) -> None:
    """dns-lexicon's PowerDNS provider makes, lists, updates and deletes records, and DNS answers by them."""
    with node(tmp_path) as served:
        served.apply()
        served.start("--token-file", "token")

        def lexicon(action: str, name: str, content: str | None = None) -> Any:
            options = {"auth_token": served.token, "pdns_server": f"http://127.0.0.1:{served.api}"}
            asked = {"provider_name": "powerdns", "action": action, "domain": "example.org", "type": "TXT"}
            asked |= {"name": name, "content": content, "powerdns": options | {"pdns_disable_notify": "true"}}
            argv = [sys.executable, "-c", LEXICON, json.dumps(asked)]
            env = {**os.environ, "HOME": str(tmp_path), "TLDEXTRACT_CACHE": str(tmp_path / "tld")}
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout.splitlines()[-1])

        text = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"
        assert served.curl("PUT", "zones/example.org", {"text": text})[0] == 201
        name = "_acme-challenge.example.org"
        assert lexicon("create", name, "token-1") is True
        within(20, lambda: served.dig("TXT", name) == '"token-1"')
        assert [record["content"] for record in lexicon("list", name)] == ["token-1"]
        assert lexicon("create", name, "token-2") is True
        within(20, lambda: set(served.dig("TXT", name).split()) == {'"token-1"', '"token-2"'})
        assert lexicon("delete", name) is True
        within(20, lambda: served.dig("TXT", name) == "")
