"""Places: what MaxMind DB files say of an address, how far around it, and what becomes of broken files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.identify import Classifier, Ecs, Requester
from dnsvip.dns.io.geo import GeoFiles
from dnsvip.errors import ConfigError, InvalidSite
from dnsvip.site import Step
from dnsvip.site.io.files import load_node
from tests.mmdb import mmdb
from tests.samples import make_site, make_snapshot


def country(code: str, continent: str) -> dict[str, Any]:
    return {"country": {"iso_code": code, "names": {"en": code * 20}}, "continent": {"code": continent}}


COUNTRIES: Mapping[str, Mapping[str, Any]] = {
    "192.0.2.0/24": country("DE", "EU"),
    "198.51.100.0/25": country("FR", "EU"),
    "198.51.100.128/25": country("US", "NA"),
    "2001:db8:5::/48": country("DE", "EU"),
    "203.0.113.0/24": {"continent": {"code": "AN"}},
    "10.0.0.0/8": {"country": "DE"},
}
NETWORKS = {"192.0.2.0/26": {"autonomous_system_number": 64500}, "2001:db8::/32": {"autonomous_system_number": 64501}}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "country.mmdb", tmp_path / "asn.mmdb"]
    for path, places in zip(paths, (COUNTRIES, NETWORKS), strict=True):
        path.write_bytes(mmdb(places))
    return paths


@pytest.mark.parametrize(
    ("address", "values", "length"),
    [
        ("192.0.2.1", (("asn:64500", 26), ("country:DE", 24), ("continent:EU", 24)), 26),
        ("192.0.2.200", (("country:DE", 24), ("continent:EU", 24)), 25),  # the network beside AS 64500 begins at .128
        ("198.51.100.200", (("country:US", 25), ("continent:NA", 25)), 25),
        ("2001:db8:5::1", (("asn:64501", 32), ("country:DE", 48), ("continent:EU", 48)), 48),
        ("203.0.113.9", (("continent:AN", 24),), 24),
        ("10.1.1.1", (), 8),
    ],
)
def test_values_and_network(files: list[Path], address: str, values: tuple[tuple[str, int], ...], length: int) -> None:
    """All files together give the narrowest place first, each with its network, and the smallest of their networks
    around the address."""
    geo = GeoFiles(files).geo
    assert geo is not None
    assert geo(ip_address(address)) == (values, length)


def test_ipv4_file(tmp_path: Path) -> None:
    """A file of IPv4 alone knows nothing of IPv6 addresses, and says so for all of them."""
    path = tmp_path / "four.mmdb"
    path.write_bytes(mmdb({"192.0.2.0/24": country("DE", "EU")}, version=4))
    geo = GeoFiles([path]).geo
    assert geo is not None
    assert geo(ip_address("192.0.2.1")) == ((("country:DE", 24), ("continent:EU", 24)), 24)
    assert geo(ip_address("2001:db8::1")) == ((), 0)


PLACED = {
    "classify": {"trust_ecs_from": ["127.0.0.0/8"]},
    "client": {
        "berlin": {"id": 1, "tier": "gold", "match": [{"geo": "asn:AS64500"}]},
        "germany": {"id": 2, "tier": "gold", "match": [{"geo": "country:de"}]},
        "europe": {"id": 3, "tier": "gold", "match": [{"geo": "continent:EU"}]},
    },
}


@pytest.mark.parametrize(
    ("source", "ecs", "name", "scope"),
    [
        ("192.0.2.1", None, "berlin", 0),
        ("192.0.2.200", None, "germany", 0),
        ("198.51.100.1", None, "europe", 0),
        ("198.51.100.200", None, None, 0),
        ("127.0.0.1", ("192.0.2.0", 26), "berlin", 26),
        ("127.0.0.1", ("192.0.2.0", 24), "germany", 26),  # all of it, but not all is in one network
        ("127.0.0.1", ("192.0.2.0", 23), None, 26),  # not all of it is in Germany
        ("127.0.0.1", ("192.0.2.128", 32), "germany", 25),
        ("192.0.2.200", ("198.51.100.0", 25), "germany", 0),  # no trusted resolver
        ("192.0.2.200", ("::", 0), "germany", 0),
        ("127.0.0.1", ("::", 0), None, 101),  # IPv4 has a place in the tree, below ::/96
    ],
)
def test_classified_by_place(
    files: list[Path], source: str, ecs: tuple[str, int] | None, name: str | None, scope: int
) -> None:
    """The narrowest place that a client claims decides, by the ECS address where that counts, else by the source."""
    classifier = Classifier(make_snapshot(PLACED), geo=GeoFiles(files).geo)
    told = Ecs(ip_address(ecs[0]), ecs[1]) if ecs else None
    classified = classifier.classify(Requester(ip_address(source), ecs=told))
    assert (classified.client.name if classified.client else None) == name
    assert classified.scope == scope
    assert classified.step == (Step.GEO if name else None)


@pytest.mark.parametrize(
    "value", ["DE", "country:Germany", "continent:XX", "asn:0", "asn:x", "city:Berlin", ":", "country:"]
)
def test_unknown_places_are_refused(value: str) -> None:
    """A value that no file can ever tell is refused with the forms there are."""
    with pytest.raises(InvalidSite, match="country:DE"):
        make_site({"client": {"x": {"id": 9, "tier": "gold", "match": [{"geo": value}]}}})


@pytest.mark.parametrize("content", [None, b"", b"not a database", mmdb(COUNTRIES)[:200]])
def test_unusable_file_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    """A missing file, or one that is not a database, is reported by its path."""
    path = tmp_path / "x.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"geo\.database: .*x\.mmdb"):
        GeoFiles([path])


def test_files_are_followed(files: list[Path]) -> None:
    """A replaced file is in use after `refresh`; a broken or missing one leaves the data before; a later one heals."""
    places, asked = GeoFiles(files), ip_address("198.51.100.1")

    def told() -> tuple[str, ...]:
        assert places.geo is not None
        return tuple(value for value, _ in places.geo(asked)[0])

    before = places.geo
    assert not places.refresh()
    new = files[0].with_suffix(".new")
    new.write_bytes(mmdb({"198.51.100.0/24": country("CH", "EU")}))
    new.replace(files[0])
    assert places.refresh()
    assert told() == ("country:CH", "continent:EU")
    os.truncate(files[0], 100)
    assert not places.refresh()
    files[0].unlink()
    assert not places.refresh()
    assert told() == ("country:CH", "continent:EU")
    files[0].write_bytes(mmdb(COUNTRIES))
    assert places.refresh()
    assert told() == ("country:FR", "continent:EU")
    assert before is not None
    assert before(asked)[0] == (("country:FR", 25), ("continent:EU", 25))


def test_no_files_no_step(files: list[Path]) -> None:
    """Without files the step never matches, and an engine takes them up and gives them up with its next."""
    snapshot = make_snapshot(PLACED)
    engine = Engine(snapshot)
    for geo, name in ((GeoFiles(files).geo, "germany"), (GeoFiles([]).geo, None)):
        engine = Engine(snapshot, engine, geo)
        classified = engine.tables.classifier.classify(Requester(ip_address("192.0.2.200")))
        assert (classified.client.name if classified.client else None) == name


@pytest.mark.parametrize(
    ("text", "paths"), [('"a.mmdb"', ["a.mmdb"]), ('["a.mmdb", "/b.mmdb"]', ["a.mmdb", "/b.mmdb"])]
)
def test_node_file(tmp_path: Path, text: str, paths: list[str]) -> None:
    """The node file names one file or several, relative to itself."""
    node = tmp_path / "node.toml"
    node.write_text(f'database = "sqlite:///x.db"\n[geo]\ndatabase = {text}\n')
    assert load_node(node).geo.database == tuple(tmp_path / path for path in paths)
