"""The preview of a cluster: a real address of its layout, which no dispatcher accepts."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dnsvip.site.rotation import field_seconds, rotation_seconds
from tests.admin.conftest import Api

DRAFT: dict[str, Any] = {
    "prefix": "2001:db8:f:1::/64",
    "layout": [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]],
    "tag_bits": 24,
}


async def test_an_address_of_the_layout(api: Api) -> None:
    """It is in the prefix, new each time, and says what follows from the widths, as the stored cluster does."""
    first, second = [await api.ok("POST", "clusters/draft/preview", DRAFT) for _ in range(2)]
    assert ip_address(first["address"]) in ip_network(DRAFT["prefix"])
    assert first["address"] != second["address"]
    assert (first["values"]["client"], first["values"]["expiry"], first["values"]["tier"]) == (1001, 1, 1)
    assert (first["tag_bits"], first["proof_bits"]) == (24, 16)
    before = await api.store.generation()
    stored = await api.ok("PUT", "clusters/draft", {**DRAFT, "plain": "2001:db8:f:1::1", "default_tier": "standard"})
    assert stored["tag_bits"] == 24
    assert await api.store.generation() == before + 1
    cluster: Any = await api.store.objects.get("cluster", "draft")
    assert first["expiry_seconds"] == field_seconds(cluster)
    assert first["rotation_seconds"] == rotation_seconds(cluster)


async def test_it_opens_nothing(api: Api) -> None:
    """Of a cluster that has keys too: the address is under a key of its own, and is decoded as a forgery."""
    web = await api.ok("GET", "clusters/web")
    for _ in range(3):
        address = (await api.ok("POST", "clusters/web/preview", web))["address"]
        assert (await api.ok("GET", f"decode?address={address}"))["reason"] in ("bad-tag", "unknown-epoch")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag_bits": 23}, "127 bits: must be 128"),
        ({"tag_bits": 7}, "must be 8 to 64"),
        ({"layout": [["tier", 4], ["client", 0]]}, "layout"),
        ({"prefix": None}, "prefix"),
        ({"prefix": "192.0.2.0/28"}, ""),
        ({"layout": [["tier", 1]] * 65}, "layout"),
    ],
    ids=["a-bit-too-few", "short-tag", "empty-field", "no-prefix", "ipv4", "many-fields"],
)
async def test_what_does_not_add_up(api: Api, change: dict[str, Any], said: str) -> None:
    """A draft that could not be stored is refused with the reason."""
    answer = await api("POST", "clusters/draft/preview", {**DRAFT, **change})
    assert answer.status == 422, answer.text
    assert said in answer.text
