"""external-dns and cert-manager at a real node: the requests that they send, in their order.

Keys and rules are those of deploy/kubernetes/README.md, settings those of deploy/kubernetes/integrations.
"""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import dns.xfr
import dns.zone
import pytest
import yaml

from tests.node.serving import Node, node, within

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "deploy" / "kubernetes" / "README.md"
INTEGRATIONS = ROOT / "deploy" / "kubernetes" / "integrations"
SITE = tomllib.loads(re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0])
NAME = "example.test"
OWNER = '"heritage=external-dns,external-dns/owner=cluster-1,external-dns/resource=service/default/app"'
CERT_MANAGER = yaml.safe_load((INTEGRATIONS / "cert-manager.yaml").read_text())
SOLVER = CERT_MANAGER["spec"]["acme"]["solvers"][0]["dns01"]["rfc2136"]


def arguments(file: str) -> dict[str, str]:
    """The arguments of external-dns in a file of values."""
    words = yaml.safe_load((INTEGRATIONS / file).read_text())["extraArgs"]
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with the example site, and with the keys and rules of the page."""
    with node(tmp_path_factory.mktemp("node")) as made:
        made.apply()
        made.start("--token-file", "token")
        for name, key in SITE["tsig"].items():
            assert made.curl("PUT", f"tsig/{name}", key)[0] == 201
        rules = {key: SITE["zone"][NAME][key] for key in ("transfer", "update")}
        assert made.curl("PATCH", f"zones/{NAME}", rules)[0] == 200
        within(10, lambda: transferred(made) is not None)
        yield made


def signing(name: str) -> dns.tsig.Key:
    return dns.tsig.Key(name, SITE["tsig"][name]["secret"], "hmac-sha256")


def transferred(served: Node) -> dns.zone.Zone | None:
    """The zone as external-dns's key gets it, or nothing while the node does not know the key."""
    zone = dns.zone.Zone(NAME)
    query, _ = dns.xfr.make_query(zone, keyring=signing("external-dns"))
    try:
        dns.query.inbound_xfr("127.0.0.1", zone, query, port=served.dns, timeout=10)
    except (dns.xfr.TransferError, dns.tsig.PeerError):
        return None
    return zone


def exchange(served: Node, message: dns.message.Message) -> dns.message.Message:
    """The answer by UDP, by which both programs ask."""
    return dns.query.udp(message, "127.0.0.1", timeout=10, port=served.dns)


def found_zone(served: Node, name: str) -> str:
    """The zone of a name as cert-manager finds it: SOA of each parent with EDNS, until an answer has one."""
    labels = name.split(".")
    for at in range(len(labels)):
        query = dns.message.make_query(".".join(labels[at:]), "SOA", use_edns=0, payload=4096)
        answer = exchange(served, query)
        assert answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
        for rrset in answer.answer:
            if rrset.rdtype == dns.rdatatype.SOA:
                return rrset.name.to_text()
    raise AssertionError(name)


def challenge(served: Node, present: bool, name: str, value: str) -> int:
    """An update of cert-manager: one record added, or deleted by its value."""
    update = dns.update.UpdateMessage(found_zone(served, name), keyring=signing(SOLVER["tsigKeyName"]))
    if present:
        update.add(f"{name}.", 60, "TXT", f'"{value}"')
    else:
        update.delete(f"{name}.", "TXT", f'"{value}"')
    return exchange(served, update).rcode()


def texts(served: Node, name: str) -> set[str]:
    """TXT of a name, asked as cert-manager checks it before it calls the authority: without recursion."""
    query = dns.message.make_query(name, "TXT", use_edns=0, payload=4096, flags=dns.flags.Flag(0))
    return {text for rrset in exchange(served, query).answer for record in rrset for text in record.to_text().split()}


def test_cert_manager(served: Node) -> None:
    """Two challenges of one name (a domain and its wildcard) are set by signed updates, and removed one by one."""
    assert (SOLVER["tsigAlgorithm"], SOLVER["tsigKeyName"] in SITE["tsig"]) == ("HMACSHA256", True)
    name = f"_acme-challenge.shop.{NAME}"
    assert found_zone(served, name) == f"{NAME}."
    assert texts(served, name) == set()
    for value in ("first", "second"):
        assert challenge(served, True, name, value) == dns.rcode.NOERROR
    within(5, lambda: texts(served, name) == {'"first"', '"second"'})
    assert challenge(served, True, name, "first") == dns.rcode.NOERROR  # presented again after a restart
    assert challenge(served, False, name, "first") == dns.rcode.NOERROR
    within(5, lambda: texts(served, name) == {'"second"'})
    for _ in range(2):  # cleaned up again after a restart
        assert challenge(served, False, name, "second") == dns.rcode.NOERROR
    within(5, lambda: texts(served, name) == set())
    assert found_zone(served, name) == f"{NAME}."


def test_cert_manager_changes_nothing_else(served: Node) -> None:
    """The key of challenges sets no other name; one signed with cert-manager's default algorithm is not accepted."""
    assert challenge(served, True, f"shop.{NAME}", "x") == dns.rcode.REFUSED
    key = dns.tsig.Key("cert-manager", SITE["tsig"]["cert-manager"]["secret"], dns.tsig.HMAC_MD5)
    update = dns.update.UpdateMessage(NAME, keyring=key)
    update.add("_acme-challenge", 60, "TXT", "x")
    with pytest.raises((dns.tsig.PeerError, dns.message.UnknownTSIGKey, dns.tsig.BadAlgorithm)):
        exchange(served, update)
    assert texts(served, f"_acme-challenge.{NAME}") == set()


