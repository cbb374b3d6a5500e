"""What clients themselves say, as it is declared: claims, flow labels, source addresses, and the words of rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dnsvip.address.layout import Layout
from dnsvip.errors import InvalidSite
from dnsvip.site import Cluster
from dnsvip.site.plain import dump, parse
from dnsvip.site.rotation import field_seconds
from dnsvip.site.rules import warnings
from tests.samples import make_site

SAYING: Mapping[str, Any] = {
    "layout": [["tier", 4], ["client", 16], ["expiry", 6]],
    "claims": [["content", 3], ["session", 8]],
    "label": {"claims": [["quality", 4], ["priority", 3]], "mac_bits": 13},
    "source": {"layout": [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]], "tag_bits": 24},
    "values": {"content": {"video": 1, "page": 2}},
}


def saying(**changes: Any) -> Mapping[str, Any]:
    """Tables in which clients of the IPv6 cluster say something."""
    return {"cluster": {"web": {**SAYING, **changes}}}


def rule(**when: Any) -> Mapping[str, Any]:
    """Tables with one rule of that cluster."""
    return saying(select=[{"when": when, "pool": "fast"}])


def cluster_of(changes: Mapping[str, Any]) -> Cluster:
    """The IPv6 cluster of a site with changes."""
    cluster = make_site(changes).clusters["web"]
    assert isinstance(cluster, Cluster)
    return cluster


def test_what_clients_say_is_read_and_shown() -> None:
    """The declarations are read, shown as they were, and make the bits of addresses, labels and sources."""
    cluster = cluster_of(saying())
    assert parse("cluster", "web", dump(cluster)) == cluster
    assert cluster.address_layout == Layout(cluster.prefix, cluster.layout, 24, (("content", 3), ("session", 8)))
    assert cluster.label_format is not None
    assert (cluster.label_format.claim_bits, cluster.label_format.mac_bits) == (7, 13)
    assert cluster.source_format is not None
    assert cluster.source_format.payload_bits == 37
    assert cluster.claimed == {"content": 3, "session": 8, "quality": 4, "priority": 3}


def test_without_them_nothing_changes() -> None:
    """A cluster that declares none of them has the layout that it had."""
    cluster = cluster_of({})
    assert cluster.address_layout == Layout(cluster.prefix, cluster.layout, 24)
    assert (cluster.label_format, cluster.source_format, cluster.claimed) == (None, None, {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (saying(claims=[["content", 3]]), r"fields 26 \+ claims 3 \+ tag 24 = 120 bits: must be 128"),
        (saying(claims=[["tier", 3], ["session", 8]]), "a field name is used twice"),
        (saying(claims=[["nonce", 11]]), "nonce cannot be claimed"),
        (saying(claims=[["content", 25]]), "less than or equal to 24"),
        (saying(label={"claims": [["content", 7]], "mac_bits": 13}), "label.claims: 'content' is in claims too"),
        (saying(label={"claims": [["client", 7]], "mac_bits": 13}), "client cannot be claimed"),
        (saying(label={"claims": [["quality", 7]], "mac_bits": 12}), r"claims 7 \+ mac 12 = 19 bits: must be 20"),
        (saying(label={"claims": [["quality", 1]], "mac_bits": 20}), "label.mac_bits: input should be less than"),
        (saying(label={"claims": [], "mac_bits": 19}), "label.claims: .*at least 1 item"),
        (saying(source={"layout": [["client", 20]], "tag_bits": 24}), "fields 20 . tag 24 = 47 bits: must be 64"),
        (saying(source={"layout": [["client", 9], ["tier", 28]], "tag_bits": 24}), "client.acme.id: .*9 bits"),
        (saying(source={"layout": [["client", 34], ["tier", 3]], "tag_bits": 24}), "tier.blocked.code: .*3 bits"),
        (
            saying(layout=[["tier", 4], ["expiry", 22]]),
            '(?s)web.claims: needs a field "client" in the layout.*web.label: needs a field "client"',
        ),
        (saying(values={"content": {"video": 8}}), "value of 'video' is 8: the field 'content' has 3 bits"),
        (saying(values={"session": {"x": 1}}), "values.session: is not an attribute field of the layout, nor a claim"),
        (saying(values={"hat": {"x": 1}}), "values.hat: is not an attribute field of the layout, nor a claim"),
        (rule(content="pages"), "'pages' is not in cluster.web.values: video, page"),
        (rule(quality=16), "value is 16: the field 'quality' has 4 bits"),
        (rule(session=1), "when.session: unknown condition; known here: tier, client, proof, content, quality"),
        (rule(content="video", proof="issued"), "only an address that is proven carries the claim content"),
        (rule(quality=3, proof="plain"), "an address that is plain carries no quality"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: Mapping[str, Any], message: str) -> None:
    """Widths, names and words that cannot be are named, with what would be right."""
    with pytest.raises(InvalidSite, match=message):
        make_site(changes)


@pytest.mark.parametrize(
    "when",
    [
        {"content": "video"},
        {"content": ["video", 0], "proof": "issued"},
        {"quality": 3, "proof": "issued"},
        {"content": "video", "proof": ["issued", "proven"]},
        {"priority": [1, 2]},
    ],
)
def test_rules_know_claims(when: Mapping[str, Any]) -> None:
    """Rules name claims like attributes of the layout."""
    assert cluster_of(rule(**when)).select[0].when.keys() == when.keys()


def test_short_tags_of_sources_are_warned_of() -> None:
    """A source tag under 16 bits is warned of."""
    site = make_site(saying(source={"layout": [["client", 46]], "tag_bits": 15}))
    assert [str(remark) for remark in warnings(site) if "source" in remark.where] == [
        "cluster.web.source.tag_bits: one forged address in 32768 passes; use 16 or more"
    ]


def test_short_nonces_of_answers_are_warned_of() -> None:
    """A nonce for each answer is worth little where a client has few of them, and nothing without a field."""
    few = make_site({"cluster": {"web": {"nonce": "answer"}}})
    (remark,) = (str(remark) for remark in warnings(few) if remark.where.endswith(".nonce"))
    assert remark == "cluster.web.nonce: a client has 64 addresses, and answers repeat soon; use 16 bits or more"
    with pytest.raises(InvalidSite, match=r'cluster\.web\.nonce: needs a field "nonce" in the layout'):
        make_site({"cluster": {"web": {"nonce": "answer", "layout": [["tier", 4], ["client", 33]]}}})


def test_the_shortest_expiry_field_decides_rotation() -> None:
    """Keys rotate before the expiry field of addresses or of source addresses is full, whichever comes first."""
    wide, narrow = cluster_of(saying(layout=[["tier", 4], ["client", 12], ["expiry", 10]])), cluster_of(saying())
    assert field_seconds(wide) == 126 * 900 - 120
    assert field_seconds(narrow) == 62 * 900 - 120
