"""Zone records by PowerDNS's API: what its clients send, a real client of it, and what a challenge token may do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dns.name
import dns.rdata
import dns.rdatatype
import dns.zone
import octodns.record
import octodns.zone
import pytest
from octodns_powerdns import PowerDnsProvider

from dnsvip.admin.http.limits import LIMITS
from dnsvip.admin.http.work import JOBS
from dnsvip.admin.powerdns import jobs
from dnsvip.dns.zones.content import content_of, read_content
from dnsvip.dns.zones.edit import Replacement, edited
from dnsvip.dns.zones.sets import Comment, ZoneSets, read_sets
from dnsvip.dns.zones.zonefile import read_zone
from dnsvip.errors import InvalidSite
from dnsvip.site import Zone
from dnsvip.site.node_admin import AdminLimits
from dnsvip.site.plan import Change
from tests.admin.conftest import Answer, Api
from tests.node.serving import node, within

LEXICON = """
import json, sys
from lexicon.client import Client
from lexicon.config import ConfigResolver
print(json.dumps(Client(ConfigResolver().with_dict(json.loads(sys.argv[1]))).execute()))
"""

HEAD = "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns.other.test.\n"
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
    assert (await api("PUT", f"{ZONE}/notify")).status == 501


async def test_an_edit_of_the_state_that_was_seen(api: Api) -> None:
    """A zone is read with its tag, and an edit with `If-Match` is made of that state only."""
    seen = (await api("GET", ZONE)).headers["ETag"]
    assert (await api("GET", "zones/example.test")).headers["ETag"] == seen
    first, second = (change("mail.example.test.", "A", f"192.0.2.{host}") for host in (1, 2))
    assert (await api("PATCH", ZONE, {"rrsets": [first]}, headers={"If-Match": seen})).status == 204
    assert (await api("PATCH", ZONE, {"rrsets": [second]}, headers={"If-Match": seen})).status == 412
    assert (await rrset(api, "mail.example.test.", "A"))["records"][0]["content"] == "192.0.2.1"
    now = (await api("GET", ZONE)).headers["ETag"]
    assert (await api("PATCH", ZONE, {"rrsets": [second]}, headers={"If-Match": now})).status == 204


async def test_all_faults_of_an_edit(api: Api) -> None:
    """Each record that cannot be read is named by its place, and each set that cannot be where it is."""
    wrong = [
        change("a.example.test.", "A", "nonsense", "192.0.2.1", "192.0.2.256"),
        change("mail.example.test.", "CNAME", "x.test."),
    ]
    answer = await api("PATCH", ZONE, {"rrsets": wrong})
    at = "zone.example.test"
    assert [each["where"] for each in answer.json["errors"]] == [
        f"{at}.a.example.test..A.records.0",
        f"{at}.a.example.test..A.records.2",
        f"{at}.mail.example.test..CNAME",
    ]


async def test_single_records(api: Api) -> None:
    """EXTEND and PRUNE, as PowerDNS 5 has them, add to a set and take from it, and say nothing of its other records."""
    name = "mail.example.test."

    async def patched(*contents: str, **more: Any) -> set[str]:
        assert (await api("PATCH", ZONE, {"rrsets": [change(name, "A", *contents, **more)]})).status == 204
        found = await rrset(api, name, "A")
        return {record["content"] for record in found["records"]} if found else set()

    assert await patched("192.0.2.26", "192.0.2.25", changetype="EXTEND", ttl=None) == {"192.0.2.25", "192.0.2.26"}
    assert (await rrset(api, name, "A"))["ttl"] == 300
    assert await patched("192.0.2.27", changetype="EXTEND", ttl=60) == {"192.0.2.25", "192.0.2.26", "192.0.2.27"}
    assert (await rrset(api, name, "A"))["ttl"] == 60
    serial = (await api.ok("GET", ZONE))["serial"]
    assert await patched("192.0.2.99", changetype="PRUNE") == {"192.0.2.25", "192.0.2.26", "192.0.2.27"}
    assert (await api.ok("GET", ZONE))["serial"] == serial
    assert await patched("192.0.2.25", "192.0.2.27", changetype="prune") == {"192.0.2.26"}
    assert await patched("192.0.2.26", changetype="PRUNE") == set()


WRONG: list[tuple[dict[str, Any], int]] = [
    (change("www.other.test.", "A", "192.0.2.1"), 422),
    (change("a.example.test.", "A", "nonsense"), 422),
    (change("a.example.test.", "NONSENSE", "x"), 422),
    (change("mail.example.test.", "CNAME", "x.test."), 422),
    (change("example.test.", "SOA", changetype="DELETE"), 422),
    (change("www.example.test.", "CNAME", "mail.example.test."), 422),
    (change("a.example.test.", "A", "192.0.2.1", changetype="ENLARGE"), 422),
    (change("a.example.test.", "A", changetype="EXTEND"), 422),
    ({"name": "a.example.test.", "type": "A", "changetype": "PRUNE"}, 422),
    ({**change("a.example.test.", "A", "192.0.2.1", changetype="EXTEND"), "ttl": None}, 422),
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


async def test_what_a_zone_cannot_have_is_said(api: Api) -> None:
    """A zone of a kind that is not served here, an account, or a body without a name: refused with the reason."""
    zones = "servers/localhost/zones"
    good = {"name": "new.test.", "kind": "Native", "nameservers": ["ns1.other.test."]}
    for wrong in (
        {"kind": "Slave"},
        {"kind": "Slave", "masters": ["192.0.2.1"]},
        {"kind": "Slave", "masters": ["nonsense"], "nameservers": []},
        {"kind": "Nonsense"},
        {"account": "me"},
        {"masters": ["192.0.2.1"]},
        {"nsec3param": "1 0 0 -"},
        {"name": "new.test"},
        {"nameservers": ["ns1.other.test. ; x"]},
        {"zone": "nonsense"},
        {"zone": "@ 60 SOA a. b. 1 2 3 4 5\n@ 60 NS a.\n", "rrsets": [change("a.new.test.", "A", "192.0.2.1")]},
    ):
        answer = await api("POST", zones, {**good, **wrong})
        assert answer.status == 422, (wrong, answer.text)
        assert answer.json["error"]
    assert (await api("PUT", ZONE, {"account": "me"})).status == 422
    assert (await api("DELETE", ZONE)).status == 409  # services are in it
    assert (await api("POST", zones, {**good, "dnssec": True})).status == 201
    (key,) = await api.ok("GET", f"{zones}/new.test./cryptokeys")
    (ds,) = (await api.ok("GET", "zones/new.test/ds"))["records"]
    assert key["ds"][0].upper() == ds.partition(" DS ")[2]
    assert (key["keytype"], key["active"], "privatekey" in key) == ("csk", True, False)
    assert (await api("DELETE", f"{zones}/new.test.")).status == 204


async def test_a_secondary_zone(api: Api) -> None:
    """A zone of the kind Slave is transferred from its masters: it has no records yet, and takes none."""
    zones, name = "servers/localhost/zones", "away.test."
    made = await api.ok("POST", zones, {"name": name, "kind": "Slave", "masters": ["192.0.2.1", "2001:db8::1"]})
    assert (made["kind"], made["masters"], made["rrsets"]) == ("Slave", ["192.0.2.1", "[2001:db8::1]"], [])
    stored = await api.ok("GET", "zones/away.test")
    assert stored["primaries"] == ["192.0.2.1:53", "[2001:db8::1]:53"]
    assert (await api("PUT", f"{zones}/{name}", {"kind": "Slave", "masters": ["192.0.2.2:5300"]})).status == 204
    assert (await api.ok("GET", f"{zones}/{name}"))["masters"] == ["192.0.2.2:5300"]
    for wrong in ({"kind": "Native"}, {"masters": []}):
        assert (await api("PUT", f"{zones}/{name}", wrong)).status == 422
    assert (await api("PUT", ZONE, {"masters": ["192.0.2.1"]})).status == 422
    wanted = {"rrsets": [change("a.away.test.", "A", "192.0.2.1")]}
    assert (await api("PATCH", f"{zones}/{name}", wanted)).status == 422
    found = await api.ok("GET", "servers/localhost/search-data?q=*away*")
    assert found == [{"object_type": "zone", "name": name, "zone_id": name}]


async def test_metadata_is_what_the_zone_has(api: Api) -> None:
    """Settings that PowerDNS keeps as metadata are shown by its names."""
    body = {"transfer": {"to": ["192.0.2.0/24"]}, "notify": ["192.0.2.53:53"]}
    await api.ok("PATCH", "zones/example.test", body)
    known = {one["kind"]: one["metadata"] for one in await api.ok("GET", f"{ZONE}/metadata")}
    assert known == {
        "ALLOW-AXFR-FROM": ["192.0.2.0/24"],
        "ALSO-NOTIFY": ["192.0.2.53"],
        "SOA-EDIT-API": ["DEFAULT"],
    }
    assert (await api.ok("GET", f"{ZONE}/metadata/also-notify"))["metadata"] == ["192.0.2.53"]


async def test_metadata_is_written(api: Api) -> None:
    """What has a meaning here is set, as in the zone's own fields; other kinds and values are refused with a reason."""
    for key in ("one", "two"):
        await api.ok("PUT", f"tsig/{key}", {"secret": "c2VjcmV0IG9mIHRoZSB0ZXN0IGtleSBvbmUgdHdv"})
    for kind, values in {
        "ALSO-NOTIFY": ["192.0.2.1", "[2001:db8::1]:5300"],
        "TSIG-ALLOW-AXFR": ["one."],
        "TSIG-ALLOW-DNSUPDATE": ["One", "two."],
    }.items():
        await api.ok("PUT", f"{ZONE}/metadata/{kind}", {"metadata": values})
    await api.ok("POST", f"{ZONE}/metadata", {"kind": "ALLOW-AXFR-FROM", "metadata": ["192.0.2.0/24"]})
    zone = await api.ok("GET", "zones/example.test")
    assert zone["notify"] == ["192.0.2.1:53", "[2001:db8::1]:5300"]
    assert zone["transfer"].items() >= {"to": ["192.0.2.0/24"], "tsig": "one"}.items()
    assert [(rule["tsig"], rule["names"]) for rule in zone["update"]] == [("one", []), ("two", [])]
    await api.ok("PUT", f"{ZONE}/metadata/TSIG-ALLOW-DNSUPDATE", {"metadata": ["two"]})
    for kind in ("ALLOW-AXFR-FROM", "ALSO-NOTIFY"):
        assert (await api("DELETE", f"{ZONE}/metadata/{kind}")).status == 200
    assert (await api("PUT", ZONE, {"master_tsig_key_ids": []})).status == 204
    zone = await api.ok("GET", "zones/example.test")
    assert (zone["notify"], zone["transfer"], [rule["tsig"] for rule in zone["update"]]) == ([], None, ["two"])
    for kind, value, why in (
        ("NSEC3PARAM", "1 0 0 -", "sign it first"),
        ("SOA-EDIT-API", "EPOCH", "must be 'DEFAULT' or 'INCREASE'"),
        ("SOA-EDIT", "EPOCH", "a serial changes with its zone"),
        ("ALLOW-AXFR-FROM", "AUTO-NS", "transfer.to.0"),
        ("X-MINE", "1", "no such setting"),
    ):
        refused = await api("PUT", f"{ZONE}/metadata/{kind}", {"metadata": [value]})
        assert (refused.status, why in refused.json["error"]) == (422, True), refused.json


