"""Each resource, on a real store over HTTP."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from dnsvip.admin.http.work import JOBS
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from tests.admin.conftest import Api

CLIENT = {"id": 7, "tier": "gold", "match": [{"source": "2001:db8:5::/48"}]}

MAKES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("tiers/silver", {"code": 3, "pool": "slow"}, {"dscp": 10}),
    ("clients/new", CLIENT, {"tier": "standard"}),
    (
        "clusters/other",
        {"prefix": "2001:db8:b::/64", "plain": "2001:db8:b::1", "layout": [["tier", 4], ["nonce", 20]]}
        | {"tag_bits": 37, "default_tier": "gold"},
        {"ttl": 30},
    ),
    (
        "clusters/four",
        {"prefix": "198.51.100.0/28", "plain": "198.51.100.1", "classes": {"gold": [2]}, "default_tier": "gold"},
        {"ttl": 30},
    ),
    ("pools/third", {"servers": [{"name": "a", "address": "fd00::1"}]}, {"stickiness": "client"}),
    ("pools/third/servers/b", {"address": "fd00::2"}, {"weight": 5}),
    (
        "zones/new.test",
        {"text": "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"},
        {"text": "@ 60 IN SOA a b 2 2 3 4 5\n@ 60 IN NS a.other.test.\n"},
    ),
    ("services/api.example.test", {"cluster": "web"}, {"cluster4": "legacy"}),
    ("tsig/other-key", {"secret": "c2VjcmV0c2VjcmV0"}, {"algorithm": "hmac-sha512"}),
]


@pytest.mark.parametrize(("path", "body", "patch"), MAKES, ids=[path for path, _, _ in MAKES])
async def test_life_of_an_object(api: Api, path: str, body: dict[str, Any], patch: dict[str, Any]) -> None:
    """An object is made, is the same when made again, is patched, replaced and deleted; each change is a generation."""
    if "/servers/" in path:
        await api.ok("PUT", "pools/third", {})
    before = await api.store.generation()
    created = await api("PUT", path, body)
    assert created.status == 201
    assert created.headers["Location"] == f"/api/v1/{path}"
    assert created.headers["Dnsvip-Generation"] == str(before + 1)
    again = await api("PUT", path, body)
    assert (again.status, again.json) == (200, created.json)
    assert "Dnsvip-Generation" not in again.headers
    patched = await api.ok("PATCH", path, patch)
    assert patched == created.json | patch
    assert await api.ok("GET", path) == patched
    collection, _, name = path.rpartition("/")
    assert name in [item["name"] for item in (await api.ok("GET", collection))["items"]]
    back = await api.ok("PUT", path, body)
    assert back == created.json
    assert (await api("DELETE", path)).status == 204
    assert (await api("GET", path)).status == 404
    assert (await api("DELETE", path)).status == 404
    assert await api.store.generation() == before + 4


async def test_get_gives_what_put_takes(api: Api) -> None:
    """The form of an object in an answer can be sent back as it is."""
    for path in ("tiers/gold", "clients/acme", "clusters/web", "clusters/legacy", "pools/slow", "zones/example.test"):
        before = await api.store.generation()
        shown = await api.ok("GET", path)
        assert await api.ok("PUT", path, shown) == shown
        assert await api.store.generation() == before


async def test_paging(api: Api) -> None:
    """A list comes in pages by name, each with the path of the next."""
    for number in range(7):
        await api.ok("PUT", f"tiers/t{number}", {"code": 4 + number, "action": "drop"})
    names, path = [], "tiers?limit=3"
    while path:
        page = await api.ok("GET", path)
        assert 1 <= len(page["items"]) <= 3
        names += [item["name"] for item in page["items"]]
        path = (page["next"] or "").removeprefix("/api/v1/")
    assert names == sorted({"blocked", "gold", "standard", *(f"t{number}" for number in range(7))})


async def test_names_of_dns_in_paths(api: Api) -> None:
    """A zone is found by any writing of its name, also one with a slash in it."""
    text = {"text": "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"}
    created = await api("PUT", "zones/0%2F25.2.0.192.IN-ADDR.arpa.", text | {"name": "0/25.2.0.192.in-addr.ARPA"})
    assert created.headers["Location"] == "/api/v1/zones/0%2F25.2.0.192.in-addr.arpa"
    assert (await api("GET", "zones/0%2f25.2.0.192.in-addr.arpa")).status == 200


async def test_a_replaced_client_stays_revoked(api: Api) -> None:
    """A body that does not name what is set while the site runs leaves it as it is."""
    await api.ok("PATCH", "clients/acme", {"state": "revoked"})
    assert (await api.ok("PUT", "clients/acme", CLIENT))["state"] == "revoked"
    await api.ok("PATCH", "pools/slow/servers/slow-1", {"state": "drain"})
    servers = [{"name": "slow-1", "address": "fd00::1"}, {"name": "new", "address": "fd00::2", "state": "maint"}]
    pool = await api.ok("PUT", "pools/slow", {"servers": servers})
    assert [server["state"] for server in pool["servers"]] == ["drain", "maint"]
    assert (await api.ok("PUT", "pools/slow/servers/slow-1", {"address": "fd00::3"}))["state"] == "drain"


async def test_old_client_keys_stay_dead(api: Api) -> None:
    """Enabling a revoked client raises its key generation, which never goes down."""
    assert (await api.ok("POST", "clients/acme/new-key"))["key_generation"] == 1
    await api.ok("PATCH", "clients/acme", {"state": "revoked"})
    assert (await api.ok("PATCH", "clients/acme", {"state": "enabled"}))["key_generation"] == 2
    await api.ok("PATCH", "clients/acme", {"state": "disabled"})
    assert (await api.ok("PATCH", "clients/acme", {"state": "enabled"}))["key_generation"] == 2
    lowered = await api("PATCH", "clients/acme", {"key_generation": 1})
    assert lowered.status == 422
    assert "cannot go down" in lowered.json["detail"]


async def test_merge_patch(api: Api) -> None:
    """A patch merges objects, replaces lists, and removes what it says null for (RFC 7396)."""
    await api.ok("PATCH", "clients/acme", {"attributes": {"age": 3}, "proof": {"single_use": True}})
    client = await api.ok("PATCH", "clients/acme", {"attributes": {"lang": None}, "match": [{"listener": "x"}]})
    assert client["attributes"] == {"age": 3}
    assert client["proof"] == {"bind": "address", "single_use": True, "required": False}
    assert client["match"] == [{"listener": "x"}]
    assert (await api.ok("PATCH", "tiers/standard", {"rate": None}))["rate"] is None


async def test_whole_numbers(api: Api) -> None:
    """2098.0 and 3e1 are whole numbers, as in JSON Schema; 2.5 is none."""
    json = {"Content-Type": "application/json"}
    made = await api(
        "PUT", "clients/many", data=b'{"id": 2098.0, "tier": "gold", "attributes": {"age": 3e1}}', headers=json
    )
    assert (made.status, made.json["id"], made.json["attributes"]) == (201, 2098, {"age": 30})
    for number in (b"2.5", b"1e400", b"1e300"):
        assert (await api("PATCH", "clients/many", data=b'{"id": %b}' % number, headers=json)).status == 422


async def test_patches_at_once_all_hold(api: Api) -> None:
    """Two operators who patch different keys of one object at the same moment do not undo each other."""
    await asyncio.gather(
        api.ok("PATCH", "tiers/gold", {"dscp": 10}),
        api.ok("PATCH", "tiers/gold", {"require_proof": True}),
        api.ok("PATCH", "tiers/gold", {"unproven": "default-tier"}),
    )
    gold = await api.ok("GET", "tiers/gold")
    assert (gold["dscp"], gold["require_proof"], gold["unproven"]) == (10, True, "default-tier")


async def test_secrets_are_write_only(api: Api) -> None:
    """A TSIG secret is in no answer, and a patch of something else keeps it."""
    secret = (await api.store.objects.site()).tsig_keys["acme-key"].secret
    for path in ("tsig", "tsig/acme-key", "audit"):
        assert secret not in (await api("GET", path)).text
    patched = await api("PATCH", "tsig/acme-key", {"algorithm": "hmac-sha512"})
    assert secret not in patched.text
    assert (await api.store.objects.site()).tsig_keys["acme-key"].secret == secret


async def test_zone_files(api: Api) -> None:
    """A zone file can be sent and fetched as it is; a list does not hold the texts."""
    text = "$ORIGIN new.test.\n@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"
    headers = {"Content-Type": "text/dns"}
    assert (await api("PUT", "zones/new.test", data=text, headers=headers)).status == 201
    got = await api("GET", "zones/new.test", headers={"Accept": "text/dns"})
    assert (got.text, got.headers["Content-Type"]) == (text, "text/dns; charset=utf-8")
    assert {"name": "new.test", "bytes": len(text)} in (await api.ok("GET", "zones"))["items"]


async def test_a_zone_file_leaves_its_transfer(api: Api) -> None:
    """A zone's transfer can be set and read, and stays when a zone file is sent."""
    text = "$ORIGIN new.test.\n@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n"
    transfer = {"to": ["192.0.2.0/24"], "tsig": "spare-key"}
    await api.ok("PUT", "tsig/spare-key", {"secret": "c2VjcmV0"})
    await api.ok("PUT", "zones/new.test", {"text": text, "transfer": transfer})
    changed = await api("PUT", "zones/new.test", data=f"{text}; more\n", headers={"Content-Type": "text/dns"})
    assert changed.status == 200
    zone = await api.ok("GET", "zones/new.test")
    assert zone["transfer"].items() >= transfer.items()
    assert zone["text"].endswith("; more\n")


