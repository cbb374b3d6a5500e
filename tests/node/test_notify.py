"""A node and its secondaries BIND, Knot and NSD: each change reaches them at once, as differences."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from tests.dns.secondaries import SECONDARIES
from tests.dns.world import SECRET
from tests.node.serving import node, within

NAME = "example.test"


def test_changes_reach_secondaries(tmp_path: Path) -> None:
    """An edit through the API and one of the site file are in all of them by NOTIFY, long before they would look; who
    does not take it is named."""
    (tmp_path / "node").mkdir()
    with node(tmp_path / "node") as made, ExitStack() as stack:
        enter = stack.enter_context
        peers = [enter(kind(tmp_path / name, NAME, made.dns)) for name, kind in SECONDARIES.items()]  # type: ignore[attr-defined]
        site, zone = made.folder / "site.toml", made.folder / "example.test.zone"
        targets = ", ".join(f'"127.0.0.1:{peer.port}"' for peer in peers)
        settings = (
            f'transfer = {{ tsig = "transfer-key" }}\nnotify = [{targets}, "[::1]:{made.dns}"]\nnotify_ns = false\n'
        )
        text = site.read_text().replace(
            '[service."www', f'{settings}[tsig."transfer-key"]\nsecret = "{SECRET}"\n[service."www'
        )
        site.write_text(text)
        made.apply()
        made.start("--token-file", "token")
        first = int(re.search(r"hostmaster (\d+)", zone.read_text())[1])  # type: ignore[index]
        for peer in peers:
            peer.follows(first)
        raised = zone.read_text().replace(str(first), str(first + 1))
        assert made.noun("zones", "set", NAME, f"text={raised}").returncode == 0
        for peer in peers:
            peer.follows(first + 1)
        changed = zone.read_text().replace(str(first), str(first + 2)) + "edited A 192.0.2.98\n"
        zone.write_text(changed)
        assert made.dnsvip("apply", "site.toml", "--config", "node.toml").returncode == 0
        for peer in peers:
            peer.follows(first + 2)
            assert peer.records(f"edited.{NAME}", "A") == {"192.0.2.98"}
        within(30, lambda: "NOTIFY to ::1" in made.noun("nodes", "list").stdout)
