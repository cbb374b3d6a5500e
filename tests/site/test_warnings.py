"""What is declared but can do nothing: warned of, or refused where every packet would be lost."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dnsvip.site import Check, Client, Forward, Match, Pool, Server, Site, Step
from dnsvip.site.io.files import load_site
from dnsvip.site.rules import check_site, warnings, warnings_about

EXAMPLE = Path(__file__).parents[2] / "examples" / "site.toml"


@pytest.fixture(scope="module")
def site() -> Site:
    """The example site."""
    return load_site(EXAMPLE)


def test_matches_that_no_listener_establishes(site: Site) -> None:
    """A match by TLS certificate or by token never matches, and is warned of once for each."""
    clients = {
        name: Client(name, number, "gold", (Match(step, name),))
        for number, (name, step) in enumerate((("a", Step.TLS), ("b", Step.TLS), ("c", Step.TOKEN)), 1)
    }
    remarks = [str(remark) for remark in warnings(replace(site, clients=clients)) if ".match" in remark.where]
    assert remarks == [
        "client.a.match: a match by tls never matches: no DNS listener verifies one yet (and 1 more clients)",
        "client.c.match: a match by token never matches: no DNS listener verifies one yet",
    ]


def test_attributes_that_no_layout_carries(site: Site) -> None:
    """An attribute that is in no cluster's layout is warned of."""
    clients = {"a": Client("a", 1, "gold", attributes={"hat": 1})}
    remarks = [remark.where for remark in warnings(replace(site, clients=clients))]
    assert "client.a.attributes.hat" in remarks


def test_required_proofs_that_can_be_guessed(site: Site) -> None:
    """Who requires proofs is warned of short ones: a tier, a client; not with a longer tag, and not where none does."""
    tiers = {**site.tiers, "gold": replace(site.tiers["gold"], require_proof=True)}
    acme = site.clients["acme"]
    clients = {**site.clients, "acme": replace(acme, proof=replace(acme.proof, required=True))}
    short = replace(site, tiers=tiers, clients=clients)
    cluster = replace(short.clusters["web"], tag_bits=36, layout=(("tier", 4), ("client", 20), ("nonce", 1)))
    remarks = [remark for remark in warnings(short) if "guessed proofs" in remark.message]
    assert [remark.where for remark in remarks] == ["tier.gold.require_proof", "client.acme.proof.required"]
    assert remarks[0].message.startswith("one in 21845 guessed proofs passes in cluster 'web'")
    assert remarks[0] in warnings_about("tier", tiers["gold"], short)
    assert remarks[1] in warnings_about("client", clients["acme"], short)
    for other in (site, replace(short, clusters={"web": cluster})):
        assert not [remark for remark in warnings(other) if "guessed proofs" in remark.message]


def test_a_short_tag_names_what_guessing_takes(site: Site) -> None:
    """A tag under 16 bits is warned of with the guesses for an address (2^T) and for a proof (2^(T - c)); not one of
    16."""
    layout = (("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 18))
    short = replace(site.clusters["web"], tag_bits=12, layout=layout)
    remark = next(r for r in warnings_about("cluster", short, site) if r.where == "cluster.web.tag_bits")
    assert "one forged address in 4096 passes" in remark.message
    assert "one guessed proof in 256 in each of 3 time slots" in remark.message
    enough = replace(short, tag_bits=16, layout=(*layout[:3], ("nonce", 14)))
    assert not [r for r in warnings_about("cluster", enough, site) if r.where == "cluster.web.tag_bits"]


def test_ipv4_classes_need_a_pool_that_takes_ipv4(site: Site) -> None:
    """An IPv4 class whose tier is served by a nat pool is refused, unless the pool, or one that it falls back to, has a
    server with an IPv4 address."""

    def refused(pools: dict[str, Pool]) -> bool:
        problems = check_site(replace(site, pools=pools))
        assert all("give it a server with an IPv4 address" in problem.message for problem in problems), problems
        return any(problem.where.startswith("cluster.legacy.classes.") for problem in problems)

    pools = {name: replace(pool, forward=Forward.NAT) for name, pool in site.pools.items()}
    assert refused(pools)
    four = Server("four", IPv4Address("10.0.0.1"))
    assert not refused({name: replace(pool, servers=(*pool.servers, four)) for name, pool in pools.items()})
    last = Pool("last", (four,), forward=Forward.NAT)
    assert not refused({name: replace(pool, fallback="last") for name, pool in pools.items()} | {"last": last})
    assert not check_site(site)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://[{address}]:80/health", True),
        ("https://{address}/", True),
        ("http://[{address}]", True),
        ("http://192.0.2.9/x", False),
        ("http://{address}.example.test/", False),
        ("http://{address}@192.0.2.9/", False),
        ("http://example.test/{address}", False),
    ],
)
def test_a_check_asks_its_own_server(site: Site, url: str, own: bool) -> None:
    """The host of an HTTP check is the address of the server that is checked."""
    pools = {name: replace(pool, check=Check(http=url)) for name, pool in site.pools.items()}
    assert (not check_site(replace(site, pools=pools))) is own


def test_steps_that_no_listener_fills(site: Site) -> None:
    """An order that names `tls` or `token` is warned of, as they never match yet; the default order is not."""
    assert not [remark for remark in warnings(site) if remark.where == "classify.order"]
    classify = replace(site.classify, order=(Step.TLS, Step.TSIG, Step.TOKEN))
    remarks = [remark for remark in warnings(replace(site, classify=classify)) if remark.where == "classify.order"]
    assert [remark.message.split(":")[0] for remark in remarks] == [
        "the step 'tls' never matches",
        "the step 'token' never matches",
    ]
    assert warnings_about("classify", classify, site) == remarks
