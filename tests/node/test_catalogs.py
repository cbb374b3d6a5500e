"""Catalog zones between nodes and BIND and Knot: zones come to secondaries, and go, by the catalog alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dns.primaries import PrimaryKnot
from tests.dns.secondaries import Secondary, SecondaryBind, SecondaryKnot
from tests.dns.world import SECRET
from tests.node.serving import Node, node, within
from tests.node.test_secondary import apply

KEY = f'[tsig."transfer-key"]\nsecret = "{SECRET}"\n'
CATALOG = "catalog.test"


class BindConsumer(SecondaryBind):
    """BIND that has all zones of the catalog."""

    def configuration(self) -> str:
        primaries = f"default-primaries {{ 127.0.0.1 port {self.primary} key transfer-key; }}"
        catalog = f'catalog-zones {{ zone "{self.zone}" {primaries} in-memory yes min-update-interval 1; }};'
        return super().configuration().replace("recursion no;", f"recursion no; {catalog}", 1)


class KnotConsumer(SecondaryKnot):
    """Knot that has all zones of the catalog."""

    def configuration(self) -> str:
        member = '  - id: member\n    master: primary\n    acl: notify\n    file: "member-%s"\n    storage: "."\n'
        text = super().configuration().replace("zone:\n  - domain", f"{member}zone:\n  - domain")
        return text + "    catalog-role: interpret\n    catalog-template: member\n"


class KnotProducer(PrimaryKnot):
    """Knot that makes a catalog of its zones."""

    def configuration(self) -> str:
        member = "    notify: ours\n    acl: transfers\n    catalog-role: member\n    catalog-zone: catalog.test\n"
        text = super().configuration().removesuffix("    notify: ours\n    acl: transfers\n") + member
        return text + "  - domain: catalog.test\n    catalog-role: generate\n    notify: ours\n    acl: transfers\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Node]:
    """A node, not yet started."""
    (tmp_path / "node").mkdir()
    with node(tmp_path / "node") as one:
        yield one


@pytest.mark.parametrize("kind", [BindConsumer, KnotConsumer])
def test_secondaries_follow_our_catalog(made: Node, tmp_path: Path, kind: type[Secondary]) -> None:
    """A zone that may be transferred is at the secondary without a word there, and goes with that permission."""
    with kind(tmp_path / "peer", CATALOG, made.dns) as peer:  # type: ignore[attr-defined]
        transfer = 'transfer = { tsig = "transfer-key" }\n'
        catalog = f'[zone."{CATALOG}"]\ncatalog = "produce"\nnotify = ["127.0.0.1:{peer.port}"]\n{transfer}'
        apply(made, KEY + catalog)
        made.start("--token-file", "token")
        text = "$TTL 60\n@ SOA ns hostmaster 5 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n"
        allowed = {"tsig": "transfer-key"}
        assert made.curl("PUT", "zones/member.test", {"text": text, "transfer": allowed})[0] == 201
        peer.follows(5, "member.test")
        assert made.curl("PATCH", "zones/member.test", {"transfer": None})[0] == 200
        within(30, lambda: peer.serial("member.test") is None)


def test_a_catalog_is_consumed(made: Node, tmp_path: Path) -> None:
    """Zones that Knot's catalog names are secondary zones of ours, and go with it."""
    text = "$TTL 60\n@ SOA ns hostmaster 5 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n"
    with KnotProducer(tmp_path / "knot", "member.test", text, made.dns) as peer:
        primaries = f'primaries = ["127.0.0.1:{peer.port}"]\nprimaries_tsig = "transfer-key"\n'
        apply(made, f'{KEY}[zone."{CATALOG}"]\ncatalog = "consume"\n{primaries}')
        made.start("--token-file", "token")
        within(40, lambda: made.dig("A", "ns.member.test") == "192.0.2.1")
        shown = made.curl("GET", "zones/member.test")[1]
        assert (shown["member_of"], shown["primaries"]) == (CATALOG, [f"127.0.0.1:{peer.port}"])
        assert "nothing to change" in made.dnsvip("apply", "site.toml", "--config", "node.toml").stdout
    assert made.curl("DELETE", f"zones/{CATALOG}")[0] == 204
    within(20, lambda: made.curl("GET", "zones/member.test")[0] == 404)
