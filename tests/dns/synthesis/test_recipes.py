"""What many clients' addresses are made of at once is what those of each are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsvip.dns.identity.identify import Classified
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import Client, Service, Step
from tests.dns.synthesis.test_vip import ANYWHERE, ENCODED, WWW
from tests.samples import make_snapshot, snapshot_of

LAYOUTS = (
    (("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 6)),
    (("tier", 4), ("client", 11), ("lang", 4), ("session", 11), ("expiry", 7)),
    (("client", 20), ("lang", 2), ("session", 8), ("nonce", 7)),
    (("tier", 4), ("nonce", 33)),
)
CLIENTS = [
    Client(f"c{id_}", id_, tier, attributes=attributes)
    for id_ in (1, 2, 2000, 1 << 20, 1 << 40)
    for tier in ("gold", "standard", "lost")
    for attributes in ({}, {"lang": 1}, {"lang": 3}, {"lang": 9})
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("asked", [{}, {"lang": 2}])
def test_payloads_are_those_of_recipes(layout: tuple[tuple[str, int], ...], asked: dict[str, int | str]) -> None:
    """Also of clients that do not fit, and of attributes that a service asks for."""
    snapshot = make_snapshot(ENCODED)
    web = replace(snapshot.site.clusters["web"], layout=layout, tag_bits=24)
    snapshot = snapshot_of(replace(snapshot.site, clusters={**snapshot.site.clusters, "web": web}))
    service: Service = replace(WWW, attributes=asked)
    site = replace(snapshot.site, services={service.name: service})
    vips = VipMaker(replace(snapshot, site=site))
    payloads = []
    for client in [*CLIENTS, *CLIENTS]:
        recipe = vips.recipe(service, Classified(client, Step.ECS), ANYWHERE)
        made = vips.payload(service, client)
        assert (made and made[1]) == (recipe and recipe[1].payload)
        payloads.append(made)
    assert any(payloads)
    assert vips.basis(service, Type.AAAA) == VipMaker(replace(snapshot, site=site)).basis(service, Type.AAAA)
    assert vips.basis(service, Type.AAAA) != vips.basis(replace(service, cluster=None), Type.AAAA)
