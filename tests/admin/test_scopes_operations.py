"""Rights against a model, operation by operation: who may, and that no refusal names what its caller may not see.

RIGHTS has a row for every operation of the OpenAPI document; one without a row fails.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest

from dnsvip.admin.http.openapi import described
from dnsvip.admin.http.operation import operations
from dnsvip.site.registry import NAMED
from tests.admin.conftest import Answer, Api
from tests.admin.test_scopes_model import (
    FIELDS,
    SCOPES,
    SECONDS,
    Everything,
    everything,
    fill,
    one_allows,
    random_scopes,
    token_with,
)

Scopes: TypeAlias = list[dict[str, Any]]
Right: TypeAlias = tuple[str, str]
"""Action and kind."""

ANYBODY: Right = ("", "")
ONE: dict[str, str] = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}

_NAMED = {f"GET {kind.plural}": ("read", name) for name, kind in NAMED.items()} | {
    f"{method} {kind.plural}/{{name}}": (action, name) for name, kind in NAMED.items() for method, action in ONE.items()
}

RIGHTS: Mapping[str, Right] = {
    **_NAMED,
    "GET clients/export": ("read", "client"),
    "POST clients/import": ("write", "client"),
    "POST clients/{name}/new-key": ("write", "client"),
    "POST clients/{name}/revoke": ("write", "client"),
    "GET clients/{name}/history": ("read", "client"),
    "GET clients/{name}/usage": ("read", "client"),
    "GET clients/{name}/addresses": ("read", "explain"),
    "GET clients/{name}/flows": ("read", "client"),
    "GET usage": ("read", "client"),
    "POST clients/{name}/enrolment": ("write", "enrolment"),
    "POST clients/{name}/certificate": ("write", "enrolment"),
    "GET client-ca": ("read", "client_ca"),
    "POST client-ca": ("write", "client_ca"),
    "POST client-ca/rotate": ("rotate", "client_ca"),
    "DELETE client-ca/{number}": ("delete", "client_ca"),
    "GET clusters/{cluster}/decoding-keys": ("write", "decoder"),
    "POST sessions": ("write", "session"),
    "POST dns-tokens/{name}/mint": ("write", "dns_token"),
    "POST dns-tokens/{name}/rotate": ("write", "dns_token"),
    "GET dns-tokens/{name}/use": ("read", "dns_token"),
    "POST clusters/{name}/preview": ("write", "cluster"),
    "POST server-states": ("write", "pool"),
    "GET pools/{name}/servers": ("read", "pool"),
    "GET pools/{name}/servers/{server}": ("read", "pool"),
    "PUT pools/{name}/servers/{server}": ("write", "pool"),
    "PATCH pools/{name}/servers/{server}": ("write", "pool"),
    "DELETE pools/{name}/servers/{server}": ("delete", "pool"),
    "GET zones/{name}/ds": ("read", "zone"),
    "GET zones/{name}/keys": ("read", "zone"),
    "POST zones/{name}/keys": ("write", "zone"),
    "POST zones/{name}/keys/roll": ("write", "zone"),
    "POST zones/{name}/keys/confirm": ("write", "zone"),
    "DELETE zones/{name}/keys/{number}": ("delete", "zone"),
    "GET classify": ("read", "classify"),
    "PUT classify": ("write", "classify"),
    "PATCH classify": ("write", "classify"),
    "GET keys": ("read", "key"),
    "GET keys/{cluster}": ("read", "key"),
    "POST keys/{cluster}/rotate": ("rotate", "key"),
    "POST cookies/roll": ("rotate", "cookies"),
    "GET tokens": ("read", "token"),
    "POST tokens": ("write", "token"),
    "GET tokens/{name}": ("read", "token"),
    "PATCH tokens/{name}": ("write", "token"),
    "DELETE tokens/{name}": ("delete", "token"),
    "POST tokens/{name}/rotate": ("write", "token"),
    "GET whoami": ANYBODY,
    "GET search": ANYBODY,  # what one may read
    "GET decode": ("read", "decode"),
    "POST decode": ("read", "decode"),
    "GET explain": ("read", "explain"),
    "POST explain": ("read", "explain"),
    "GET audit": ("read", "audit"),
    "GET audit/changes": ("read", "audit"),
    "GET nodes": ("read", "node"),
    "GET nodes/{name}": ("read", "node"),
    "DELETE nodes/{name}": ("delete", "node"),
    "POST nodes/{name}/drain": ("write", "node"),
    "POST nodes/{name}/undrain": ("write", "node"),
    "GET health": ("read", "node"),
    "GET status": ("read", "status"),
    "GET servers": ANYBODY,
    "GET servers/localhost": ANYBODY,
    "GET servers/localhost/zones": ANYBODY,  # those that one may read
    "GET servers/localhost/zones/{zone}": ("read", "zone"),
    "PATCH servers/localhost/zones/{zone}": ("write", "zone"),
    "PUT servers/localhost/zones/{zone}/notify": ("read", "zone"),
    "POST servers/localhost/zones": ("write", "zone"),
    "PUT servers/localhost/zones/{zone}": ("write", "zone"),
    "DELETE servers/localhost/zones/{zone}": ("delete", "zone"),
    "GET servers/localhost/zones/{zone}/export": ("read", "zone"),
    "PUT servers/localhost/zones/{zone}/rectify": ("write", "zone"),
    "GET servers/localhost/zones/{zone}/cryptokeys": ("read", "zone"),
    "GET servers/localhost/zones/{zone}/cryptokeys/{number}": ("read", "zone"),
    "POST servers/localhost/zones/{zone}/cryptokeys": ("write", "zone"),
    "PUT servers/localhost/zones/{zone}/cryptokeys/{number}": ("write", "zone"),
    "DELETE servers/localhost/zones/{zone}/cryptokeys/{number}": ("delete", "zone"),
    "GET servers/localhost/zones/{zone}/metadata": ("read", "zone"),
    "POST servers/localhost/zones/{zone}/metadata": ("write", "zone"),
    "GET servers/localhost/zones/{zone}/metadata/{kind}": ("read", "zone"),
    "PUT servers/localhost/zones/{zone}/metadata/{kind}": ("write", "zone"),
    "DELETE servers/localhost/zones/{zone}/metadata/{kind}": ("write", "zone"),
    "GET servers/localhost/search-data": ANYBODY,  # those that one may read
    "POST apply": ("write", "site"),
    "GET openapi.json": ANYBODY,
    "GET /api": ANYBODY,
    "GET /api/docs": ANYBODY,
    "GET /api/docs.css": ANYBODY,
}
"""Operation -> the right to it; where its path names an object, to that one."""

ADDRESS = "2001:db8:ffff::1"
PROBES: Mapping[str, dict[str, Any]] = {
    "POST clients/import": {"path": "clients/import?dry_run=true", "data": b""},
    "GET search": {"path": "search?q=example"},
    "GET decode": {"path": f"decode?address={ADDRESS}"},
    "POST decode": {"json": {"address": ADDRESS}},
    "GET explain": {"path": f"explain?qname=nowhere.invalid&source={ADDRESS}"},
    "POST explain": {"json": {"qname": "nowhere.invalid", "source": ADDRESS}},
    "POST apply": {"path": "apply?dry_run=true", "json": {}},
    "POST keys/{cluster}/rotate": {"json": {"emergency": "never"}},
    "POST tokens": {"json": {"name": "no name"}},
    "POST tokens/{name}/rotate": {"name": "nobody"},
    "DELETE tokens/{name}": {"name": "nobody"},
    "PATCH tokens/{name}": {"name": "nobody", "json": {}},
    "PATCH servers/localhost/zones/{zone}": {"json": {}},
}
"""What asks for an operation and changes nothing, where that is not a body and a condition that never holds."""

NEVER = {"If-Match": '"never"'}
ELSEWHERE = {
    *("POST cookies/roll", "POST client-ca", "POST client-ca/rotate"),
    *("GET decode", "POST decode", "GET explain", "POST explain"),
    *("GET clients/{name}/addresses", "GET clients/{name}/flows"),
}
"""What is only asked for where it is refused: it has effects, or a check of its own below."""

Json: TypeAlias = dict[str, Any]


def wrong(all_: Everything, dice: random.Random) -> list[tuple[str, str, Json]]:
    """Changes that break a rule, most of them by what belongs to some other object: kind, name and body."""
    one = {kind: dice.choice(found) for kind, found in all_.objects.items() if found}
    client, tier, zone = one["client"], one["tier"], one["zone"]
    six = {"plain": "2001:db8:a:1::9", "default_tier": tier["name"], "layout": [["tier", 4], ["nonce", 20]]}
    return [
        ("client", "model-new", {"id": client["id"], "tier": tier["name"]}),
        ("client", "model-new", {"id": 9, "tier": "nowhere"}),
        ("client", "model-new", {"id": 9, "tier": tier["name"], "match": client["match"] or [{"tsig": "nobody"}]}),
        ("client", "model-new", {"id": 9, "tier": tier["name"], "attributes": {"lang": "xx"}}),
        ("client", "model-new", {"id": 1 << 30, "tier": tier["name"]}),
        ("tier", "model-new", {"code": tier["code"], "action": "drop"}),
        ("tier", "model-new", {"code": 999, "action": "drop"}),
        ("tier", "model-new", {"code": 15, "pool": "nowhere"}),
        ("cluster", "model-new", {**six, "prefix": "2001:db8:a:1::/64"}),
        ("cluster", "model-new", {**six, "prefix": "2001:db8:a:9::/64", "default_tier": "nowhere"}),
        ("service", f"new.{zone['name']}", {"cluster": "nowhere"}),
        ("service", "new.invalid", {"cluster": "web"}),
        ("zone", "model-new.test", {"text": "nonsense"}),
        ("zone", zone["name"], {"transfer": {"tsig": "nobody"}}),
        (
            "zone",
            "example.test",
            {"text": "@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns.other.test.\nwww 60 NS ns.other.test.\n"},
        ),
        ("pool", "slow", {"fallback": "slow"}),
        ("tsig", "model-new", {"secret": "no base64!"}),
    ]


def allowed(scopes: Scopes, right: Right, name: str | None) -> bool:
    """The naive rule: whether one of the scopes allows the action on the object."""
    action, kind = right
    return right == ANYBODY or any(one_allows(scope, action, kind, name) for scope in scopes)


def knows(scopes: Scopes, kind: str, name: str) -> bool:
    """Whether a caller may read or write an object: who may not never reads its name."""
    return any(one_allows(scope, action, kind, name) for scope in scopes for action in ("read", "write"))


class Leaks:
    """The names that a token may not know, looked for in its answers."""

    def __init__(self, all_: Everything, scopes: Scopes) -> None:
        self._hidden = [
            item["name"]
            for kind, items in all_.objects.items()
            for item in items
            if kind in FIELDS and not knows(scopes, kind, item["name"])
        ]
        # One name can be that of objects of several kinds, and stand inside another.
        self._hidden = [
            name for name in self._hidden if len(name) > 3 and not any(knows(scopes, kind, name) for kind in FIELDS)
        ]

    def check(self, asked: str, answer: Answer, scopes: Scopes) -> None:
        """Fail where a refusal names an object that neither the request named nor its caller may know."""
        if answer.status < 400:
            return
        for name in self._hidden:
            if name in answer.text and name not in asked:
                found = re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", answer.text)
                assert not found, (name, asked, answer.text, scopes)


def key_of(operation: Any) -> str:
    """An operation as RIGHTS calls it."""
    return f"{operation.method} {operation.shown_path.removeprefix('/api/v1/')}"


async def test_every_operation_has_a_model(api: Api) -> None:
    """An operation that is served or documented without a row in RIGHTS fails here, and so does a row too many."""
    app = api.client.server.app  # type: ignore[attr-defined]  # a TestServer of an application
    assert {key_of(each) for each in operations(app)} == RIGHTS.keys()
    paths = described(app)["paths"]
    documented = {f"{method.upper()} {path.removeprefix('/api/v1/')}" for path, item in paths.items() for method in item
                  if method in ("get", "put", "post", "patch", "delete")}  # fmt: skip
    assert documented <= RIGHTS.keys() | {"GET /metrics", "GET /healthz", "GET /readyz"}


async def check_operation(
    api: Api, operation: Any, all_: Everything, scopes: Scopes, headers: dict[str, str], dice: random.Random
) -> tuple[str, Answer] | None:
    """Ask for an operation on some object: refused exactly where the naive rule refuses; the request and its answer."""
    key = key_of(operation)
    right, probe = RIGHTS[key], dict(PROBES.get(key, {}))
    kind = {"enrolment": "client", "key": "cluster", "decoder": "cluster"}.get(right[1], right[1])
    names = [item["name"] for item in all_.objects.get(kind, ())] or ["nobody"]
    name = probe.pop("name", None) or dice.choice([*dice.sample(names, min(3, len(names))), "a-nobody"])
    is_one = "{" in key
    if key in ELSEWHERE and allowed(scopes, right, None):
        return None
    if operation.shown_path.startswith("/api/v1/"):
        path = probe.pop("path", _filled(key.split()[1], name))
    else:
        return None  # open to all, and about nothing of the site
    if operation.method in ("PUT", "PATCH", "POST") and "data" not in probe:
        probe.setdefault("json", {})
    never = NEVER if operation.method != "GET" else {}
    answer = await api(operation.method, path, headers={**headers, **never}, **probe)
    expected = allowed(scopes, right, name if is_one else None)
    if key == "PATCH servers/localhost/zones/{zone}":  # of challenges at least
        expected = expected or allowed(scopes, ("write", "acme"), name)
    assert (answer.status != 403) is expected, (key, name, scopes, answer.status, answer.text)
    return f"{path} {probe}", answer


def _filled(path: str, name: str) -> str:
    """A path with its object named; of a pool's servers, one."""
    path = re.sub(r"\{server\}|\{kind\}", "slow-1", path.replace("{number}", "1"))
    return re.sub(r"\{\w+\}", quote(name, safe=""), path)


