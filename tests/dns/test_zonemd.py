"""The digest of a zone (RFC 8976): it fits what is transferred, by dnspython's and Knot's judgement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import dns.query
import dns.xfr
import dns.zone
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.site import Service, Snapshot, Transfer
from tests.dns.dnssec.signed import P256, signed
from tests.dns.secondaries import SecondaryKnot
from tests.dns.world import Running, world_snapshot

NAME = "example.test"


def digested() -> Snapshot:
    """The sample site, whose zones have digests and may be transferred by loopback and with a key."""
    sample = world_snapshot()
    transfer = Transfer(to=(ip_network("127.0.0.0/8"),))
    zones = {name: replace(zone, zonemd=True, transfer=transfer) for name, zone in sample.site.zones.items()}
    return replace(sample, site=replace(sample.site, zones=zones))


@pytest.fixture(scope="module")
def serving() -> Iterator[Running]:
    with Running(digested()) as running:
        yield running


def transferred(running: Running, name: str) -> dns.zone.Zone:
    """The zone as dnspython gets it."""
    zone = dns.zone.Zone(name, relativize=False)
    query, _ = dns.xfr.make_query(zone, serial=None)
    dns.query.inbound_xfr("127.0.0.1", zone, query, running.port, timeout=20)
    return zone


@pytest.mark.parametrize("name", ["example.test", "child.example.test", "other.test"])
def test_it_fits(serving: Running, name: str) -> None:
    """The digest fits the zone as it is transferred, with the plain addresses of its services; a query gets it too."""
    zone = transferred(serving, name)
    zone.verify_digest()
    soa = zone.get_soa()
    digest = zone.find_rdataset(name + ".", "ZONEMD")[0]
    assert digest.serial == soa.serial
    asked = serving.dig("+tcp", name, "ZONEMD").answer
    assert "".join(asked[0].split(" ")[6:]).lower() == digest.digest.hex()


def test_it_follows_services(serving: Running) -> None:
    """A service that comes changes the digest, and another change of the site does not make it anew."""
    before = serving.server.engine
    more = digested()
    services = {**more.site.services, f"new.{NAME}": Service(f"new.{NAME}", "web")}
    later = Engine(replace(more, site=replace(more.site, services=services)), before)
    serving.in_loop(lambda: serving.server.update(replace(more, site=replace(more.site, services=services))))
    zone = transferred(serving, NAME)
    zone.verify_digest()
    assert zone.get_node(f"new.{NAME}.")
    apex = (b"example", b"test")
    same = Engine(replace(more, generation=9, site=replace(more.site, services=services)), later)
    assert same.zones.by_apex[apex] is later.zones.by_apex[apex]
    assert later.zones.by_apex[apex] is not before.zones.by_apex[apex]


def test_signed_here() -> None:
    """A zone that is signed here has a signed ZONEMD, over the unsigned zone that is transferred."""
    with Running(signed(digested(), {NAME: P256})) as running:
        transferred(running, NAME).verify_digest()
        reply = running.dig("+tcp", "+dnssec", NAME, "ZONEMD")
    assert {line.split(" ")[2] for line in reply.answer} == {"ZONEMD", "RRSIG"}


class Verifying(SecondaryKnot):
    """Knot as a secondary that takes only zones whose digest fits."""

    def configuration(self) -> str:
        return super().configuration().replace("    key: transfer-key\n", "", 1) + "    zonemd-verify: on\n"


def test_knot_verifies(serving: Running, tmp_path: Path) -> None:
    """Knot takes the zone because its digest fits."""
    with Verifying(tmp_path / "knot", "other.test", serving.port) as knot:
        serial = transferred(serving, "other.test").get_soa().serial
        knot.follows(serial)
        assert knot.records("other.test", "ZONEMD")
