"""Every field of every kind is set to another value in the browser, and read back by the API.

Which fields there are, and what is another value of one, comes from the API's description: a new field is walked too.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.console.conftest import Open, turn
from tests.console.site import Site
from tests.node.serving import within

Json = dict[str, Any]

ZONE = "$TTL 300\n@ IN SOA ns1 hostmaster {0} 7200 3600 1209600 300\n@ IN NS ns1\nns1 IN A 192.0.2.53\n"
SECRET = base64.b64encode(b"a secret for the walk").decode()
TRANSFER_KEY = "walk-transfer-key"
"""No client can have it: it is that of a zone."""
LAYOUT = [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]
SIX = {"prefix": "2001:db8:f:1::/64", "plain": "2001:db8:f:1::1", "layout": LAYOUT, "tag_bits": 24}
FOUR = {"prefix": "198.18.0.0/28", "plain": "198.18.0.1", "classes": {"gold": [2]}}

OBJECTS: dict[str, tuple[str, str, Json]] = {
    "tier": ("tiers/walk", "Tier", {"code": 7, "pool": "slow"}),
    "pool": ("pools/walk", "Pool", {"check": {"tcp": 80}}),
    "server": ("pools/walk/servers/walk-1", "Server", {"address": "fd00:10::71"}),
    "cluster": ("clusters/walk6", "Cluster", {**SIX, "default_tier": "standard"}),
    "cluster4": ("clusters/walk4", "ClassCluster", {**FOUR, "default_tier": "standard"}),
    "service": ("services/walk.example.test", "Service", {"cluster": "web"}),
    "dns_group": ("dns-groups/walk", "DnsGroup", {"servers": ["192.0.2.53:53"]}),
    "zone": ("zones/walk.test", "Zone", {"text": ZONE.format(1)}),
    "tsig": ("tsig/walk-key", "TsigKey", {"secret": "c2VjcmV0LXNlY3JldA=="}),
    "dns_token": ("dns-tokens/walk", "DnsToken", {"digest": "ab" * 32}),
    "client": (
        "clients/walk",
        "Client",
        {"id": 7700, "tier": "standard", "match": [{"source": "203.0.113.7/32"}], "pool": "slow"},
    ),
    "classify": ("classify", "Classify", {}),
}
"""What is walked -> its path, its schema, and what it begins with."""

PLACES = {
    "tier": ("site", "Edit walk"),
    "cluster": ("site", "Edit walk6"),
    "cluster4": ("site", "Edit walk4"),
    "pool": ("servers", "Edit pool walk"),
    "server": ("servers", "Edit walk-1"),
    "service": ("services", "Edit walk.example.test"),
    "dns_group": ("dnsgroups", "Edit walk"),
    "zone": ("zones/walk.test", ""),
    "tsig": ("tsig/walk-key", ""),
    "dns_token": ("dnstokens/walk", ""),
    "client": ("clients/walk", ""),
    "classify": ("site", ""),
}
"""What is walked -> its page, and the button there that opens its form, where that is not on the page."""

ELSEWHERE = {
    ("service", "session"),
    ("pool", "servers"),
    ("client", "state"),
    ("client", "key_generation"),
    ("client", "end_flows"),
    *(("zone", field) for field in ("primaries", "primaries_tsig", "primaries_ca", "catalog", "member_of")),
}
"""Fields with controls of their own: the table of servers, the buttons of a client; what only wildcards have, and only
zones without text."""

OTHER: dict[tuple[str, ...], Any] = {
    ("pool", "check", "tcp"): None,
    ("pool", "check", "http"): "https://[{address}]:8443/up",
    ("pool", "check", "host"): "walk.example.test",
    ("pool", "check", "timeout"): 0.5,
    ("server", "address"): "fd00:10::72",
    ("tier", "policing", "bytes"): 9000.5,
    ("tier", "policing", "burst"): 2.5,
    ("cluster", "prefix"): "2001:db8:f:2::/64",
    ("cluster", "plain"): "2001:db8:f:2::9",
    ("cluster", "layout"): [["tier", 5], ["client", 20], ["expiry", 5], ["nonce", 1], ["lang", 2]],
    ("cluster", "claims"): [["content", 2], ["session", 1]],
    ("cluster", "label", "claims"): [["quality", 8], ["priority", 3]],
    ("cluster", "source", "layout"): [["tier", 5], ["client", 47]],
    ("cluster", "rotate_every"): 7200,
    ("cluster", "values"): {"lang": {"en": 1, "fr": 2}},
    ("cluster", "select"): [
        {"when": {"tier": "gold", "lang": ["fr", 1]}, "pool": "slow", "dscp": 9, "priority": 7},
        {"when": {"client": ["acme", "newsreader"]}, "pool": "fast", "dscp": None, "priority": None},
    ],
    ("cluster4", "select"): [{"when": {"tier": ["gold", "standard"]}, "pool": "slow", "dscp": None, "priority": 0}],
    ("cluster4", "prefix"): "198.18.0.16/28",
    ("cluster4", "plain"): "198.18.0.17",
    ("cluster4", "classes"): {"gold": [2, 3], "blocked": [5]},
    ("zone", "text"): ZONE.format(2),
    ("zone", "notify"): ["192.0.2.53:53", "[2001:db8:53::1]:5353"],
    ("zone", "transfer", "to"): ["192.0.2.0/24", "2001:db8:77::/48"],
    ("zone", "dnssec", "parental_agents"): ["192.0.2.53:53"],
    ("zone", "dnssec", "foreign"): [f"256 3 15 {'A' * 43}="],
    ("zone", "transfer", "tsig"): TRANSFER_KEY,
    ("zone", "transfer", "signed"): False,  # excludes the digest
    ("zone", "transfer", "certificates"): ["ns2.example.net", f"sha256:{'ab' * 32}"],
    ("zone", "update"): [{"tsig": TRANSFER_KEY, "names": ["_acme-challenge.*", "*.walk.test"], "types": ["TXT"]}],
    ("tsig", "secret"): SECRET,
    ("dns_token", "digest"): "cd" * 32,
    ("dns_token", "previous"): "ef" * 32,
    ("client", "match"): [{"ecs": "203.0.113.0/25"}, {"geo": "country:DE"}, {"tsig": "walk-key"}],
    ("client", "attributes"): {"lang": "fr", "level": 3},
    ("client", "pool"): None,
    ("client", "servers"): ["slow/slow-1", "slow-2"],
    ("service", "attributes"): {"lang": "fr"},
    ("service", "cluster4"): "legacy",
    ("service", "cluster"): "walk6",
    ("dns_group", "servers"): ["[2001:db8:53::1]:53", "tls://[2001:db8:53::1]:853#dns.example.test"],
    ("dns_group", "tiers"): ["gold"],
    ("classify", "order"): ["listener", "tsig", "ecs", "source"],
    ("classify", "trust_ecs_from"): ["127.0.0.0/8", "2001:db8:99::/48"],
}
"""Field -> its other value, where that does not follow from its schema."""


@pytest.fixture
def authorities(tmp_path: Path) -> str:
    """A certificate as PEM."""
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *files]
    subprocess.run([*argv, "-days", "1", "-subj", "/CN=walk"], check=True, capture_output=True)
    return (tmp_path / "cert.pem").read_text()


@pytest.fixture
def walked(at_work: Site) -> Iterator[None]:
    """The objects of the walk, for its time."""
    curl = at_work.node.curl
    order = curl("GET", "classify")[1]
    named = {what: each for what, each in OBJECTS.items() if what != "classify"}
    assert curl("PUT", f"tsig/{TRANSFER_KEY}", {"secret": "c2VjcmV0LXNlY3JldA=="})[0] == 201
    for path, _, body in named.values():
        status, answer = curl("PUT", path, body)
        assert status == 201, answer
    yield
    assert curl("PUT", "classify", order)[0] == 200
    for what in (
        "dns_group",
        "service",
        "client",
        "tier",
        "server",
        "pool",
        "cluster",
        "cluster4",
        "zone",
        "tsig",
        "dns_token",
    ):
        assert curl("DELETE", named[what][0])[0] == 204
    assert curl("DELETE", f"tsig/{TRANSFER_KEY}")[0] == 204


@pytest.mark.timeout(300)
def test_every_field_of_every_kind(visit: Open, at_work: Site, walked: None, authorities: str) -> None:
    """Each is changed in the form of its object, all of one object at once, and stored as entered."""
    document = at_work.node.curl("GET", "openapi.json")[1]
    kinds = {kind["kind"] for kind in document["x-kinds"]}
    assert kinds | {"server", "cluster4"} == OBJECTS.keys()
    walk = Walk(document, at_work, {**OTHER, ("pool", "check", "ca"): authorities})
    page = visit("overview")
    for what, (path, schema, _) in OBJECTS.items():
        before = at_work.node.curl("GET", path)[1]
        wanted = walk.others(what, document["components"]["schemas"][schema], before)
        assert wanted
        walk.edit(page, what, document["components"]["schemas"][schema], wanted)
        stored = at_work.node.curl("GET", path)[1]
        assert {key: stored[key] for key in wanted if key != "secret"} == {
            key: value for key, value in wanted.items() if key != "secret"
        }
        for key, value in wanted.items():
            assert before.get(key) != value, (what, key)
    key = at_work.node.curl("GET", "tsig/walk-key")[1]
    signed = ("-y", f"{key['algorithm']}:walk-key:{SECRET}")
    within(10, lambda: at_work.node.dig("A", "mail.example.test", *signed) == "192.0.2.25")


class Walk:
    """Finds another value for each field, and enters it as a person does."""

    def __init__(self, document: Json, at_work: Site, other: dict[tuple[str, ...], Any]) -> None:
        self.document, self.at_work, self.other = document, at_work, other

    def resolved(self, schema: Json) -> Json:
        """A schema with its reference or its one alternative to null in place."""
        if "$ref" in schema:
            schema = {**self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], **schema}
            return self.resolved({key: value for key, value in schema.items() if key != "$ref"})
        some = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
        if len(some) == 1:
            return self.resolved({**some[0], **{key: value for key, value in schema.items() if key != "anyOf"}})
        return schema

    def others(self, what: str, schema: Json, before: Json) -> Json:
        """Another value for each field of an object."""
        fields = [key for key in schema["properties"] if key != "name" and (what, key) not in ELSEWHERE]
        return {key: self.another((what, key), schema["properties"][key], before.get(key)) for key in fields}

    def another(self, path: tuple[str, ...], schema: Json, value: Any) -> Any:
        """Another value for one field."""
        if path in self.other:
            return self.other[path]
        schema = self.resolved(schema)
        ui = schema.get("x-ui", {})
        if "properties" in schema:
            return {
                key: self.another((*path, key), inner, (value or {}).get(key))
                for key, inner in schema["properties"].items()
            }
        choices = [choice["value"] for choice in ui.get("choices", ())] or schema.get("enum", [])
        if ui.get("refers"):
            kinds = {kind["kind"]: kind["path"] for kind in self.document["x-kinds"]}
            answer = self.at_work.node.curl("GET", kinds[ui["refers"]].removeprefix("/api/v1/") + "?limit=1000")
            choices = [item["name"] for item in answer[1]["items"] if item["name"] != "walk"]
        if choices:
            return next(choice for choice in choices if choice != value)
        if schema["type"] == "boolean":
            return not value
        if schema["type"] in ("integer", "number"):
            return (value or schema.get("minimum", 0)) + 1
        return "other"

    def edit(self, page: Page, what: str, schema: Json, wanted: Json) -> None:
        """Open the form of an object, enter all values, save."""
        place, button = PLACES[what]
        turn(page, place)
        if button:
            page.get_by_role("button", name=button, exact=True).click()
        form = page.locator("dialog form" if button else "#page form:has(.form-grid)")
        for key, value in wanted.items():
            self.enter(
                form.locator(f"fieldset:not(fieldset fieldset) > .form-grid > [data-path={key}]"),
                schema["properties"][key],
                value,
            )
        form.get_by_role("button", name="Save").click()
        expect(page.locator(".toast").filter(has_text="changed")).to_be_visible()
        expect(form.locator(".error:not(:empty)")).to_have_count(0)
        page.locator(".toast").filter(has_text="changed").get_by_label("Dismiss").click()
        warnings = page.locator(".toast.warn").get_by_label("Dismiss")  # they stay, over the buttons of some pages
        while warnings.count():
            warnings.first.click()

    def enter(self, field: Locator, schema: Json, value: Any) -> None:
        """Enter the value of one field, whatever its control is."""
        schema = self.resolved(schema)
        rows = field.locator("> .stack > .form-rows")
        if "properties" in schema:
            switch = field.locator("> legend input")
            if switch.count():
                switch.set_checked(value is not None)
            for key, inner in schema["properties"].items():
                self.enter(field.locator(f"> .form-grid > [data-path={key}]"), inner, value[key])
        elif rows.count():
            self.enter_rows(field, rows, value)
        else:
            enter_plain(field, value)

    def enter_rows(self, field: Locator, rows: Locator, value: Any) -> None:
        """Remove the rows of a list or table, and add one for each entry."""
        while rows.locator("> .form-row").count():
            rows.locator("> .form-row > .row > [data-row=remove]").last.click()
        for entry in value.items() if isinstance(value, dict) else value:
            field.locator("> .stack > button").click()
            cells = rows.locator("> .form-row > .form-cells").last.locator("> *")
            if isinstance(entry, dict) and len(entry) > 1:
                for key, part in entry.items():
                    self.enter(cells.nth(0).locator(f"> [data-path={key}]"), {}, part)
            elif isinstance(entry, dict):
                ((step, text),) = entry.items()
                cells.nth(0).select_option(step)
                enter_plain(cells.nth(1).locator("> .field"), text)
            else:
                for cell, part in enumerate(entry if isinstance(entry, list | tuple) else [entry]):
                    inner = cells.nth(cell).locator("> .stack > .form-rows")
                    if inner.count():
                        self.enter_rows(cells.nth(cell), inner, part)
                    else:
                        enter_plain(cells.nth(cell), part)


def enter_plain(field: Locator, value: Any) -> None:
    """Enter a value into the one control of a field."""
    control = field.locator("> input, > select, > textarea, > .with-unit > input")
    tag = control.evaluate("control => control.type")
    if tag == "checkbox":
        control.set_checked(value)
    elif tag.startswith("select"):
        control.select_option("" if value is None else str(value))
    elif isinstance(value, list):
        control.fill(("\n" if tag == "textarea" else " ").join(map(str, value)))
    else:
        control.fill("" if value is None else str(value))