async def check_wrong(
    api: Api, all_: Everything, scopes: Scopes, headers: dict[str, str], leaks: Leaks, dice: random.Random
) -> None:
    """Changes that break rules: refused, and by what no more is told than the caller may know."""
    for kind, name, body in wrong(all_, dice):
        method = "PATCH" if kind in ("zone", "pool") and name != "model-new.test" else "PUT"
        path = f"{NAMED[kind].plural}/{quote(name, safe='')}"
        answer = await api(method, path, body, headers=headers)
        assert answer.status >= 400, (method, path, body, answer.text)
        if not allowed(scopes, ("write", kind), name):
            assert answer.status == 403
        leaks.check(f"{path} {body}", answer, scopes)
        if kind == "client":
            line = {"name": name, **body}
            report = await api("POST", "clients/import?dry_run=true", data=_line(line), headers=headers)
            leaks.check(f"{line}", report, scopes)
    for kind in ("tier", "cluster", "tsig", "pool", "zone"):
        names = [item["name"] for item in all_.objects[kind]]
        used = {"tier": "gold", "cluster": "web", "tsig": "acme-key", "pool": "slow", "zone": "example.test"}[kind]
        assert used in names
        answer = await api("DELETE", f"{NAMED[kind].plural}/{used}", headers=headers)
        assert answer.status == (409 if allowed(scopes, ("delete", kind), used) else 403), (answer.text, scopes)
        leaks.check(used, answer, scopes)


