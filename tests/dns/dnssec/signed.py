"""Signed zones for tests, and the anchors that validators trust them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dnsvip.dns.dnssec.keys import SigningKey, ds_text
from dnsvip.dns.zones.record import labels_of
from dnsvip.site import Dnssec, DnssecAlgorithm, DnssecDenial, Snapshot, ZoneKey
from tests.dns.world import world_snapshot

P256, ED25519 = DnssecAlgorithm.ECDSAP256SHA256, DnssecAlgorithm.ED25519


def key_of(algorithm: DnssecAlgorithm = P256, number: int = 1) -> ZoneKey:
    """A key that is always the same."""
    return ZoneKey(number, algorithm, bytes(range(number, 32 + number)), 1_700_000_000)


def signed(
    snapshot: Snapshot, zones: Mapping[str, DnssecAlgorithm], denial: DnssecDenial = DnssecDenial.COMPACT
) -> Snapshot:
    """The snapshot with these of its zones signed."""
    keys = {name: (key_of(algorithm),) for name, algorithm in zones.items()}
    site = snapshot.site
    changed = {
        name: replace(site.zones[name], dnssec=Dnssec(True, algorithm, denial)) for name, algorithm in zones.items()
    }
    return replace(snapshot, site=replace(site, zones={**site.zones, **changed}), zone_keys=keys)


def signed_world(denial: DnssecDenial = DnssecDenial.COMPACT) -> Snapshot:
    """The world with two of its zones signed; the third is delegated insecurely."""
    return signed(world_snapshot(), {"example.test": P256, "other.test": ED25519}, denial)


def anchor(snapshot: Snapshot, name: str) -> str:
    """The DS record of a signed zone."""
    key = SigningKey.of(snapshot.zone_keys[name][0])
    return ds_text(name, key.ds(labels_of(name)))
