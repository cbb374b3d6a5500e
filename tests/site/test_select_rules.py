"""What picks a pool beside the tier: rules of clusters, pools and servers of clients, attributes of services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dnsvip.errors import InvalidSite
from dnsvip.site.plain import dump, parse
from dnsvip.site.references import references
from dnsvip.site.rights import Action, Rights, Scope
from dnsvip.site.select_rules import MOST_SETS
from tests.samples import make_site

WEB = {
    "layout": [["tier", 4], ["client", 20], ["lang", 3], ["content", 4], ["nonce", 6]],
    "values": {"lang": {"fr": 1, "en": 2}},
}
GOLD = {"when": {"tier": "gold"}, "pool": "fast"}
NAT6 = {"forward": "nat", "servers": [{"name": "n1", "address": "fd00::9"}]}


def rules(*select: Mapping[str, Any], **changes: Any) -> Mapping[str, Any]:
    """Tables with these rules in the IPv6 cluster."""
    return {"cluster": {"web": {**WEB, **changes, "select": list(select)}}}


def rule(pool: str = "fast", dscp: int | None = None, **when: Any) -> Mapping[str, Any]:
    """A rule as plain data."""
    return {"when": when, "pool": pool} | ({} if dscp is None else {"dscp": dscp})


def faults(changes: Mapping[str, Any]) -> str:
    """What is said of a site with changes."""
    with pytest.raises(InvalidSite) as caught:
        make_site(changes)
    return str(caught.value)


def test_rules_are_read_and_shown() -> None:
    """A word, a number or a list is read; what is shown reads the same, one word without its list."""
    select = [rule(lang="fr", content=[1, 2], client="acme"), rule("slow", 26, tier="gold", proof=["proven", "issued"])]
    cluster = make_site(rules(*select)).clusters["web"]
    assert [one.when for one in cluster.select] == [
        {"lang": ("fr",), "content": (1, 2), "client": ("acme",)},
        {"tier": ("gold",), "proof": ("proven", "issued")},
    ]
    shown = dump(cluster)
    assert [one["when"] for one in shown["select"]] == [one["when"] for one in select]
    assert parse("cluster", "web", shown) == cluster
    assert {("pool", "slow"), ("pool", "fast"), ("client", "acme"), ("tier", "gold")} <= set(references(cluster))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (rules(rule("nowhere")), "cluster.web.select.0.pool: 'nowhere' is not a pool of this site"),
        (rules(rule(tier="platinum")), "cluster.web.select.0.when.tier: 'platinum' is not a tier of this site"),
        (rules(rule(client="nobody")), "cluster.web.select.0.when.client: 'nobody' is not a client of this site"),
        (rules(rule(lang="de")), "cluster.web.select.0.when.lang: 'de' is not in cluster.web.values: fr, en"),
        (rules(rule(lang=3)), "cluster.web.select.0.when.lang: 3 is not in cluster.web.values: fr, en"),
        (rules(rule(content="page")), "must be a number, as cluster.web has no table values.content"),
        (rules(rule(content=16)), "value is 16: the field 'content' has 4 bits, so 0 to 15"),
        (rules(rule(age=1)), "when.age: unknown condition; known here: tier, client, proof, lang, content"),
        (rules(rule(nonce=1)), "when.nonce: unknown condition"),
        (rules(rule(proof="sealed")), "'sealed' must be proven or issued or plain or source or resumed"),
        (rules(rule(lang=[])), "when.lang: must be a word, a number, or a list of them"),
        (rules(rule(lang=True)), "when.lang: must be a word, a number, or a list of them"),
        (rules({"when": {}, "pool": "fast", "dscp": 64}), "cluster.web.select.0.dscp: input should be less than"),
        (
            rules({"when": {}, "pool": "fast", "priority": 8}),
            "select.0.priority: input should be less than",
        ),
        (rules(*[rule(content=n % 16) for n in range(65)]), "at most 64 items"),
        (rules(GOLD, rule(tier="gold", lang="fr")), "select.1: can never fit: where rule 2 fits, rule 1 (cluster.web"),
        (rules(rule(), GOLD), "select.1: can never fit: where rule 2 fits, rule 1"),
        (rules(rule(lang=[0, 1, "en"]), GOLD), "can never fit"),
        (rules(rule(proof="plain", client="acme")), "when.client: can never fit: an address that is plain carries no"),
        (rules(rule(proof="plain", lang="fr")), "when.lang: can never fit"),
        (
            rules(rule(client="acme"), layout=[["tier", 4], ["content", 4], ["lang", 4], ["nonce", 25]]),
            "can never fit: no address of this cluster carries a client (layout)",
        ),
        ({"cluster": {"legacy": {"select": [rule(client="acme")]}}}, "unknown condition; known here: tier, proof"),
        ({"cluster": {"legacy": {"select": [rule(proof="issued")]}}}, "'issued' must be plain"),
        (
            {"cluster": {"legacy": {"select": [rule("nat", tier="gold")]}}, "pool": {"nat": NAT6}},
            "cluster.legacy.select.0.pool: pool 'nat' has no server with an IPv4 address",
        ),
        ({"client": {"acme": {"pool": "nowhere"}}}, "client.acme.pool: 'nowhere' is not a pool"),
        ({"client": {"acme": {"pool": "fast", "servers": ["fast-1"]}}}, "name a pool or servers, not both"),
        ({"client": {"acme": {"servers": ["fast-9"]}}}, "'fast-9' is not a server of this site"),
        ({"client": {"acme": {"servers": ["slow/fast-1"]}}}, "'slow/fast-1' is not a server of this site"),
        ({"client": {"acme": {"servers": ["fast-1", "fast-1"]}}}, "'fast-1' is listed twice"),
        ({"client": {"acme": {"servers": ["a/b/c"]}}}, "client.acme.servers.0: string should match pattern"),
        (
            {
                "client": {"acme": {"servers": ["fast-1"]}},
                "pool": {"slow": {"servers": [{"name": "fast-1", "address": "fd00:10::21"}]}},
            },
            "'fast-1' is in 2 pools (fast, slow): name it as POOL/SERVER",
        ),
        ({"service": {"www.example.test": {"attributes": {"lang": 1}}}}, "cluster.web has no such attribute"),
        (
            {**rules(), "service": {"www.example.test": {"attributes": {"lang": "de"}}}},
            "service.www.example.test.attributes.lang: 'de' is not in cluster.web.values",
        ),
    ],
)
def test_what_means_nothing(changes: Mapping[str, Any], message: str) -> None:
    """What means nothing, does not fit, or can never decide is refused by its name."""
    assert message in faults(changes)


@pytest.mark.parametrize(
    "select",
    [
        [rule(tier="gold", lang="fr"), GOLD, rule()],
        [rule(proof="proven", tier="gold"), GOLD],
        [rule(lang=0), rule(lang=["fr", 2])],
        [rule(client=["acme", "newsreader"]), rule(proof=["source", "resumed", "plain"])],
    ],
)
def test_rules_that_can_fit(select: list[Mapping[str, Any]]) -> None:
    """Rules in the order from the special to the general can all fit."""
    assert len(make_site(rules(*select)).clusters["web"].select) == len(select)


def test_many_sets_of_own_servers() -> None:
    """A site has a bounded number of different sets of own servers; equal ones are one, in whatever order."""
    servers = [{"name": f"s{n}", "address": f"fd00:10::{n:x}"} for n in range(MOST_SETS + 2)]
    tables = {"pool": {"fast": {"servers": servers}}}

    def clients(count: int) -> Mapping[str, Any]:
        one = {f"c{n}": {"id": n + 1, "tier": "gold", "servers": [f"s{n}", "fast/s0"]} for n in range(1, count + 1)}
        return {**one, "again": {"id": 9_999, "tier": "gold", "servers": ["fast/s0", "s1"]}}

    assert make_site({**tables, "client": clients(MOST_SETS)})
    assert f"have {MOST_SETS + 1} different sets" in faults({**tables, "client": clients(MOST_SETS + 1)})


@pytest.mark.parametrize(("tiers", "reached"), [(("*",), True), (("gold",), False)])
def test_a_narrowed_scope_gives_no_pool(tiers: tuple[str, ...], reached: bool) -> None:
    """Who may give some tiers only gives a client neither pool nor servers, which may be another tier's."""
    rights = Rights((Scope((Action.WRITE,), ("client",), tiers=tiers),))
    plain = make_site().clients["acme"]
    for own in ({"pool": "slow"}, {"servers": ["slow-1"]}):
        given = make_site({"client": {"acme": own}}).clients["acme"]
        assert rights.allow_client(plain, given) is reached
        assert rights.allow_client(given, plain)
        assert rights.allow_client(given, given)
