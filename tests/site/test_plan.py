"""Plans: applying one gives the wanted site, planning again gives nothing, and only file-made objects are removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.site import (
    Classify,
    Client,
    ClientState,
    Cluster,
    Pool,
    Server,
    ServerState,
    Site,
    Step,
    Tier,
    TierAction,
    TsigKey,
    Zone,
)
from dnsvip.site.io.files import load_site
from dnsvip.site.plain import collection
from dnsvip.site.plan import Change, Origin, effects, plan
from dnsvip.site.registry import COLLECTIONS, SINGLE

EXAMPLE = load_site(Path(__file__).parents[2] / "examples" / "site.toml")

NAMES = st.sampled_from(["a", "b", "c", "d"])


def _things(make: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(NAMES, st.integers(0, 2)).map(lambda d: {name: make(name, n) for name, n in d.items()})


SITES = st.builds(
    Site,
    tiers=_things(lambda name, n: Tier(name, ord(name), action=TierAction.DROP, dscp=n)),
    pools=_things(lambda name, n: Pool(name, tuple(Server(f"s{i}", f"2001:db8::{i + 1:x}") for i in range(n)))),  # type: ignore[arg-type]
    zones=_things(lambda name, n: Zone(name, f"text {n}")),
    tsig_keys=_things(lambda name, n: TsigKey(name, f"secret {n}")),
    clients=_things(lambda name, n: Client(name, ord(name), f"t{n}")),
    classify=st.sampled_from([Classify(), Classify((Step.TSIG,))]),
)


def _applied(site: Site, changes: tuple[Change, ...]) -> Site:
    """The site after a store applies the changes."""
    found: dict[str, Any] = {attribute: dict(collection(site, kind)) for kind, attribute in COLLECTIONS.items()}
    found[SINGLE] = site.classify
    for change in changes:
        if change.kind == SINGLE:
            found[SINGLE] = change.after
        elif change.after is None:
            assert found[COLLECTIONS[change.kind]].pop(change.name) == change.before
        else:
            assert found[COLLECTIONS[change.kind]].get(change.name) == change.before
            found[COLLECTIONS[change.kind]][change.name] = change.after
    return Site(**found)


def _origins(site: Site, origin: Origin = "site") -> dict[tuple[str, str], Origin]:
    return {(kind, name): origin for kind in COLLECTIONS for name in collection(site, kind)}


@given(SITES, SITES)
def test_plan_leads_to_the_wanted_site(old: Site, new: Site) -> None:
    """Applying the plan between any two sites of one file gives the second, and the next plan is empty."""
    after = _applied(old, plan(old, new, _origins(old)))
    assert after == new
    assert plan(after, new, _origins(after)) == ()


@given(SITES, SITES)
def test_what_the_api_made_is_never_removed(old: Site, new: Site) -> None:
    """API objects are kept; those that the file names too are set to the file's values."""
    after = _applied(old, plan(old, new, _origins(old, "api")))
    for kind in COLLECTIONS:
        assert dict(collection(after, kind)) == {**collection(old, kind), **collection(new, kind)}


@given(SITES, SITES)
def test_parents_come_first_and_go_last(old: Site, new: Site) -> None:
    """Objects are created in the order of kinds and removed in the reverse order, removals last."""
    order = [*COLLECTIONS, SINGLE]
    changes = plan(old, new, _origins(old))
    removals = [order.index(change.kind) for change in changes if change.action == "-"]
    others = [order.index(change.kind) for change in changes if change.action != "-"]
    assert others == sorted(others)
    assert removals == sorted(removals, reverse=True)
    assert [change.action == "-" for change in changes] == sorted(change.action == "-" for change in changes)


def test_runtime_fields_are_kept() -> None:
    """Server states, client states and key generations set at run time survive an apply."""
    acme, fast = EXAMPLE.clients["acme"], EXAMPLE.pools["fast"]
    drained = replace(fast, servers=(replace(fast.servers[0], state=ServerState.DRAIN),))
    revoked = replace(acme, state=ClientState.REVOKED, key_generation=7)
    running = replace(EXAMPLE, clients={**EXAMPLE.clients, "acme": revoked}, pools={**EXAMPLE.pools, "fast": drained})
    assert plan(running, EXAMPLE, _origins(running)) == ()
    grown = replace(fast, servers=(Server("fast-2", fast.servers[0].address), replace(fast.servers[0], weight=5)))
    (change,) = plan(running, replace(EXAMPLE, pools={**EXAMPLE.pools, "fast": grown}), _origins(running))
    assert isinstance(change.after, Pool)
    assert [server.state for server in change.after.servers] == [ServerState.UP, ServerState.DRAIN]


def test_taking_over_is_a_change_without_difference() -> None:
    """An API object that the file names unchanged is taken over once."""
    changes = plan(EXAMPLE, EXAMPLE, _origins(EXAMPLE) | {("client", "acme"): "api"})
    assert [(change.where, change.action) for change in changes] == [("client.acme", "~")]
    assert changes[0].before == changes[0].after


@pytest.mark.parametrize(
    ("alter", "count"),
    [
        (lambda web: replace(web, ttl=30), 0),
        (lambda web: replace(web, layout=(("tier", 4), ("client", 21), ("expiry", 6), ("nonce", 6))), 1),
        (lambda web: None, 1),
    ],
)
def test_effects_warn_of_rejected_addresses(alter: Any, count: int) -> None:
    """A changed layout or a removed cluster is announced, since its addresses will be rejected."""
    web = EXAMPLE.clusters["web"]
    assert isinstance(web, Cluster)
    after = alter(web)
    clusters = {**EXAMPLE.clusters, "web": after} if after else {}
    changes = plan(EXAMPLE, replace(EXAMPLE, clusters=clusters), _origins(EXAMPLE))
    assert [problem.where for problem in effects(changes)] == ["cluster.web"] * count
