"""Which pool and server a flow gets: by its client, the rules of its cluster, or its tier."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from random import Random
from typing import Any

import pytest

from dnsvip.address.keyring import Keyring
from dnsvip.dispatcher.admission import queue_of
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.holding import CLAIMED
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.routes import EVIDENCE, RULE_OWN, CompiledRules, Router
from dnsvip.dispatcher.simulate import simulate
from dnsvip.dispatcher.verdict import AddressVerdict, Verdict
from dnsvip.site import Client, Evidence, OnInvalid, Over, Pool, Rate, SelectRule, ServerState, Site, Snapshot
from dnsvip.site.routing import number_of
from dnsvip.site.select_rules import MOST_SETS
from tests.dispatcher.build import (
    ACK,
    CLIENT,
    CLIENTS,
    CLUSTER,
    CLUSTER4,
    EPOCH,
    MASTER,
    NOW,
    NOW_NS,
    PLAIN,
    POOLS,
    SITE,
    SYN,
    TIERS,
    proven,
    segment,
    servers,
)

LAYOUT = (("tier", 4), ("client", 20), ("lang", 3), ("content", 4), ("nonce", 6))
VALUES = {"lang": {"fr": 1, "en": 2}}
EXTRA = {name: Pool(name, servers(name, 2)) for name in ("fr", "video", "canary")}


def rule(pool: str, dscp: int | None = None, **when: Any) -> SelectRule:
    """A rule; one word needs no tuple."""
    return SelectRule({name: one if isinstance(one, tuple) else (one,) for name, one in when.items()}, pool, dscp)


def site(*select: SelectRule, clients: Mapping[str, Client] = CLIENTS, **changes: Any) -> Site:
    """The site with attributes, rules and some more pools."""
    fields: dict[str, Any] = {"layout": LAYOUT, "values": VALUES, "select": select, **changes}
    cluster = replace(CLUSTER, **fields)
    pools = {**POOLS, **EXTRA}
    return replace(SITE, clusters={"web": cluster, "legacy": CLUSTER4}, pools=pools, clients=clients)


def tables(of: Site, previous: DispatchTables | None = None) -> DispatchTables:
    """The site's tables with keys."""
    keyring = Keyring(of.clusters["web"].address_layout, [EPOCH])  # type: ignore[union-attr]
    return DispatchTables(Snapshot(1, of, {"web": keyring}, {"web": MASTER}), previous)


def vip(
    at: DispatchTables, tier: str = "gold", client: int = 0, lang: int = 0, content: int = 0, nonce: int = 0
) -> int:
    """An issued address."""
    active = at.snapshot.keyrings["web"].active
    assert active
    code = TIERS[tier].code
    return active[1].encode({"tier": code, "client": client, "lang": lang, "content": content, "nonce": 0})


def see(at: DispatchTables, address: int, flows: Flows | None = None, flags: int = SYN, port: int = 40_000) -> Verdict:
    """The verdict on a packet."""
    return decide(segment(address, flags, port), at, Flows(100) if flows is None else flows, NOW_NS)


def pool(verdict: Verdict) -> str | None:
    """The pool of its server."""
    return verdict.server.pool if verdict.server else None


def test_the_first_rule_that_fits_decides() -> None:
    """Tier, client, attributes and proof decide together, in order, with a DSCP of the rule's own; else the tier."""
    at = tables(
        site(
            rule("fr", tier="gold", lang="fr"),
            rule("video", 26, content=(2, 9), client=("acme", "once")),
            rule("canary", tier="standard", proof=("issued", "plain")),
        )
    )
    seen = {
        (pool(verdict), verdict.dscp)
        for verdict in (see(at, vip(at, lang=1)), see(at, vip(at, client=1001, lang=1, content=2)))
    }
    assert seen == {("fr", 34)}
    verdict = see(at, vip(at, client=1001, lang=2, content=9))
    assert (pool(verdict), verdict.dscp) == ("video", 26)
    assert pool(see(at, vip(at, client=7, content=9))) == "fast"
    assert pool(see(at, vip(at, "standard"))) == pool(see(at, PLAIN)) == "canary"
    assert see(at, PLAIN).dscp is None


