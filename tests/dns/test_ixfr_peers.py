"""BIND, Knot and NSD follow us by incremental transfers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dnsvip.dns.zones.delta import zone_change
from dnsvip.site import Snapshot, Transfer, Zone
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.secondaries import SECONDARIES
from tests.dns.test_transfer import tables
from tests.dns.world import ZONES, Running
from tests.samples import snapshot_of

NAME = "follow.test"
BODY = "".join(f"host-{n} AAAA 2001:db8::{n:x}\n" for n in range(500))


def zone(serial: int, more: str) -> Zone:
    """The zone, whose secondaries look for a new one each second."""
    head = f"$ORIGIN {NAME}.\n$TTL 60\n@ SOA ns hostmaster {serial} 1 1 86400 60\n@ NS ns\nns A 192.0.2.1\n"
    return Zone(NAME, head + BODY + more, Transfer(tsig="transfer-key"))


def snapshot(*zones: Zone) -> Snapshot:
    """A site with the last of these, and how it came about."""
    sample = snapshot_of(build_site(tables(), zone_files(ZONES)))
    site = replace(sample.site, zones={NAME: zones[-1]}, services={})
    changes = [zone_change(one, other) for one, other in pairwise(zones)]
    return replace(sample, site=site, journals={NAME: tuple(change for change in changes if change)})


@pytest.mark.parametrize("program", list(SECONDARIES))
def test_followed(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secondary gets the whole zone once and then each change alone, several at once where it has missed some."""
    sent: list[int] = []
    zones = [
        zone(1, "a A 192.0.2.7\nb TXT old\n"),
        zone(2, "a A 192.0.2.8\nb TXT old\n"),
        zone(3, "a A 192.0.2.8\nb TXT new\n"),
        zone(4, "a A 192.0.2.8\nc MX 10 host-1\n"),
    ]
    with Running(snapshot(zones[0])) as running:
        transfers: Any = type(running.server.engine._transfers)
        since, whole = transfers._since, transfers.records
        counted = lambda self, zone, *rest: sent.append(0) or whole(self, zone, *rest)  # noqa: E731
        noted = lambda *args: ((found := since(*args)) and sent.append(len(found))) or found  # noqa: E731
        monkeypatch.setattr(transfers, "records", counted)
        monkeypatch.setattr(transfers, "_since", noted)
        with SECONDARIES[program](tmp_path / program, NAME, running.port) as peer:  # type: ignore[attr-defined]
            peer.follows(1)
            assert peer.records(f"a.{NAME}", "A") == {"192.0.2.7"}
            running.in_loop(lambda: running.server.update(snapshot(*zones[:2])))
            peer.follows(2)
            assert peer.records(f"a.{NAME}", "A") == {"192.0.2.8"}
            running.in_loop(lambda: running.server.update(snapshot(*zones)))
            peer.follows(4)
            assert peer.records(f"b.{NAME}", "TXT") == set()
            assert peer.records(f"c.{NAME}", "MX") == {f"10 host-1.{NAME}."}
            assert peer.records(f"host-499.{NAME}", "AAAA") == {"2001:db8::1f3"}
    assert sent == [0, 1, 2], peer.text()