async def test_a_large_zone(api: Api) -> None:
    """A zone may be larger than other bodies."""
    text = "@ 60 IN SOA a b 1 2 3 4 5\n@ 60 IN NS a.other.test.\n" + "; as long as it takes\n" * 100_000
    await api.ok("PUT", "zones/large.test", {"text": text})
    assert (await api.ok("GET", "zones/large.test"))["text"] == text


async def test_classify(api: Api) -> None:
    """The classification is always there, can be patched and replaced, and not deleted."""
    patched = await api.ok("PATCH", "classify", {"order": ["tsig", "source"]})
    assert patched["order"] == ["tsig", "source"]
    assert "127.0.0.0/8" in patched["trust_ecs_from"]
    replaced = await api.ok("PUT", "classify", {"order": ["source"]})
    assert replaced == {"order": ["source"], "trust_ecs_from": []} == await api.ok("GET", "classify")
    assert (await api("DELETE", "classify")).status == 405


async def test_cookies_are_rolled(api: Api) -> None:
    """A roll changes the secret of DNS cookies, is audited, and shows none."""
    before = await api.store.snapshots.load()
    answer = await api("POST", "cookies/roll")
    after = await api.store.snapshots.load()
    assert (answer.status, answer.json) == (200, {"generation": after.generation})
    assert after.cookie_secrets[0] == before.cookie_secrets[1]
    assert (await api.store.audit.rows(1))[0].kind == "cookies"
    assert (await api("GET", "cookies/roll")).status == 405