async def test_keys_are_written(api: Api) -> None:
    """The first key signs a zone, a further one is rolled, and without its last key a zone is not signed; what no step
    leads to names the state that the key is in."""
    keys = f"{ZONE}/cryptokeys"

    async def refused(method: str, path: str, body: Any) -> str:
        answer = await api(method, path, body)
        assert answer.status == 422
        return str(answer.json["error"])

    made = await api.ok("POST", keys, {"keytype": "csk", "active": True, "algorithm": "ed25519"})
    assert (made["id"], made["keytype"], made["algorithm"], made["active"]) == (1, "csk", "ED25519", True)
    zone = await api.ok("GET", "zones/example.test")
    assert (zone["dnssec"]["enabled"], zone["dnssec"]["algorithm"]) == (True, "ed25519")
    assert "dnssec.algorithm" in await refused("POST", keys, {"keytype": "csk", "active": True, "algorithm": 13})
    assert "takes its place" in await refused("POST", keys, {"keytype": "csk"})
    assert "is signed" in await refused("POST", keys, {"keytype": "csk", "content": PRIVATE})
    second = await api.ok("POST", keys, {"keytype": "ksk", "active": True})
    assert (second["id"], second["active"], second["published"]) == (2, False, True)
    assert "key 2 is published" in await refused("PUT", f"{keys}/2", {"active": True})
    assert "key 1 is active" in await refused("PUT", f"{keys}/1", {"active": False})
    assert "published" in await refused("PUT", f"{keys}/1", {"active": True, "published": False})
    assert "key 1 is active" in await refused("DELETE", f"{keys}/1", None)
    assert (await api("DELETE", f"{keys}/2")).status == 204
    zsk = await api.ok("POST", keys, {"keytype": "zsk", "active": True})
    assert (zsk["keytype"], (await api.ok("GET", "zones/example.test"))["dnssec"]["split"]) == ("zsk", True)
    assert (await api("PUT", f"{keys}/1", {"active": False})).status == 204
    assert not (await api.ok("GET", "zones/example.test"))["dnssec"]["enabled"]
    for key in (1, 2):
        assert (await api("DELETE", f"{keys}/{key}")).status == 204
    assert "zsk comes beside" in await refused("POST", keys, {"keytype": "zsk", "active": True})
    assert "PrivateKey" in await refused("POST", keys, {"keytype": "csk", "content": PRIVATE.replace("GU6", "GU")})
    assert (await api.ok("POST", keys, {"keytype": "ksk", "content": PRIVATE}))["active"] is False
    assert (await api.ok("POST", keys, {"keytype": "zsk"}))["id"] == 2
    assert (await api("PUT", f"{keys}/1", {"active": True})).status == 204
    shown = await api.ok("GET", keys)
    assert [(key["keytype"], key["active"]) for key in shown] == [("ksk", True), ("zsk", True)]
    assert shown[0]["dnskey"].startswith("257 3 13 GojIhhXUN/u4v54Z")  # RFC 6605 section 6.1
    assert "GU6SnQ" not in json.dumps(shown)