def test_the_priority_of_a_rule_comes_before_its_tiers() -> None:
    """A rule with a priority gives it to the flows that fit, in place of their tier's: held ones go by it, and a full
    table keeps them; a rule without one leaves the tier's."""
    gold = replace(TIERS["gold"], rate=Rate(10, 1, Over.HOLD), priority=2)
    rules = replace(rule("fr", lang="fr"), priority=7), replace(rule("video", lang="en"), priority=0), rule("canary")
    at = tables(replace(site(*rules), tiers={**TIERS, "gold": gold}))
    flows, waiting = Flows(100), []
    assert see(at, vip(at), flows, port=1).reason == "issued"
    for port, lang in enumerate((0, 1, 2), 2):
        verdict = see(at, vip(at, lang=lang), flows, port=port)
        assert verdict.reason == "held"
        bucket, priority = queue_of(verdict, at)
        flows.hold.add(bucket, priority, pool(verdict), 0)
        waiting.append((pool(verdict), priority // CLAIMED))
    assert waiting == [("canary", 2), ("fr", 7), ("video", 0)]
    assert [flows.hold.release("gold", 0) for _ in waiting] == ["fr", "canary", "video"]
    assert sorted(flows.probation.priorities) == [0, 2, 2, 7]


def test_flows_keep_their_places_by_the_priority_of_their_rule() -> None:
    """Of one tier, flows that fit a rule of a higher priority keep their places in a full table; a SYN that opens a
    flow again to another address gives it that one's priority."""
    at = tables(site(replace(rule("fast", lang="fr"), priority=5)))
    flows = Flows(32)
    for port in range(4):
        see(at, vip(at, lang=1), flows, port=port)
    for port in range(4, 40):
        see(at, vip(at), flows, port=port)
    assert {port for port in range(40) if see(at, vip(at, lang=1), flows, ACK, port).reason == "known"} >= set(range(4))
    later = tables(site(replace(rule("fast", lang="fr"), priority=1)), at)
    assert set(flows.established.priorities[:4]) == {5}
    assert see(later, vip(later, lang=1), flows, SYN, 0).reason == "known"
    assert sorted(flows.established.priorities[:4]) == [1, 5, 5, 5]


def test_an_address_that_says_nothing_has_no_priority_of_a_rule() -> None:
    """Rules of clients and attributes give no priority to an address that only `on_invalid` lets in."""
    at = tables(site(replace(rule("fr", client="acme"), priority=7), on_invalid=OnInvalid.DEFAULT_TIER))
    flows = Flows(100)
    for port, address in enumerate((vip(at, client=1001), vip(at, client=1001) ^ 1, PLAIN)):
        assert see(at, address, flows, port=port).server
    assert list(flows.probation.priorities) == [7, 0, 0]


def test_proof() -> None:
    """A proven address is told from an issued one, and the reasons of every way have their evidence."""
    at = tables(site(rule("video", proof="proven")))
    issued = vip(at, client=1001)
    assert pool(see(at, issued)) == "fast"
    cluster = at.snapshot.site.clusters["web"]
    assert EVIDENCE[AddressReason.PROVEN] is Evidence.PROVEN
    rules = CompiledRules(replace(cluster, select=tuple(rule("fr", proof=one.value) for one in Evidence)), site())
    for number, evidence in enumerate(Evidence, 1):
        reasons = [reason for reason, one in EVIDENCE.items() if one is evidence] or ["plain", "class", "expired"]
        assert {rules.first(AddressVerdict(reason, TIERS["gold"])) for reason in reasons} == {number}  # type: ignore[arg-type]
    assert proven(CLIENTS["acme"])


def test_what_is_not_authentic_says_nothing() -> None:
    """An address that only `on_invalid` lets in goes as the plain one, whatever it carries."""
    select = rule("fr", client="acme"), rule("video", lang="fr"), rule("canary", tier="standard", lang=0)
    clients = {**CLIENTS, "own": Client("own", 9, "gold", pool="fr")}
    revoked = {name: replace(client, state="revoked") for name, client in clients.items()}
    for held in (clients, revoked):
        at = tables(site(*select, clients=held, on_invalid=OnInvalid.DEFAULT_TIER))  # type: ignore[arg-type]
        taken = [pool(see(at, vip(at, client=number, lang=1))) for number in (1001, 9)]
        assert taken == (["fr", "fr"] if held is clients else ["canary", "canary"])
    at = tables(site(*select, on_invalid=OnInvalid.DEFAULT_TIER))
    assert pool(see(at, vip(at, client=1001, lang=1) ^ 1)) == "canary"


def test_a_client_of_its_own() -> None:
    """A client's own pool or servers come before rules; a change of its record moves its new flows at once."""
    canary = replace(CLIENTS["acme"], pool="canary")
    own = replace(CLIENTS["acme"], servers=("fr-2", "slow/slo-1"))
    select = rule("video", client="acme")
    at, flows = tables(site(select)), Flows(100)
    address = vip(at, client=1001)
    assert pool(see(at, address, flows)) == "video"
    at = tables(site(select, clients={"acme": canary}), at)
    assert pool(see(at, address, flows)) == "video"
    assert pool(see(at, address, flows, port=40_001)) == "canary"
    at = tables(site(select, clients={"acme": own}), at)
    chosen = {see(at, address, flows, port=port).server for port in range(41_000, 41_060)}
    assert {(target.pool, target.name) for target in chosen if target} == {("fr", "fr-2"), ("slow", "slo-1")}
    assert see(at, vip(at, client=1001), flows, port=50_000).dscp == 34
    assert flows.routed == {("web", 1): 1, ("web", RULE_OWN): 62}


def test_own_servers_that_are_gone() -> None:
    """A known flow moves to another of its client's servers, then to the pool that its server was in; new flows take
    the rules again while no own server can serve them."""

    def down(*names: str) -> Site:
        clients = {"acme": replace(CLIENTS["acme"], servers=("fr-1", "canary-1"))}
        made = site(rule("video", tier="gold"), clients=clients)
        pools = {
            each.name: replace(
                each,
                servers=tuple(replace(s, state=ServerState.DOWN) if s.name in names else s for s in each.servers),
            )
            for each in made.pools.values()
        }
        return replace(made, pools=pools)

    at, flows = tables(down("canary-1")), Flows(100)
    address = vip(at, client=1001)
    assert see(at, address, flows).server.name == "fr-1"  # type: ignore[union-attr]
    for names, moved, new in (
        (("fr-1",), ("canary", "canary-1"), "canary-1"),
        (("fr-1", "canary-1"), ("canary", "canary-2"), "video-"),
    ):
        at = tables(down(*names), at)
        verdict = see(at, address, flows, ACK)
        assert verdict.reason == "reselected"
        assert verdict.server
        assert (verdict.server.pool, verdict.server.name) == moved
        fresh = see(at, address, Flows(10)).server
        assert fresh
        assert fresh.name.startswith(new)


def test_a_syn_on_a_known_flow() -> None:
    """It stays while its address leads to the pool that it has, and moves once a rule says otherwise."""
    at, flows = tables(site(rule("fr", lang="fr"))), Flows(100)
    address = vip(at, lang=1)
    first = see(at, address, flows)
    see(at, address, flows, ACK)
    again = see(at, address, flows)
    assert (again.reason, again.server) == ("known", first.server)
    at = tables(site(rule("video", lang="fr")), at)
    assert pool(see(at, address, flows, ACK)) == "fr"
    assert pool(see(at, address, flows)) == "video"
    assert pool(see(at, address, flows, ACK)) == "video"


def test_ipv4_classes() -> None:
    """Rules of an IPv4 cluster know the tier and that an address is plain."""
    made = site()
    legacy = replace(CLUSTER4, select=(rule("fr", tier="gold", proof="plain"), rule("video", proof="proven")))
    at = tables(replace(made, clusters={**made.clusters, "legacy": legacy}))
    assert [pool(see(at, 0xC0000200 + host)) for host in (8, 1)] == ["fr", "slow"]


def test_words_that_mean_nothing_fit_nothing() -> None:
    """Rules that no site should have neither raise nor fit: their tier serves."""
    at = tables(site(rule("fr", lang="de"), rule("fr", client="nobody"), rule("fr", age=1), rule("fr", tier="none")))
    assert {pool(see(at, vip(at, client=number))) for number in (0, 1001)} == {"fast"}
    assert see(tables(site(rule("nowhere"))), vip(at)).reason == "no-server"
    gone = {"acme": Client("acme", 1001, "gold", servers=("fast/gone", "no/where"))}
    assert pool(see(tables(site(clients=gone)), vip(at, client=1001))) == "fast"


def test_many_sets_are_bounded() -> None:
    """Equal sets are one; past the bound the last ones take the normal route, and a problem says so."""
    pools = {"many": Pool("many", servers("m", MOST_SETS + 9))}
    some = [Client(f"c{n}", n, "gold", servers=(f"m-{n % (MOST_SETS + 5) + 1}",)) for n in range(1, 600)]
    made = replace(SITE, pools={**POOLS, **pools}, clients={client.name: client for client in some})
    at = DispatchTables(Snapshot(1, made))
    assert len(at.own.sets) == MOST_SETS
    assert [str(problem) for problem in at.problems] == [
        f"client: 5 sets of own servers are not used, {MOST_SETS} are held: make pools of them"
    ]
    fewer = replace(made, clients={name: client for name, client in made.clients.items() if client.id < 9})
    after = DispatchTables(Snapshot(2, fewer), at)
    assert (len(after.own.sets), after.problems) == (8, [])


def _expected(rules: tuple[SelectRule, ...], verdict: AddressVerdict) -> int:
    """The first rule that fits, the plain way."""
    evidence = EVIDENCE.get(verdict.reason, Evidence.PLAIN)
    plain = evidence is Evidence.PLAIN
    for number, each in enumerate(rules, 1):
        fits = True
        for name, words in each.when.items():
            if name == "tier":
                fits &= verdict.tier is not None and verdict.tier.name in words
            elif name == "proof":
                fits &= evidence in words
            elif name == "client":
                fits &= not plain and verdict.client in [CLIENTS[str(word)].id for word in words]
            else:
                value = 0 if plain else verdict.values.get(name, 0)
                fits &= value in [number_of(VALUES, name, word) for word in words]
        if fits:
            return number
    return 0


@pytest.mark.parametrize("seed", range(20))
def test_masks_equal_the_plain_way(seed: int) -> None:
    """The masks give what looking at one rule after the other gives."""
    random = Random(seed)
    words: Mapping[str, list[Any]] = {
        "tier": list(TIERS),
        "client": list(CLIENTS),
        "proof": [one.value for one in Evidence],
        "lang": ["fr", "en", 0],
        "content": list(range(16)),
    }
    select = tuple(
        rule(
            random.choice(list(POOLS)),
            **{
                name: tuple(random.sample(some, random.randint(1, min(3, len(some)))))
                for name, some in words.items()
                if random.random() < 0.4
            },
        )
        for _ in range(random.randint(1, 64))
    )
    made = site(*select)
    at = tables(made)
    router, cluster = Router(made, at.own), made.clusters["web"]
    for _ in range(300):
        values = {"lang": random.randrange(3), "content": random.randrange(16)}
        verdict = AddressVerdict(
            random.choice([*AddressReason]),
            random.choice(list(TIERS.values())),
            cluster,
            random.choice((0, 7, 1001, 1002)),
            values=values,
        )
        assert verdict.tier
        assert router.shared(verdict, verdict.tier).rule == _expected(select, verdict)


def test_simulated() -> None:
    """A simulated connection says which rule decided, and the servers that could have it."""
    at = tables(site(rule("fr", tier="gold", lang="fr"), clients={"acme": replace(CLIENTS["acme"], servers=("fr-2",))}))
    source = IPv6Address(CLIENT)
    by_rule = simulate(at, source, 1, IPv6Address(vip(at, lang=1)), 80, NOW)
    own = simulate(at, source, 1, IPv6Address(vip(at, client=1001)), 80, NOW)
    assert by_rule.route
    assert own.route
    assert (by_rule.route.rule, [one.server.name for one in by_rule.candidates]) == (1, ["fr-1", "fr-2"])
    assert (own.route.rule, [(one.server.name, one.share) for one in own.candidates]) == (RULE_OWN, [("fr-2", 1.0)])


def test_simulated_with_thousands_of_servers() -> None:
    """Simulating costs no more where a pool is large: a client has a connection simulated for each of its addresses."""
    first = POOLS["fast"].servers[0]
    many = tuple(replace(first, name=f"s{n}", address=IPv6Address(0x20010DB8 << 96 | n)) for n in range(4000))
    at = tables(replace(site(), pools={**POOLS, "fast": replace(POOLS["fast"], servers=many)}))
    address, source = IPv6Address(vip(at, client=1001)), IPv6Address(CLIENT)
    found = simulate(at, source, 1, address, 80, NOW)
    assert len(found.candidates) == 4000
    assert sum(one.share for one in found.candidates) == pytest.approx(1)
    begun = time.process_time()
    for _ in range(20):
        assert simulate(at, source, 1, address, 80, NOW).candidates == found.candidates
    assert time.process_time() - begun < 0.1