async def test_keys(api: Api) -> None:
    """A rotation publishes an epoch, and the list shows how far it is; no secret is in it."""
    (web,) = (await api.ok("GET", "keys"))["items"]
    assert [(epoch["slot"], epoch["state"]) for epoch in web["epochs"]] == [(0, "active")]
    answer = await api("POST", "keys/web/rotate")
    assert (answer.status, answer.json["slot"], answer.json["state"]) == (202, 1, "published")
    await api.store.keys.advance(answer.json["published_at"] + 1)
    epochs = (await api.ok("GET", "keys/web"))["epochs"]
    assert [(epoch["slot"], epoch["state"]) for epoch in epochs] == [(0, "retiring"), (1, "active")]
    assert epochs[0]["retires_at"] == epochs[0]["retiring_since"] + 3660
    for _ in range(2):
        await api.ok("POST", "keys/web/rotate")
    full = await api("POST", "keys/web/rotate")
    assert full.status == 409
    assert "slots are taken" in full.json["detail"]
    assert (await api("POST", "keys/legacy/rotate")).status == 404
    assert "secret" not in (await api("GET", "keys")).text


async def test_tokens(api: Api) -> None:
    """A token is shown once, works at once, and no more when deleted."""
    created = await api("POST", "tokens", {"name": "robot"})
    assert created.status == 201
    robot = {"Authorization": f"Bearer {created.json['token']}"}
    assert (await api("GET", "status", headers=robot)).status == 200
    listed = await api("GET", "tokens")
    assert [token["name"] for token in listed.json["items"]] == ["robot", "test"]
    assert created.json["token"] not in listed.text
    assert (await api("POST", "tokens", {"name": "robot"})).status == 409
    assert (await api("POST", "tokens", {"name": "no name"})).status == 422
    assert (await api("DELETE", "tokens/robot")).status == 204
    assert (await api("DELETE", "tokens/robot")).status == 404
    assert (await api("GET", "status", headers=robot)).status == 401


