"""Our PowerDNS API beside a real pdns_server: the same calls in the same order, the same answers and record sets.

`DNSVIP_POWERDNS_CALLS` is how many calls are made (by default a sample of some seconds; by `make attack` 2,000),
`DNSVIP_SEED` in which order.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from tests.admin.conftest import Api
from tests.admin.powerdns.calls import EXPLAINED, ZONE, Call, Calls
from tests.long import long_or
from tests.ports import free_port

SCHEMA = Path("/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql")
SAMPLE = 400
CALLS = int(os.environ.get("DNSVIP_POWERDNS_CALLS", long_or(SAMPLE, long=2000)))
SEED = int(os.environ.get("DNSVIP_SEED", "0"))
OTHERS = ("0/26.2.0.192.in-addr.arpa.", "_under.test.")
ZONES = "/api/v1/servers/localhost/zones"

CONFIG = """
launch=gsqlite3
gsqlite3-database={folder}/zones.db
gsqlite3-pragma-synchronous=0
gsqlite3-dnssec=yes
api=yes
api-key=key
webserver=yes
webserver-address=127.0.0.1
webserver-port={api}
webserver-allow-from=127.0.0.1
local-address=127.0.0.1:{dns}
socket-dir={folder}
security-poll-suffix=
setuid=
daemon=no
guardian=no
loglevel=3
"""


class Side:
    """One of the two servers."""

    def __init__(self, session: ClientSession, root: str, key: str) -> None:
        self._session, self._root, self._key = session, root, key

    async def cli(self, *words: str) -> tuple[bool, str]:
        """Whether powerdns-cli does something, and what it says."""
        program = Path(sys.executable).with_name("powerdns-cli")
        argv = [program, *words, "--apikey", self._key, "--url", self._root, "--json", "--timeout", "30"]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode == 0, done.stdout + done.stderr

    async def __call__(self, call: Call) -> tuple[int, Any]:
        """The status of a call and its JSON."""
        headers = {"X-API-Key": self._key} | ({"Content-Type": call.content_type} if call.content_type else {})
        skip = () if call.content_type else ("Content-Type",)
        url = f"{self._root}{ZONES}{call.path}"
        options: dict[str, Any] = {"data": call.body, "headers": headers, "skip_auto_headers": skip}

        async with self._session.request(call.method, URL(url, encoded=True), **options) as answer:  # escapes stay
            text = await answer.text()
            is_json = answer.status in (200, 201) and answer.content_type == "application/json"
            return answer.status, json.loads(text) if is_json else text

    async def patch(self, *sets: dict[str, Any]) -> int:
        """The status of a PATCH of the zone."""
        return (await self(Call("PATCH", f"/{ZONE}", json.dumps({"rrsets": sets}).encode())))[0]

    async def zone(self) -> dict[tuple[str, str], Any]:
        """The record sets of the zone."""
        return sets_of((await self(Call("GET", f"/{ZONE}")))[1]["rrsets"])


def sets_of(rrsets: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Record sets in a form that compares, without the SOA, whose serial each server counts by itself."""
    return {
        (rrset["name"].lower(), rrset["type"]): (
            rrset["ttl"],
            sorted((record["content"], record["disabled"]) for record in rrset["records"]),
            sorted((one["content"], one["account"], min(one["modified_at"], 99)) for one in rrset["comments"]),
        )
        for rrset in rrsets
        if rrset["type"] != "SOA"
    }


def shown(call: Call, answer: Any) -> Any:
    """What must be the same in the answers to a GET."""
    if isinstance(answer, list):
        return sorted((zone["id"], zone["name"], zone["url"], zone["kind"]) for zone in answer)
    if "rrset_name" in call.path:
        answer["rrsets"] = [active(rrset) for rrset in answer["rrsets"] if active(rrset)["records"]]
    return answer["id"], answer["name"], answer["url"], sets_of(answer["rrsets"]) if "rrsets" in answer else None


def active(rrset: dict[str, Any]) -> dict[str, Any]:
    """A set as far as PowerDNS 4.7 filters right: it leaves out disabled records and adds comments of others."""
    records = [record for record in rrset["records"] if not record["disabled"]]
    return {**rrset, "records": records, "comments": [], "ttl": 0}