PRIVATE = (
    "Private-key-format: v1.2\nAlgorithm: 13 (ECDSAP256SHA256)\n"
    "PrivateKey: GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=\n"
)


async def test_a_search_shows_what_the_caller_may_read(api: Api) -> None:
    """A search finds nothing in zones that its token does not read, and ends at so many."""
    text = "@ 60 IN SOA a. b. 1 2 3 4 5\n@ 60 IN NS a.other.test.\nsecret 60 A 192.0.2.77\n"
    await api.ok("PUT", "zones/hidden.test", {"text": text})
    created = await api.ok("POST", "tokens", {"name": "one", "scopes": [
        {"actions": ["read"], "kinds": ["zone"], "zones": ["example.*"]}
    ]})  # fmt: skip
    headers = {"X-API-Key": created["token"], "Authorization": ""}
    search = "servers/localhost/search-data?q=*test*"
    assert {one["zone_id"] for one in await api.ok("GET", search)} == {"example.test.", "hidden.test."}
    assert {one["zone_id"] for one in await api.ok("GET", search, headers=headers)} == {"example.test."}
    assert len(await api.ok("GET", f"{search}&max=3")) == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dnsvip.admin.powerdns.zones.FOUND_SIZE", 1000)
        some = await api.ok("GET", f"{search}&max=100")
    assert 2 <= len(some) <= 4
    assert len(await api.ok("GET", f"{search}&max=100")) > 4
    assert await api.ok("GET", "servers/localhost/search-data?q=[a-z]*") == []