def test_external_dns_by_updates(served: Node) -> None:
    """A pass lists the zone by signed transfer; each set is added, replaced by deletion and addition, and deleted."""
    settings = arguments("external-dns-rfc2136.yaml")
    key = signing(settings["rfc2136-tsig-keyname"])
    assert (settings["rfc2136-zone"], settings["rfc2136-tsig-secret-alg"]) == (NAME, "hmac-sha256")
    assert "rfc2136-tsig-axfr" in settings

    def listed() -> set[str]:
        zone = transferred(served)
        assert zone is not None
        return {f"{at} {data.to_text()}" for at, _, data in zone.iterate_rdatas() if at.to_text().endswith("app")}

    def change(*changes: tuple[bool, str, str, str]) -> None:
        update = dns.update.UpdateMessage(NAME, keyring=key)
        for added, name, rtype, data in changes:
            if added:
                update.add(name, 60, rtype, data)
            else:
                update.delete(name, rtype, data)
        assert exchange(served, update).rcode() == dns.rcode.NOERROR

    registry = (("app", "TXT", OWNER), ("a-app", "TXT", OWNER))
    for record in (("app", "A", "192.0.2.10"), ("app", "AAAA", "2001:db8::10"), *registry):
        change((True, *record))
    within(5, lambda: listed() == {"app 192.0.2.10", "app 2001:db8::10", f"app {OWNER}", f"a-app {OWNER}"})
    change((False, "app", "A", "192.0.2.10"))
    change((True, "app", "A", "192.0.2.11"), (True, "app", "A", "192.0.2.12"))
    within(5, lambda: {"app 192.0.2.11", "app 192.0.2.12"} <= listed())
    assert "app 192.0.2.10" not in listed()
    change((False, "app", "A", "192.0.2.11"), (False, "app", "A", "192.0.2.12"))
    for record in (("app", "AAAA", "2001:db8::10"), *registry):
        change((False, *record))
    within(5, lambda: listed() == set())


class PowerDns:
    """The calls of external-dns's provider `pdns`: every PATCH has the whole zone as it was listed, and sets."""

    def __init__(self, served: Node) -> None:
        scopes = [{"actions": ["read", "write"], "kinds": ["zone"], "zones": [NAME]}]
        status, made = served.curl("POST", "tokens", {"name": "external-dns", "scopes": scopes})
        assert status == 201
        self._served, self._token = served, made["token"]

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"X-API-Key": self._token, "Content-Type": "application/json"}
        connection = HTTPConnection("127.0.0.1", self._served.api, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, f"/api/v1/servers/localhost/{path}", body and json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text else None

    def zone(self) -> dict[str, Any]:
        status, zones = self._call("GET", "zones")
        assert status == 200
        (own,) = [zone for zone in zones if zone["name"] == f"{NAME}."]
        return dict(own)

    def records(self) -> dict[tuple[str, str], tuple[int, set[str]]]:
        status, zone = self._call("GET", f"zones/{self.zone()['id']}")
        assert status == 200
        sets = [each for each in zone["rrsets"] if each["name"].endswith(f"app.{NAME}.")]
        return {(s["name"], s["type"]): (s["ttl"], {record["content"] for record in s["records"]}) for s in sets}

    def patch(self, changetype: str, *sets: tuple[str, str, list[str]]) -> tuple[int, Any]:
        zone = self.zone()
        ttl = {"ttl": 300} if changetype == "REPLACE" else {}
        zone["rrsets"] = [
            {
                "name": f"{name}.{NAME}.", "type": rtype, "changetype": changetype, **ttl,
                "records": [{"content": content} for content in contents],
            }
            for name, rtype, contents in sets
        ]  # fmt: skip
        return self._call("PATCH", f"zones/{zone['id']}", zone)


def test_external_dns_by_the_powerdns_api(served: Node) -> None:
    """A token for one zone lists it, and sets, replaces and deletes sets and the registry's texts in it."""
    values = (INTEGRATIONS / "external-dns-pdns.yaml").read_text()
    assert "EXTERNAL_DNS_PDNS_API_KEY" in values
    provider = PowerDns(served)
    registry = [("a-app", "TXT", [OWNER]), ("app", "TXT", [OWNER])]
    assert provider.records() == {}
    assert provider.patch("REPLACE", *registry[:1], ("app", "A", ["192.0.2.10"]), registry[1])[0] == 204
    assert provider.records()[f"app.{NAME}.", "A"] == (300, {"192.0.2.10"})
    assert provider.records()[f"a-app.{NAME}.", "TXT"] == (300, {OWNER})
    within(5, lambda: served.dig("A", f"app.{NAME}") == "192.0.2.10")
    assert provider.patch("REPLACE", ("app", "A", ["192.0.2.11", "192.0.2.12"]))[0] == 204
    within(5, lambda: set(served.dig("A", f"app.{NAME}").split()) == {"192.0.2.11", "192.0.2.12"})
    status, answer = provider.patch("REPLACE", ("lb-app", "ALIAS", ["lb.example.org."]))
    assert status == 422
    assert "ALIAS" in json.dumps(answer)
    assert provider.patch("DELETE", *registry, ("app", "A", ["192.0.2.11", "192.0.2.12"]))[0] == 204
    assert provider.records() == {}
    within(5, lambda: served.dig("A", f"app.{NAME}") == "")