def _line(body: Json) -> bytes:
    return (json.dumps(body) + "\n").encode()


async def check_powerdns(api: Api, all_: Everything, scopes: Scopes, headers: dict[str, str]) -> None:
    """The zones that the PowerDNS API lists are those that the token reads."""
    listed = await api.ok("GET", "servers/localhost/zones", headers=headers)
    wanted = [item["name"] for item in all_.objects["zone"] if allowed(scopes, ("read", "zone"), item["name"])]
    assert sorted(zone["name"].rstrip(".") for zone in listed) == sorted(wanted)


def fits(scopes: Scopes, look: str, kind: str, name: str | None) -> bool:
    """Whether a look tells about an object."""
    return name is None or any(one_allows(scope, "read", kind, name, look) for scope in scopes)


async def check_looks(api: Api, all_: Everything, scopes: Scopes, headers: dict[str, str], dice: random.Random) -> None:
    """Explain and decode answer as they do for everybody, or are refused where they tell of something hidden."""
    client = dice.choice(all_.objects["client"])
    source = next((match["source"] for match in client["match"] if "source" in match), "2001:db8:ffff::/48")
    qname = dice.choice(["www.example.test", "a.test", dice.choice(all_.objects["service"])["name"]])
    path = f"explain?qname={qname}&source={source.partition('/')[0]}"
    whole, part = await api.ok("GET", path), await api("GET", path, headers=headers)
    if allowed(scopes, ("read", "explain"), None):
        zone = max((z["name"] for z in all_.objects["zone"] if f".{qname}".endswith(f".{z['name']}")), key=len)
        tells = [("zone", zone), ("client", (whole["client"] or {}).get("name"))]
        tells += [("service", one["service"]) for one in whole["answer"]["addresses"]]
        tells += [("cluster", one["cluster"]) for one in whole["answer"]["addresses"]]
        tells += [("tier", flow["tier"]) for flow in whole["flows"] if flow.get("tier")]
        seen = all(fits(scopes, "explain", kind, name) for kind, name in tells)
        assert part.status == (200 if seen else 403), (path, tells, scopes, part.text)
        if seen:
            assert {**part.json, "judged_at": 0, "flows": 0} == {**whole, "judged_at": 0, "flows": 0}
    for address in (one["address"] for one in whole["answer"]["addresses"]):
        await check_decode(api, address, scopes, headers)
    await check_decode(api, ADDRESS, scopes, headers)


