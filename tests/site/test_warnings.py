"""What is declared but can do nothing: warned of, or refused where every packet would be lost."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dnsvip.site import Check, Client, DnsToken, Forward, Match, Pool, Server, Site, Step
from dnsvip.site.io.files import load_site
from dnsvip.site.rules import check_site, warnings, warnings_about

EXAMPLE = Path(__file__).parents[2] / "examples" / "site.toml"


@pytest.fixture(scope="module")
def site() -> Site:
    """The example site."""
    return load_site(EXAMPLE)


def test_a_match_by_token_names_one_that_exists(site: Site) -> None:
    """A client's token must be one of the site, as its TSIG key must."""
    clients = {"a": Client("a", 1, "gold", (Match(Step.TOKEN, "a-token"),))}
    token = DnsToken("a-token", "0" * 64)
    (problem,) = check_site(replace(site, clients=clients))
    assert str(problem) == "client.a.match: 'a-token' is not a dns_token of this site (there is: none)"
    assert not check_site(replace(site, clients=clients, dns_tokens={"a-token": token}))


@pytest.mark.parametrize(
    ("tokens", "where"),
    [
        ([DnsToken("a", "0" * 64), DnsToken("b", "0" * 64)], "dns_token.b.digest"),
        ([DnsToken("a", "0" * 64, "1" * 64), DnsToken("b", "1" * 64)], "dns_token.b.digest"),
        ([DnsToken("a", "0" * 64, "0" * 64)], "dns_token.a.previous"),
        ([DnsToken("a", "0" * 64, previous_until=5)], "dns_token.a.previous_until"),
        ([DnsToken("a", "0" * 64, "1" * 64, 5), DnsToken("b", "2" * 64, "3" * 64)], None),
    ],
)
def test_a_digest_is_of_one_token(site: Site, tokens: list[DnsToken], where: str | None) -> None:
    """No two tokens have a digest in common, the two of one differ, and only a previous one ends."""
    problems = check_site(replace(site, dns_tokens={token.name: token for token in tokens}))
    assert [problem.where for problem in problems] == ([where] if where else [])


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