async def test_a_token_for_challenges_adds_few(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of the role acme adds challenges up to a number of names and a size of each; it goes on replacing and
    deleting them, and others add as many as they want."""
    assert api.client.app is not None
    monkeypatch.setitem(api.client.app._state, LIMITS, AdminLimits(acme_names=5))
    created = await api.ok("POST", "tokens", {"name": "acme", "role": "acme"})
    headers = {"X-API-Key": created["token"], "Authorization": ""}

    async def patched(*names: str, content: str = '"x"', mine: bool = True, **more: str) -> Answer:
        sets = [change(f"_acme-challenge.{name}.example.test.", "TXT", content, **more) for name in names]
        return await api("PATCH", ZONE, {"rrsets": sets}, headers=headers if mine else {})

    assert [(await patched(f"n{n}")).status for n in range(4)] == [204] * 4
    too_many = await patched("a", "b")
    assert too_many.status == 422
    assert "6 names _acme-challenge, more than the 5" in too_many.text
    assert (await patched("a")).status == 204
    assert (await patched("a", content='"' + "y" * 250 + '"')).status == 204
    assert (await patched("b")).status == 422
    assert (await patched("a", content=" ".join(['"' + "y" * 250 + '"'] * 20))).status == 413
    for n in range(5):
        more = await patched("a", content=" ".join([f'"{n:0>250}"'] * 4), changetype="EXTEND")
        assert more.status == (204 if n < 3 else 422), (n, more.text)
    assert "more than the 4096 characters" in more.text
    assert (await patched("b", "c", mine=False)).status == 204
    assert (await patched("d")).status == 422
    assert (await patched("c", content='"z"')).status == 204
    assert (await patched("a", "b", "c", changetype="DELETE")).status == 204
    assert (await patched("d")).status == 204


async def test_a_large_edit_is_made_apart(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a small zone that sets much is made in a process, as one of a large zone is; a token for challenges
    sets no more in a request than it may in all, and no zone is read for it."""
    assert api.client.app is not None
    monkeypatch.setitem(api.client.app._state, LIMITS, AdminLimits(acme_names=5))
    here: list[int] = []

    def noted(before: ZoneSets, wanted: Sequence[Replacement]) -> ZoneSets:
        here.append(len(wanted))
        return edited(before, wanted)

    monkeypatch.setattr(jobs, "edited", noted)
    many = [change(f"_acme-challenge.n{at}.example.test.", "TXT", '"x"') for at in range(60)]
    assert (await api("PATCH", ZONE, {"rrsets": many[:2]})).status == 204
    assert here == [2]
    assert (await api("PATCH", ZONE, {"rrsets": many})).status == 204
    assert here == [2]
    created = await api.ok("POST", "tokens", {"name": "acme", "role": "acme"})
    headers = {"X-API-Key": created["token"], "Authorization": ""}
    refused = await api("PATCH", ZONE, {"rrsets": many[:6]}, headers=headers)
    assert (refused.status, here) == (413, [2])
    assert "5 names in one request, not 6" in refused.json["error"]


async def test_a_token_for_challenges(api: Api) -> None:
    """A token of the role acme changes TXT records at _acme-challenge and nothing else, narrowed to its zones."""
    scopes = [{"actions": ["read"], "kinds": ["zone"]}, {"actions": ["write"], "kinds": ["acme"], "zones": ["other.*"]}]
    for body, allowed in (({"role": "acme"}, True), ({"scopes": scopes}, False)):
        created = await api.ok("POST", "tokens", {"name": "acme" if allowed else "narrow"} | body)
        headers = {"X-API-Key": created["token"], "Authorization": ""}
        answer = await api("PATCH", ZONE, {"rrsets": [change(TXT, "TXT", '"x"')]}, headers=headers)
        assert (answer.status == 204) is allowed, answer.text
        for other in (change("www.example.test.", "TXT", '"x"'), change(TXT, "A", "192.0.2.1")):
            refused = await api("PATCH", ZONE, {"rrsets": [change(TXT, "TXT", '"y"'), other]}, headers=headers)
            assert refused.status == 403
            assert "write:zone" in refused.json["error"]
        assert (await api("PUT", "zones/example.test", {"text": ""}, headers=headers)).status == 403


def put(name: str, rtype: str, *contents: str, ttl: int = 60, disabled: bool = False) -> Replacement:
    """A set that is to have these records."""
    return Replacement(name, rtype, ttl, tuple((content, disabled) for content in contents))


def all_but(zone: Zone, *types: str) -> set[tuple[str, str, int, tuple[str, ...]]]:
    """Name, type, TTL and contents of the sets of a zone, without some types."""
    shown = [(each, tuple(entry.content for entry in each.entries)) for each in read_sets(zone).sets.values()]
    return {(s.name, s.type_name, s.ttl, contents) for s, contents in shown if s.type_name not in types}


def test_an_edit_keeps_all_else() -> None:
    """An edited zone has the same records as before but for the edit, whatever form its text had."""
    text = "$TTL 1h\n@ SOA ns1 host 4294967295 1 2 3 4 ; serial\n NS ns1\n$ORIGIN sub.example.test.\nns1 A 192.0.2.1\n"
    text += 'x.example.test. 5 IN TXT "a;b" "c\\"d"\n\\@odd A 192.0.2.3\n'
    zone = Zone("example.test", text)
    after = edited(read_sets(zone), [put("New.example.test.", "AAAA", "2001:db8::1")])
    assert all_but(after.zone, "SOA", "AAAA") == all_but(zone, "SOA")
    parsed = dns.zone.from_text(after.zone.text, "example.test.", check_origin=False)
    assert parsed.find_rrset("new", "AAAA").ttl == 60
    assert parsed.find_rrset("@", "SOA")[0].serial == 1  # after 4294967295 comes 0, which some take for none
    assert edited(after, []) is after
    with pytest.raises(InvalidSite):
        read_sets(Zone("example.test", "nonsense"))


async def test_comments_and_records_are_replaced_apart(api: Api) -> None:
    """REPLACE with comments alone keeps the records, with records alone the comments; with neither it is refused."""
    name, key = "mail.example.test.", {"name": "mail.example.test.", "type": "A", "changetype": "REPLACE"}
    comment = {"content": "line\nbreak; ü", "account": "ops"}
    assert (await api("PATCH", ZONE, {"rrsets": [{**key, "comments": [comment]}]})).status == 204
    kept = await rrset(api, name, "A")
    assert kept["records"] == [{"content": "192.0.2.25", "disabled": False}]
    assert {**comment, "modified_at": kept["comments"][0]["modified_at"]} == kept["comments"][0]
    assert kept["comments"][0]["modified_at"] > 1_700_000_000
    assert (await api("PATCH", ZONE, {"rrsets": [change(name, "A", "192.0.2.99")]})).status == 204
    assert (await rrset(api, name, "A"))["comments"] == kept["comments"]
    for nothing in (key, {**key, "records": None}, {**key, "ttl": 60}):
        assert (await api("PATCH", ZONE, {"rrsets": [nothing]})).status == 422
    assert (await api("PATCH", ZONE, {"rrsets": [{**key, "ttl": 60, "records": []}]})).status == 204
    assert await rrset(api, name, "A") is None


async def test_disabled_records_are_kept_and_not_served(api: Api) -> None:
    """A disabled record stays in the zone's text as a comment: no query, transfer or zone file reader sees it."""
    name = "off.example.test."
    records = [{"content": "192.0.2.1", "disabled": True}, {"content": "192.0.2.2"}]
    assert (await api("PATCH", ZONE, {"rrsets": [{**change(name, "A"), "records": records}]})).status == 204
    strings = [{"content": f'"{"x" * 300}"', "disabled": True}, {"content": '"\\195\\188 ü"', "disabled": True}]
    assert (await api("PATCH", ZONE, {"rrsets": [{**change(name, "TXT"), "records": strings}]})).status == 204
    text = (await api.ok("GET", "zones/example.test"))["text"]
    assert ";dnsvip-disabled off 60 IN A 192.0.2.1\n" in text
    parsed = dns.zone.from_text(text, "example.test.", check_origin=False)
    assert [r.to_text() for r in parsed.find_rrset("off", "A")] == ["192.0.2.2"]
    assert parsed.get_rrset("off", "TXT") is None
    # Another edit, and the text put back as it is, keep them.
    assert (await api("PATCH", ZONE, {"rrsets": [change("other.example.test.", "A", "192.0.2.7")]})).status == 204
    await api.ok("PUT", "zones/example.test", await api.ok("GET", "zones/example.test"))
    assert {r["content"]: r["disabled"] for r in (await rrset(api, name, "A"))["records"]} == {
        "192.0.2.1": True,
        "192.0.2.2": False,
    }
    assert (await rrset(api, name, "TXT"))["records"] == strings
    assert (await api("PATCH", ZONE, {"rrsets": [change(name, "A", changetype="DELETE")]})).status == 204
    assert "off 60 IN A" not in (await api.ok("GET", "zones/example.test"))["text"]


async def test_a_remark_that_cannot_be_read_is_not_lost(api: Api) -> None:
    """A disabled record that somebody broke by hand is an error with its line, not a record gone."""
    text = (await api.ok("GET", "zones/example.test"))["text"] + "\n;dnsvip-disabled x 60 IN A nonsense\n"
    await api.ok("PUT", "zones/example.test", {"text": text})
    answer = await api("PATCH", ZONE, {"rrsets": [change("a.example.test.", "A", "192.0.2.1")]})
    assert answer.status == 422
    assert f"line {text.count(chr(10))}: ';dnsvip-disabled" in answer.json["error"]


LOST = ["v=DKIM1; k=rsa; p=AB", '"a" ; remark', '"a"\n"b"', '"a\nb"', '"a""b"', '"a" b', "bare", '"open']


@pytest.mark.parametrize("content", LOST)
async def test_no_part_of_a_content_is_lost(api: Api, content: str) -> None:
    """What a zone file's reader would take for a remark, or leave, is refused."""
    assert (await api("PATCH", ZONE, {"rrsets": [change("t.example.test.", "TXT", content)]})).status == 422


async def test_long_strings_are_split_at_255_bytes(api: Api) -> None:
    """A TXT string of any length is served as strings of 255 bytes and shown as it was sent."""
    content = f'"{"é" * 150}"'
    assert (await api("PATCH", ZONE, {"rrsets": [change("t.example.test.", "TXT", content)]})).status == 204
    assert (await rrset(api, "t.example.test.", "TXT"))["records"] == [{"content": content, "disabled": False}]
    parsed = dns.zone.from_text((await api.ok("GET", "zones/example.test"))["text"], "example.test", check_origin=False)
    assert [len(part) for part in parsed.find_rrset("t", "TXT")[0].strings] == [255, 45]


async def test_lenient_where_powerdns_is(api: Api) -> None:
    """A changetype has no case, no Content-Type is needed, and rrset_name finds a name without its last dot."""
    body = json.dumps({"rrsets": [{**change("b.example.test.", "a", "192.0.2.1"), "changetype": "replace"}]})
    for media in ("text/plain", "application/x-www-form-urlencoded"):
        assert (await api("PATCH", ZONE, data=body, headers={"Content-Type": media})).status == 204
    (found,) = (await api.ok("GET", f"{ZONE}?rrset_name=B.example.test"))["rrsets"]
    assert found["records"][0]["content"] == "192.0.2.1"


async def test_strict_where_powerdns_is(api: Api) -> None:
    """One set twice, no set at all, a set without TTL: 422, and nothing is made up."""
    one = change("b.example.test.", "A", "192.0.2.1")
    without = {key: value for key, value in one.items() if key != "ttl"}
    for body in ({"rrsets": [one, {**one, "name": "B.example.test."}]}, {}, {"rrsets": [without]}, {"rrsets": None}):
        assert (await api("PATCH", ZONE, body)).status == 422, body
    assert await rrset(api, "b.example.test.", "A") is None


async def test_ids_of_zones(api: Api) -> None:
    """A zone's id has `=2F` for a slash, and is taken in every form that leads to its name."""
    text = "@ 60 IN SOA a. b. 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"
    await api.ok("PUT", "zones/0%2F26.2.0.192.in-addr.arpa", {"text": text})
    shown = await api.ok("GET", "servers/localhost/zones/0=2F26.2.0.192.in-addr.arpa.")
    assert (shown["id"], shown["name"]) == ("0=2F26.2.0.192.in-addr.arpa.", "0/26.2.0.192.in-addr.arpa.")
    name = "5.0/26.2.0.192.in-addr.arpa."
    path = shown["url"].removeprefix("/api/v1/")
    assert (await api("PATCH", path, {"rrsets": [change(name, "PTR", "a.example.test.")]})).status == 204
    assert len((await api.ok("GET", path))["rrsets"]) == 3


async def test_all_zones_are_listed(api: Api) -> None:
    """Every zone is listed, also those that this node does not serve yet, with the serial of its SOA."""
    text = '@ 60 IN TXT "the SOA is below"\n@ 60 IN SOA a. b. ( 7 ; serial (\n 2 3 4 5 )\n@ 60 IN NS a.other.test.\n'
    changes = [Change("zone", name, "+", None, Zone(name, text)) for name in (f"z{at}.test" for at in range(1005))]
    await api.store.objects.apply(changes, "test", "site")
    listed = await api.ok("GET", "servers/localhost/zones")
    assert len({zone["id"] for zone in listed}) == 1006
    assert {zone["serial"] for zone in listed if zone["id"] != "example.test."} == {7}


async def test_edits_at_once_are_all_made(api: Api) -> None:
    """40 PATCHes of one zone at the same time to different names are all made, also while another writer interferes."""

    async def interfere() -> int:
        text = (await api.ok("GET", "zones/example.test"))["text"]
        return (await api("PATCH", "zones/example.test", {"text": f"{text};\n"})).status

    patches = [api("PATCH", ZONE, {"rrsets": [change(f"n{at}.example.test.", "A", "192.0.2.1")]}) for at in range(40)]
    answers = await asyncio.gather(*patches)
    assert {answer.status for answer in answers} == {204}
    names = {each["name"] for each in (await api.ok("GET", ZONE))["rrsets"]}
    assert {f"n{at}.example.test." for at in range(40)} <= names
    more = [api("PATCH", ZONE, {"rrsets": [change(f"m{at}.example.test.", "A", "192.0.2.1")]}) for at in range(10)]
    *answers, _ = await asyncio.gather(*more, interfere())
    assert {answer.status for answer in answers} == {204}


async def test_who_waits_for_its_turn_keeps_nobody_waiting(api: Api) -> None:
    """While a token's operation goes on, its own edits of a large zone wait; another token's edit is made."""
    text = (await api.ok("GET", "zones/example.test"))["text"]
    text += "".join(f"large{n} 60 TXT {'x' * 200}\n" for n in range(40))
    await api.ok("PATCH", "zones/example.test", {"text": text})
    other = await api.store.tokens.create("other", "test")
    actor = "token test"
    app = api.client.app
    assert app is not None
    async with app[JOBS].turn(actor):
        waiting = asyncio.ensure_future(api("PATCH", ZONE, {"rrsets": [change("a.example.test.", "A", "192.0.2.1")]}))
        while app[JOBS]._owners[actor] < 2:
            assert not waiting.done(), await waiting
            await asyncio.sleep(0.01)
        headers = {"Authorization": f"Bearer {other}"}
        wanted = {"rrsets": [change("b.example.test.", "A", "192.0.2.2")]}
        answer = await asyncio.wait_for(api("PATCH", ZONE, wanted, headers=headers), 30)
        assert answer.status == 204
        assert not waiting.done()
    assert (await waiting).status == 204


async def test_the_wait_for_a_zone_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a zone that somebody else edits without end gets 503 with Retry-After after `turn_seconds`."""
    app = api.client.app
    assert app is not None
    monkeypatch.setitem(app._state, LIMITS, AdminLimits(turn_seconds=1))
    wanted = {"rrsets": [change("b.example.test.", "A", "192.0.2.2")]}
    async with api.store.turns.of("example.test"):
        refused = await asyncio.wait_for(api("PATCH", ZONE, wanted), 30)
        assert (refused.status, refused.json["type"]) == (503, "urn:problem-type:dnsvip:busy")
        assert int(refused.headers["Retry-After"]) > 0
    assert (await api("PATCH", ZONE, wanted)).status == 204


def test_edits_take_linear_time() -> None:
    """3,000 sets in a zone of 10,000 records take a small multiple of one, and little more than reading the zone."""
    head = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"
    zone = Zone("example.test", head + "".join(f"h{at} 300 IN A 192.0.2.1\n" for at in range(10_000)))
    reading, before = seconds(lambda: read_sets(zone))
    wanted = [put(f"{'h' if at % 2 else 'new'}{at}.example.test.", "A", "192.0.2.9") for at in range(3000)]
    one, _ = seconds(lambda: edited(before, wanted[:1]))
    many, after = seconds(lambda: edited(before, wanted))
    assert len(after.sets) == 2 + 10_000 + 1500
    assert many < 6 * reading
    assert many < 40 * one


HOSTS = 10_000
HOSTED = "$TTL 300\n@ SOA a b 1 2 3 4 5\n@ NS a.other.test.\n" + "".join(f"h{n} A 192.0.2.1\n" for n in range(HOSTS))


async def test_a_large_edit_takes_two_seconds(api: Api) -> None:
    """3,000 sets of a zone of 10,000 records in one PATCH take 2 s of processor time, in this process and the job's."""
    await api.ok("PUT", "zones/example.test", {"text": HOSTED})
    app = api.client.app
    assert app is not None
    wanted = [change(f"{'h' if at % 2 else 'new'}{at}.example.test.", "A", "192.0.2.9") for at in range(3000)]
    assert (await api("PATCH", ZONE, {"rrsets": wanted[:100]})).status == 204  # the job's process has started
    pids = [os.getpid(), *app[JOBS].pids]
    began = sum(map(processor_time, pids))
    assert (await api("PATCH", ZONE, {"rrsets": wanted})).status == 204
    assert [os.getpid(), *app[JOBS].pids] == pids
    assert sum(map(processor_time, pids)) - began < 2
    text = (await api.ok("GET", "zones/example.test"))["text"]
    assert text.count("192.0.2.9\n") == 3000


def processor_time(pid: int) -> float:
    """The seconds that a process has run (proc_pid_stat(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def seconds(make: Callable[[], ZoneSets]) -> tuple[float, ZoneSets]:
    """The CPU time of a call and what it gives."""
    began = time.process_time()
    result = make()
    return time.process_time() - began, result


async def test_other_records_stay_byte_for_byte(api: Api) -> None:
    """After the first edit has made the text canonical, an edit changes its own lines and the SOA's only."""
    assert (await api("PATCH", ZONE, {"rrsets": [change("a.example.test.", "A", "192.0.2.1")]})).status == 204
    before = (await api.ok("GET", "zones/example.test"))["text"].splitlines()
    assert (await api("PATCH", ZONE, {"rrsets": [change("b.example.test.", "TXT", '"x"')]})).status == 204
    after = (await api.ok("GET", "zones/example.test"))["text"].splitlines()
    assert [line for line in after if line not in before] == [
        next(line for line in after if "\tSOA\t" in line),
        'b\t60\tIN\tTXT\t"x"',
    ]
    assert [line for line in before if line not in after] == [next(line for line in before if "\tSOA\t" in line)]


SHOWN = {
    "LOC": ("51 56 0.123 N 5 54 0 E 4m", "51 56 0.123 N 5 54 0.000 E 4.00m 1.00m 10000.00m 10.00m"),
    "HTTPS": ('1 . alpn="h2,h3" port=8443 key99="a b"', '1 . alpn=h2,h3 port=8443 key99="a b"'),
    "DNSKEY": (f"257 3 13 {'AAAA ' * 20}", f"257 3 13 {'AAAA' * 20}"),
    "CERT": ("PKIX 2 3 AAAA", "1 2 3 AAAA"),
    "TYPE65280": ("\\# 2 AB CD", "\\# 2 abcd"),
    "TYPE65281": ("\\# 0", "\\# 0"),
    "TXT": ('a \'b "c;\\"" \\000', '"a" "\'b" "c;\\"" "\\000"'),
    "NAPTR": ('1 1 "u" "a b" "!^.*$!\\\\1!" .', '1 1 "u" "a b" "!^.*$!\\\\1!" .'),
    "CAA": ('0 issue "a;b\\"c"', '0 issue "a;b\\"c"'),
    "PTR": ("a\\032b\\.c.", "a\\032b\\.c."),
    "CSYNC": ("1 1 A", "1 1 A"),
    "SVCB": ('1 a. alpn="a\\\\,b"', '1 a. alpn="a\\\\,b"'),
    "HINFO": ("a b", '"a" "b"'),
    "L64": ("10 2001:0DB8:1140:1000", "10 2001:0DB8:1140:1000"),
}
"""Record data in a zone file, and as the API shows it."""


@pytest.mark.parametrize("rtype", SHOWN)
def test_what_is_shown_can_be_sent_back(rtype: str) -> None:
    """A content that the API shows is one that it takes, and means the same record."""
    text, shown = SHOWN[rtype]
    number = dns.rdatatype.from_text(rtype)
    rdata = dns.rdata.from_text("IN", rtype, text, dns.name.root, relativize=False)
    assert content_of(rdata) == shown
    assert read_content(number, shown) == rdata


def test_a_text_holds_all_that_sets_hold() -> None:
    """Sets written as text are the same when read: disabled records, comments, and strings as they were written."""
    zone = Zone("example.test", "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n")
    comment = Comment('a "quoted"; line\nü\u2028', "ops", 7)
    records = (('"\\097 b"', False), ('"c;d"', True), (f'"{"x" * 600}"', False))
    wanted = [
        Replacement("a\\032b.example.test.", "TXT", 60, records, (comment, comment)),
        Replacement("example.test.", "MX", 60, (("0 .", True), ("1 X.Example.", False))),
        Replacement("only.example.test.", "A", 0, None, (comment,)),
        Replacement("off.example.test.", "LOC", 5, ((SHOWN["LOC"][1], True),)),
    ]
    after = edited(read_sets(zone), wanted)
    assert read_sets(after.zone) == after
    assert edited(after, wanted) is after


async def test_octodns(api: Api) -> None:
    """octoDNS's PowerDNS provider reads the version, makes records of many kinds, and then finds nothing to change."""
    url = api.client.make_url("")
    text = "@ 60 IN SOA a. b. 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"
    await api.ok("PUT", "zones/octo.test", {"text": text})

    def plans() -> list[int]:
        options = {"host": url.host, "port": url.port, "scheme": "http", "api_key": api.token}
        provider = PowerDnsProvider("dnsvip", **options)
        assert provider.powerdns_version == [4, 7, 3]
        counts = []
        for _ in range(2):
            plan = provider.plan(octo_zone())
            counts.append(len(plan.changes) if plan else 0)
            if plan:
                provider.apply(plan)
        return counts

    assert await asyncio.to_thread(plans) == [len(OCTO), 0]


def octo_zone() -> octodns.zone.Zone:
    """What octoDNS is to make of the zone."""
    zone = octodns.zone.Zone("octo.test.", [])
    for name, data in OCTO.items():
        zone.add_record(octodns.record.Record.new(zone, name, {"ttl": 300, **data}))
    return zone


OCTO: dict[str, dict[str, Any]] = {
    "": {"type": "CAA", "value": {"flags": 0, "tag": "issue", "value": "ca.example"}},
    "a": {"type": "A", "values": ["192.0.2.1", "192.0.2.2"]},
    "txt": {"type": "TXT", "values": ["v=DKIM1\\; k=rsa", "x" * 300]},
    "mx": {"type": "MX", "value": {"preference": 10, "exchange": "mail.octo.test."}},
    "_sip._tcp": {"type": "SRV", "value": {"priority": 1, "weight": 2, "port": 3, "target": "a.octo.test."}},
    "alias": {"type": "CNAME", "value": "a.octo.test."},
}


async def test_versions_of_clients(api: Api) -> None:
    """The version is one that powerdns-cli parses, `int` of what stands before the first dot, and names no other's."""
    (server,) = await api.ok("GET", "servers")
    assert int(server["version"].split(".")[0]) == 4
    assert server["product"].startswith("dnsvip ")


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


async def test_an_soa_that_is_far(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The serial of a zone whose SOA stands behind much else, or seems to stand before it, is found by a process: a
    zone of 16 MB that begins with the remark "SOA" stopped a node for half a minute. A list does not look so far."""
    start = "; SOA\n$TTL 60\n@ NS ns.other.test.\n"
    text = start + "".join(f"x{n} A 192.0.2.1\n" for n in range(5000)) + "@ SOA ns hostmaster 7 3600 600 86400 60\n"
    await api.ok("PUT", "zones/far.test", {"text": text})
    await api.ok("PUT", "zones/near.test", {"text": start + "@ SOA ns hostmaster 8 3600 600 86400 60\n"})
    here: list[int] = []

    def counted(zone: Zone) -> Any:
        here.append(len(zone.text))
        return read_zone(zone)

    monkeypatch.setattr("dnsvip.dns.zones.sets.read_zone", counted)
    zones = "servers/localhost/zones"
    assert (await api.ok("GET", f"{zones}/far.test.?rrsets=false"))["serial"] == 7
    assert (await api.ok("GET", f"{zones}/near.test.?rrsets=false"))["serial"] == 8
    assert max(here) <= 4096
    serials = {zone["name"]: zone["serial"] for zone in await api.ok("GET", zones)}
    assert (serials["far.test."], serials["near.test."]) == (0, 8)


def test_many_remarks() -> None:
    """How records of one set are written takes time in proportion to them: 2,000 took 20 seconds."""
    lines = "".join(f't 60 IN TXT "{n}" "x"\n' for n in range(300))
    remarks = "".join(f';dnsvip-content t TXT "{n}" "\\120"\n' for n in range(1, 300))
    compared = 0
    plain: Callable[[Any, object], bool] = dns.rdata.Rdata.__eq__

    def counted(one: dns.rdata.Rdata, other: object) -> bool:
        nonlocal compared
        compared += 1
        return plain(one, other)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dns.rdata.Rdata, "__eq__", counted)
        sets = read_sets(Zone("example.test", HEAD + lines + remarks))
    written = [entry.written for entry in sets.sets[(b"t", b"example", b"test"), 16].entries]
    assert written == ["", *(f'"{n}" "\\120"' for n in range(1, 300))]
    assert compared < 3000


async def test_a_short_zone_of_many_records(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone whose few lines make many records is read by a process also beside a longer one of few, in a search and
    when it is replaced: a thread kept the node busy for seconds."""
    many = HEAD + "$GENERATE 1-2000 h$ A 192.0.2.1\n"
    few = HEAD + "".join(f"x{n} A 192.0.2.1\n" for n in range(20))
    await api.ok("PUT", "zones/many.test", {"text": many})
    await api.ok("PUT", "zones/few.test", {"text": few})
    here: list[str] = []

    def noted(zone: Zone) -> Any:
        here.append(zone.text)
        return read_zone(zone)

    for module in ("sets", "zone"):
        monkeypatch.setattr(f"dnsvip.dns.zones.{module}.read_zone", noted)
    found = await api.ok("GET", "servers/localhost/search-data?q=h1999*")
    assert [one["name"] for one in found] == ["h1999.many.test."]
    await api.ok("PUT", "zones/many.test", {"text": few})
    assert not any("$GENERATE" in text for text in here)