async def check_search(
    api: Api, all_: Everything, scopes: Scopes, headers: dict[str, str], dice: random.Random
) -> None:
    """A search finds what it finds for everybody, less what may not be read, and counts nothing else."""
    kinds = {"server": "pool", "record": "zone"}
    name = dice.choice([item["name"] for items in all_.objects.values() for item in items])
    client = dice.choice(all_.objects["client"])
    source = next((match["source"] for match in client["match"] if "source" in match), "2001:db8:ffff::/48")
    for text in (name, name[:2], "test", source.partition("/")[0], str(client["id"]), "192.0.2"):
        path = f"search?q={quote(text)}&limit=100"
        whole, part = await api.ok("GET", path), await api.ok("GET", path, headers=headers)
        wanted = [
            item
            for item in whole["items"]
            if allowed(scopes, ("read", kinds.get(item["kind"], item["kind"])), item["of"] or item["name"])
        ]
        assert part == {"items": wanted, "more": whole["more"] and part["more"], "incomplete": []}, (text, scopes)
        few = await api.ok("GET", f"search?q={quote(text)}&limit=1", headers=headers)
        found = [item["kind"] for item in wanted]
        assert few["more"] == [kind for kind in dict.fromkeys(found) if found.count(kind) > 1], (text, scopes)