async def test_decode(api: Api) -> None:
    """An address is explained as the dispatcher judges it, by query and by body."""
    snapshot = await api.store.snapshots.load()
    _, codec = snapshot.keyrings["web"].active or pytest.fail("no active epoch")
    address = codec.encode({"tier": 1, "client": 1001, "lang": 1, "expiry": 127, "nonce": 5})
    text = ":".join(f"{address:032x}"[i : i + 4] for i in range(0, 32, 4))
    explanation = await api.ok("GET", f"decode?address={text}&source=2001:db8::9&port=5000")
    judged = AddressVerifier(snapshot).verify(address, 0, 0, 0.0)
    assert (explanation["reason"], explanation["tier"], explanation["client"]) == (judged.reason, "gold", "acme")
    assert [step["title"] for step in explanation["steps"]][-1] == "verdict"
    assert await api.ok("POST", "decode", {"address": text}) == explanation
    forged = await api.ok("POST", "decode", {"address": text[:-1] + "fe"[text[-1] == "f"], "port": 1})
    assert (forged["accepted"], forged["reason"], forged["tier"]) == (False, "bad-tag", None)
    wrong = await api("GET", "decode?address=2001:db8::/64&port=99999&sauce=1")
    assert [error["where"] for error in wrong.json["errors"]] == ["sauce", "address", "port"]


async def test_audit(api: Api) -> None:
    """Every change stands in the audit with its token's name, the newest first."""
    await api.ok("PATCH", "clients/acme", {"tier": "standard"})
    first = await api.ok("GET", "audit?limit=1")
    (row,) = first["items"]
    assert (row["actor"], row["kind"], row["name"], row["action"]) == ("token test", "client", "acme", "~")
    assert (row["before"]["tier"], row["after"]["tier"]) == ("gold", "standard")
    second = await api.ok("GET", first["next"].removeprefix("/api/v1/"))
    assert second["items"][0]["id"] < row["id"]


async def test_audit_filters_without_an_index_take_turns(api: Api) -> None:
    """What may read every row of the audit waits for others of its token; what an index leads to does not."""
    app = api.client.app
    assert app is not None
    async with app[JOBS].turn("token test"):
        for query in ("", "?name=acme&kind=client", "?actor=token%20test"):
            await asyncio.wait_for(api.ok("GET", f"audit{query}"), 30)
        slow = [asyncio.ensure_future(api.ok("GET", f"audit?{query}")) for query in ("kind=client", "action=~")]
        while app[JOBS]._owners["token test"] < 3:
            assert not any(each.done() for each in slow)
            await asyncio.sleep(0.01)
    await asyncio.gather(*slow)


async def test_the_root_zone_in_a_path(api: Api) -> None:
    """Browsers and proxies take a part of a path away that is a dot: =2E is the root zone, for rights as well."""
    text, headers = "@ 60 SOA ns hostmaster 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n", {"Content-Type": "text/dns"}
    root, other = {"zones": ["."]}, {"zones": ["records"]}
    scopes = [{"actions": ["write", "delete", "read"], "kinds": ["zone"], **one} for one in (root, other)]
    tokens = [await api.ok("POST", "tokens", {"name": f"n{at}", "scopes": [one]}) for at, one in enumerate(scopes)]
    may, may_not = ({"Authorization": f"Bearer {token['token']}"} for token in tokens)
    assert (await api("PUT", "zones/=2E", data=text, headers=headers | may_not)).status == 403
    made = await api("PUT", "zones/=2E", data=text, headers=headers | may)
    assert (made.status, made.json["name"]) == (201, ".")
    assert (await api.ok("GET", "zones/=2E"))["text"] == text
    assert (await api("DELETE", "zones/=2E", headers=may)).status == 204


async def test_a_client_that_is_called_as_a_path(api: Api) -> None:
    """One called import or export, which a site file may have, is read, changed and deleted by =XX."""
    for name, path in (("import", "=69mport"), ("export", "=65xport")):
        made = await api.ok("PUT", f"clients/{path}", {"id": 4000 + len(path) + ord(name[0]), "tier": "gold"})
        assert made["name"] == name
        assert (await api.ok("PATCH", f"clients/{path}", {"tier": "standard"}))["tier"] == "standard"
        assert (await api("DELETE", f"clients/{path}")).status == 204
        assert await api.store.objects.get("client", name) is None


async def test_status_asks_the_dispatcher(api: Api) -> None:
    """The status holds what a dispatcher on this machine writes to its socket, or says that it does not answer."""
    assert (await api.ok("GET", "status"))["dispatcher"] is None
    path = api.folder / "dispatch.sock"
    answers = [b'{"packets": 5}', b"nonsense"]

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        writer.close()

    server = await asyncio.start_unix_server(tell, str(path))
    try:
        assert (await api.ok("GET", "status"))["dispatcher"] == {"packets": 5}
        assert "error" in (await api.ok("GET", "status"))["dispatcher"]
    finally:
        server.close()
        await server.wait_closed()
    _leave_dead_socket(path)
    status = await api.ok("GET", "status")
    assert status["dispatcher"] is None
    assert (status["dns"], status["generation"], status["objects"]["clients"]) == ({"answered": 3}, 2, 2)


def _leave_dead_socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