@pytest.fixture
async def sides(api: Api, tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    """PowerDNS and our API with the same zones."""
    ports = {"api": free_port(), "dns": free_port()}
    (tmp_path / "pdns.conf").write_text(CONFIG.format(folder=tmp_path, **ports))
    database = sqlite3.connect(tmp_path / "zones.db")
    database.executescript(SCHEMA.read_text())
    database.close()
    program = shutil.which("pdns_server", path=f"{os.environ['PATH']}:/usr/sbin") or "pdns_server"
    with (tmp_path / "pdns.log").open("wb") as output:
        process = subprocess.Popen([program, f"--config-dir={tmp_path}"], stdout=output, stderr=output)
    try:
        async with ClientSession() as session:
            theirs = Side(session, f"http://127.0.0.1:{ports['api']}", "key")
            ours = Side(session, str(api.client.make_url("")).rstrip("/"), api.token)
            await until_up(theirs, tmp_path / "pdns.log")
            for name in (ZONE, *OTHERS, "example.test."):
                body = {"name": name, "kind": "Native", "nameservers": ["ns1.example."]}
                status, answer = await theirs(Call("POST", "", json.dumps(body).encode()))
                assert status == 201, answer
                text = "@ 3600 IN SOA ns1.example. host.example. 1 2 3 4 5\n@ 3600 IN NS ns1.example.\n"
                if name != "example.test.":
                    path = f"zones/{name.rstrip('.').replace('/', '%2F')}"
                    assert (await api("PUT", path, {"text": text})).status == 201
            yield theirs, ours
    finally:
        process.terminate()
        process.wait(10)


async def until_up(side: Side, log: Path) -> None:
    for _ in range(200):
        try:
            await side(Call("GET", ""))
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail(log.read_text())


@pytest.mark.timeout(60 + CALLS // 5)
async def test_answers_and_record_sets_are_those_of_powerdns(sides: tuple[Side, Side]) -> None:
    """Random calls are taken and refused alike and leave the same record sets, but for what EXPLAINED says."""
    theirs, ours = sides
    differences, explained = list[str](), Counter[str]()
    calls = Calls(SEED)
    for _ in range(CALLS):
        call = calls.next()
        (their_status, their_answer), (our_status, our_answer) = await theirs(call), await ours(call)
        alike = their_status // 100 == our_status // 100
        if alike and their_status == 200:
            their_answer, our_answer = shown(call, their_answer), shown(call, our_answer)
            alike = their_answer == our_answer
        there, here = await theirs.zone(), await ours.zone()
        if alike and there == here:
            continue
        explained.update(call.odd)
        if not call.odd:
            changed = {key: (there.get(key), here.get(key)) for key in there.keys() | here.keys()}
            apart = {key: pair for key, pair in changed.items() if pair[0] != pair[1]}
            differences.append(
                f"{call}\n  PowerDNS {their_status} {their_answer}\n  dnsvip {our_status} {our_answer}\n  {apart}"
            )
        for key in there.keys() | here.keys():
            if there.get(key) != here.get(key):  # the same again on both, or one difference would make others
                for side, state in ((theirs, there), (ours, here)):
                    assert key not in state or await side.patch(removal(key)) == 204
    assert not differences, f"{len(differences)} of {CALLS} differ:\n" + "\n".join(differences[:20])
    if CALLS >= 10 * SAMPLE:
        assert not EXPLAINED.keys() - explained.keys(), "these reasons explain nothing any more"


def removal(key: tuple[str, str]) -> dict[str, Any]:
    """What removes a set, or makes the NS records of the apex what they were."""
    named = {"name": key[0], "type": key[1]}
    if key == (ZONE, "NS"):
        return {**named, "changetype": "REPLACE", "ttl": 3600, "records": [{"content": "ns1.example."}], "comments": []}
    return {**named, "changetype": "DELETE"}


def whole(name: str, **more: Any) -> Call:
    """A POST of a zone."""
    return Call("POST", "", json.dumps({"name": name, "kind": "Native", **more}).encode())


def put(name: str, **more: Any) -> Call:
    """A PUT of a zone."""
    return Call("PUT", f"/{name}", json.dumps(more).encode())


RECORD = {"name": "w.whole.test.", "type": "A", "ttl": 60, "records": [{"content": "192.0.2.1"}]}
COMMENT = {"comments": [{"content": "hello web", "account": "me", "modified_at": 7}]}
SIGNED = {"name": "x.whole.test.", "type": "TXT", "ttl": 60, "records": [{"content": '"a;b"', "disabled": True}]}
TEXT = "@ 60 IN SOA a. b. 1 2 3 4 5\n@ 60 IN NS x.\nh 60 IN A 192.0.2.9\n"
WHOLE = [
    whole("whole.test.", nameservers=["ns1.x.", "ns2.x."], rrsets=[{**RECORD, **COMMENT}, SIGNED]),
    whole("whole.test.", nameservers=["ns1.x."]),
    whole("whole.test", nameservers=["ns1.x."]),
    whole("file.test.", nameservers=[], zone=TEXT),
    whole("bad.test.", nameservers=["ns1.x"]),
    whole("bad.test.", nameservers=["ns1.x."], rrsets=[{**RECORD, "name": "w.other.test."}]),
    Call("GET", "/bad.test."),
    Call("GET", "/whole.test."),
    Call("GET", "/file.test."),
    Call("GET", "/whole.test./export"),
    Call("GET", "/no.test./export"),
    Call("PUT", "/whole.test./rectify"),
    Call("GET", "/whole.test./cryptokeys"),
    Call("GET", "/whole.test./metadata"),
    Call("GET", "/whole.test./metadata/ALSO-NOTIFY"),
    put("whole.test.", kind="Master"),
    put("whole.test.", dnssec=True),
    put("no.test.", kind="Master"),
    Call("GET", "/whole.test./cryptokeys"),
    Call("PUT", "/whole.test./rectify"),
    put("whole.test.", dnssec=False),
    Call("GET", "/../search-data?q=w.whole.test"),
    Call("GET", "/../search-data?q=*w*.test.&max=10"),
    Call("GET", "/../search-data?q=192.0.2.?"),
    Call("GET", "/../search-data?q=*hello*"),
    Call("GET", "/../search-data?q=*.whole.*&object_type=comment"),
    Call("GET", "/../search-data?q=WHOLE*&object_type=zone"),
    Call("GET", "/../search-data?q="),
    Call("GET", "/../search-data?q=*&max=-1"),
    Call("GET", "/../search-data?q=*&object_type=thing"),
    Call("DELETE", "/file.test."),
    Call("DELETE", "/file.test."),
    Call("DELETE", "/whole.test."),
    Call("GET", "/whole.test."),
]
"""Calls about whole zones, one after the other."""


def settings(kind: str, *values: str, method: str = "PUT") -> Call:
    """A PUT, or another call, of a kind of metadata."""
    body = {"metadata": values} if method == "PUT" else {"kind": kind, "metadata": values}
    path = f"/set.test./metadata/{kind}" if method != "POST" else "/set.test./metadata"
    return Call(method, path, None if method in ("GET", "DELETE") else json.dumps(body).encode())


def key(method: str, number: str = "", **body: Any) -> Call:
    """A call about keys."""
    return Call(method, f"/set.test./cryptokeys{number}", json.dumps(body).encode() if body else None)


PRIVATE = (
    "Private-key-format: v1.2\nAlgorithm: 13 (ECDSAP256SHA256)\n"
    "PrivateKey: GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=\n"
)
SETTINGS = [
    whole("set.test.", nameservers=["ns1.x."]),
    settings("ALSO-NOTIFY", "192.0.2.1", method="POST"),
    settings("ALSO-NOTIFY", "192.0.2.2:5300", "192.0.2.1", method="POST"),
    settings("ALSO-NOTIFY", method="GET"),
    settings("ALSO-NOTIFY", "192.0.2.3"),
    settings("ALLOW-AXFR-FROM", "192.0.2.0/24", "2001:db8::/32"),
    Call("GET", "/set.test./metadata"),
    settings("ALSO-NOTIFY", method="DELETE"),
    settings("ALSO-NOTIFY", method="DELETE"),
    settings("ALSO-NOTIFY", method="GET"),
    settings("PUBLISH-CDS", "2"),
    settings("NOPE", "1"),
    settings("", "1", method="POST"),
    Call("PUT", "/set.test./metadata/ALSO-NOTIFY", b'{"metadata": "x"}'),
    Call("PUT", "/set.test./metadata/ALSO-NOTIFY", b'{"metadata": [1]}'),
    Call("PUT", "/set.test./metadata/ALSO-NOTIFY", b"{}"),
    Call("PUT", "/no.test./metadata/ALSO-NOTIFY", b'{"metadata": ["192.0.2.1"]}'),
    put("set.test.", master_tsig_key_ids=["no-such-key."]),
    put("set.test.", nsec3param="1 0 0 -"),
    key("POST", keytype="nope", active=True),
    key("POST", keytype="csk", algorithm="nonsense"),
    key("POST", keytype="csk", content="junk"),
    key("POST", keytype="csk", content=PRIVATE),
    key("GET"),
    key("PUT", "/1", active=True),
    key("GET"),
    key("PUT", "/1", published=True),
    key("PUT", "/77", active=True),
    key("DELETE", "/77"),
    put("set.test.", nsec3param="1 0 0 -"),
    put("set.test.", nsec3param=""),
    key("PUT", "/1", active=False),
    key("GET"),
    key("DELETE", "/1"),
    key("GET"),
    key("POST", keytype="csk"),
    key("DELETE", "/1"),
    key("POST", keytype="csk", active=True, algorithm="ed25519"),
    key("DELETE", "/1"),
    Call("DELETE", "/set.test."),
]
"""Calls about metadata and keys, one after the other. PowerDNS takes values that dnsvip refuses, as it could not do
what they say: test_records.py has them."""


async def test_settings_and_keys(sides: tuple[Side, Side]) -> None:
    """Metadata and keys are set, shown and removed as by PowerDNS; a key from elsewhere is the same key there."""
    theirs, ours = sides
    for call in SETTINGS:
        (their_status, their_answer), (our_status, our_answer) = await theirs(call), await ours(call)
        if their_status >= 300:
            assert our_status // 100 == their_status // 100, (call, their_status, their_answer, our_status, our_answer)
            continue
        assert our_status == their_status, (call, their_answer, our_answer)
        if "/metadata" in call.path or (call.path.endswith("cryptokeys") and call.method == "GET"):
            assert same_keys(our_answer) == same_keys(their_answer), call


def same_keys(answer: Any) -> Any:
    """Of a list of keys what they are; anything else as it is."""
    if isinstance(answer, list) and answer and "keytype" in answer[0]:
        return [[one[field] for field in ("keytype", "active", "algorithm", "flags", "dnskey")] for one in answer]
    return answer


def alike(answer: Any) -> Any:
    """An answer without what each server makes by itself: keys, and the SOA."""
    if isinstance(answer, str):
        return sorted(line for line in answer.splitlines() if line.strip() and "\tSOA\t" not in line)
    if isinstance(answer, list):
        records = [one for one in answer if one.get("type") != "SOA"]
        return sorted(json.dumps({key: one[key] for key in one if key not in OWN}, sort_keys=True) for one in records)
    kept = {key: answer[key] for key in answer if key not in (*OWN, "rrsets") and answer[key] != "Zone"}
    return kept, sets_of(answer["rrsets"]) if "rrsets" in answer else None


OWN = ("serial", "edited_serial", "notified_serial", "kind", "dnskey", "ds", "id")
"""What each server counts or makes. PowerDNS keeps a kind, to which dnsvip gives no meaning."""


async def test_whole_zones(sides: tuple[Side, Side]) -> None:
    """Zones are made, changed, exported, searched and removed as by PowerDNS."""
    theirs, ours = sides
    for call in WHOLE:
        (their_status, their_answer), (our_status, our_answer) = await theirs(call), await ours(call)
        assert our_status // 100 == their_status // 100, (call, their_status, their_answer, our_status, our_answer)
        if their_status < 300:
            assert our_status == their_status
            assert alike(our_answer) == alike(their_answer), call


CLI = [
    "zone add cli.test native",
    "zone add cli.test native",
    "record add www cli.test a 192.0.2.1 --ttl 60",
    "record add www cli.test a 192.0.2.2 --ttl 60",
    "record add www cli.test a nonsense",
    "record replace txt cli.test txt '\"a;b\"' --ttl 60",
    "record disable www cli.test a 192.0.2.2",
    "record delete www cli.test a 192.0.2.1",
    "zone export cli.test",
    "zone search cli.test",
    "zone rectify cli.test",
    "cryptokey list cli.test",
    "metadata add cli.test ALSO-NOTIFY 192.0.2.7",
    "metadata extend cli.test ALSO-NOTIFY 192.0.2.8",
    "metadata update cli.test ALSO-NOTIFY 192.0.2.9",
    "metadata delete cli.test ALSO-NOTIFY",
    "metadata export cli.test",
    "cryptokey add ksk ecdsap256sha256 cli.test",
    "cryptokey enable cli.test 1",
    "cryptokey list cli.test",
    "cryptokey disable cli.test 1",
    "cryptokey delete cli.test 1",
]
"""Commands of powerdns-cli, one after the other."""


async def test_powerdns_cli(sides: tuple[Side, Side]) -> None:
    """powerdns-cli makes a zone and edits it, and comes to the same ends as at PowerDNS."""
    theirs, ours = sides

    async def zone(side: Side) -> dict[tuple[str, str], Any]:
        sets = sets_of((await side(Call("GET", "/cli.test.")))[1]["rrsets"])
        return {key: value for key, value in sets.items() if key[1] != "NS"}  # PowerDNS makes a zone without any

    for command in CLI:
        words = shlex.split(command)
        (their_end, their_text), (our_end, our_text) = await theirs.cli(*words), await ours.cli(*words)
        assert our_end is their_end, (command, their_text, our_text)
        assert await zone(ours) == await zone(theirs), (command, their_text, our_text)
    assert (await ours.cli("zone", "delete", "--force", "cli.test"))[0]
    assert (await ours(Call("GET", "/cli.test.")))[0] == 404