async def check_decode(api: Api, address: str, scopes: Scopes, headers: dict[str, str]) -> None:
    if allowed(scopes, ("read", "decode"), None):
        whole, part = (
            await api.ok("GET", f"decode?address={address}"),
            await api("GET", f"decode?address={address}", headers=headers),
        )
        tells = [(kind, whole[kind]) for kind in ("cluster", "client", "tier")]
        every = all(
            "*" in scope.get("clusters", ["*"]) for scope in scopes if one_allows(scope, "read", "decode", None)
        )
        seen = all(fits(scopes, "decode", kind, name) for kind, name in tells) and (
            whole["cluster"] or every or fits(scopes, "decode", "cluster", "\n")
        )
        assert part.status == (200 if seen else 403), (address, tells, scopes, part.text)


NOTHING: Json = {"attributes": {}}


def may_give(all_: Everything, scopes: Scopes, before: Json | None, after: Json) -> bool:
    """The naive rule of what a client may be given: its tier, its new matches and attributes, and nothing inside
    another's network."""
    new = [match for match in after["match"] if before is None or match not in before["match"]]
    tier = None if before is not None and before["tier"] == after["tier"] and not new else after["tier"]
    networks = [ip_network(match["source"]) for match in new if "source" in match]
    olds, news = ({f"{n}={v}" for n, v in item["attributes"].items()} for item in (before or NOTHING, after))
    changed = (olds | news) - (olds & news) | (news if new else set())
    reaching = [
        scope
        for scope in scopes
        if all(any(fnmatchcase(text, p) for p in scope.get("attributes", ["*"])) for text in changed)
        if one_allows(scope, "write", "client", after["name"])
        and (tier is None or any(fnmatchcase(tier, pattern) for pattern in scope.get("tiers", ["*"])))
    ]
    keys = all(allowed(scopes, ("write", "tsig"), match["tsig"]) for match in new if "tsig" in match)
    others = [item for item in all_.objects["client"] if not allowed(scopes, ("write", "client"), item["name"])]
    texts = [text for item in others for match in item["match"] for text in match.values()]
    around = [ip_network(text) for text in texts if "::/" in text]
    return bool(reaching) and keys and not any(n.subnet_of(one) for n in networks for one in around)  # type: ignore[arg-type]


async def check_gifts(api: Api, all_: Everything, scopes: Scopes, headers: dict[str, str], dice: random.Random) -> None:
    """Lines of an import are refused for their rights exactly where the naive rule refuses them; nothing is stored."""
    for _ in range(6):
        before = dice.choice([None, dice.choice(all_.objects["client"])])
        other = dice.choice(all_.objects["client"])
        sources = [match["source"] for match in other["match"] if "source" in match]
        inside = [{"source": source.replace("::/48", ":7::/64")} for source in sources]
        fresh = [{"source": f"2001:db8:f{dice.randrange(16):03x}:1::/64"}]
        match = dice.choice([[], inside[:1], fresh, [{"tsig": "acme-key"}]])
        after = {"name": dice.choice(["a-new", "web.new"]), "id": 1 << 19} | (before or {})
        after |= {"tier": dice.choice(["gold", "standard"]), "match": [*(before or {"match": []})["match"], *match]}
        after["attributes"] = random.Random(repr(after)).choice([{}, {}, {"lang": "fr"}, {"lang": "en"}])
        path = "clients/import?dry_run=true&mode=per-line"
        answer = await api("POST", path, data=_line(after), headers=headers)
        if not allowed(scopes, ("write", "client"), None):
            assert answer.status == 403
            continue
        refused = any("the token lacks" in error["message"] for error in answer.json["errors"])
        assert refused is not may_give(all_, scopes, before, after), (before, after, scopes, answer.text)


@pytest.mark.timeout(SECONDS)
async def test_who_may_do_what(api: Api) -> None:
    """Every operation is allowed exactly where the naive rule allows it, and no refusal names what is hidden."""
    await fill(api)
    dice = random.Random(17)
    all_ = await everything(api)
    app = api.client.server.app  # type: ignore[attr-defined]  # a TestServer of an application
    for number in range(SCOPES):
        scopes = random_scopes(dice)
        headers, leaks = await token_with(api, f"operations-{number}", scopes), Leaks(all_, scopes)
        for operation in operations(app):
            if asked := await check_operation(api, operation, all_, scopes, headers, dice):
                leaks.check(*asked, scopes)
        await check_wrong(api, all_, scopes, headers, leaks, dice)
        await check_powerdns(api, all_, scopes, headers)
        await check_gifts(api, all_, scopes, headers, dice)
        await check_looks(api, all_, scopes, headers, dice)
        await check_search(api, all_, scopes, headers, dice)
