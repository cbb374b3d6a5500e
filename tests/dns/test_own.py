"""What an enrolled client asks DNS for itself: tickets and source addresses, and nothing for anybody else."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import dns.edns
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import pytest

from dnsvip.address.source import SourceCodec
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import ClientState, Cluster, DnssecDenial, Snapshot, Step
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.dnssec.signed import P256, signed
from tests.dns.world import SECRET, ZONES, Running, site_tables, who_is
from tests.samples import NOW, snapshot_of

SERVICE = "www.example.test"
TICKET, SOURCE = f"_ticket.{SERVICE}", f"_source.{SERVICE}"
NETWORK = "2001:db8:99:7::"
SOURCE_LAYOUT = [["tier", 4], ["client", 16], ["expiry", 6], ["lang", 2], ["nonce", 9]]


def world(**web: Any) -> Snapshot:
    """The site, whose cluster has claims and reads source addresses."""
    tables = deepcopy(site_tables())
    layout = [["tier", 4], ["client", 16], ["expiry", 6]]
    said = {"claims": [["content", 3], ["session", 8]], "source": {"layout": SOURCE_LAYOUT, "tag_bits": 24}}
    tables["cluster"]["web"] |= {"layout": layout, **said, **web}
    if tables["cluster"]["web"]["source"] is None:
        del tables["cluster"]["web"]["source"]
    tables["client"]["acme"]["attributes"] = {"lang": 2}
    return snapshot_of(build_site(tables, zone_files(ZONES)))


def with_acme(**changes: Any) -> Snapshot:
    """The site with another record of the client."""
    site = world().site
    return snapshot_of(replace(site, clients={**site.clients, "acme": replace(site.clients["acme"], **changes)}))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with Running(world()) as running:
        yield running


def ask(
    running: Running, name: str, *, key: str | None = "acme-key", ecs: str | None = None, rtype: str = "AAAA"
) -> dns.message.Message:
    """The answer to a question, signed with a key and with an ECS option."""
    address, _, length = (ecs or "").partition("/")
    options = [dns.edns.ECSOption(address, int(length))] if ecs else []
    query = dns.message.make_query(name, rtype, use_edns=0, options=options)
    if key:
        algorithm = "hmac-sha256" if key == "acme-key" else "hmac-sha512"
        query.use_tsig(dns.tsig.Key(dns.name.from_text(key), SECRET, algorithm))
    return dns.query.udp(query, "127.0.0.1", port=running.port, timeout=5)


def address_of(answer: dns.message.Message) -> IPv6Address:
    (rrset,) = answer.answer
    (rdata,) = rrset
    return IPv6Address(rdata.address)


def scope_of(answer: dns.message.Message) -> int | None:
    return next((option.scopelen for option in answer.options if isinstance(option, dns.edns.ECSOption)), None)


def test_a_ticket_is_good_as_long_as_its_epoch(server: Running) -> None:
    """It is an issued address of the client whose expiry never comes, for as long as no rotation can have ended it."""
    answer = ask(server, TICKET)
    values = who_is(server.snapshot, int(address_of(answer)))
    assert (values["tier"], values["client"], values["expiry"]) == (1, 1001, 63)
    assert answer.answer[0].ttl == 60 + 3600  # TTL and session lifetime


def test_its_expiry_is_the_highest() -> None:
    """An ordinary address of the same moment expires; the ticket does not."""
    snapshot = world()
    vips, service, acme = VipMaker(snapshot), snapshot.site.services[SERVICE], snapshot.site.clients["acme"]
    anywhere = Requester(IPv6Address("2001:db8::1"))
    ticket, ordinary = (
        vips.own(b"_ticket", service, acme, anywhere, NOW),
        vips.aaaa(service, Classified(acme, Step.TSIG), anywhere, NOW),
    )
    assert ticket
    assert ordinary
    assert who_is(snapshot, ticket.address) == who_is(snapshot, ordinary.address) | {"expiry": 63}
    assert who_is(snapshot, ordinary.address)["expiry"] == 6


def test_a_source_address_is_in_the_clients_network(server: Running) -> None:
    """It is in the /64 of the option, and says who the client is."""
    answer = ask(server, SOURCE, ecs=f"{NETWORK}/64")
    address = address_of(answer)
    assert int(address) >> 64 == int(IPv6Address(NETWORK)) >> 64
    cluster = server.snapshot.site.clusters["web"]
    assert isinstance(cluster, Cluster)
    form, (epoch, _) = cluster.source_format, server.snapshot.keyrings["web"].active or (None, None)
    assert form
    assert epoch
    codec = SourceCodec(form, epoch.secret, epoch.slot)
    assert codec.authentic(int(address))
    values = form.unpack(codec.open(int(address)))
    assert {name: values[name] for name in ("tier", "client", "expiry", "lang")} == {
        "tier": 1, "client": 1001, "expiry": 63, "lang": 2,
    }  # fmt: skip
    verdict = AddressVerifier(server.snapshot).verify(int(cluster.plain), int(address), 0, NOW + 10**8)
    assert (verdict.reason, verdict.client) == (AddressReason.SOURCE, 1001)


@pytest.mark.parametrize(
    ("name", "ecs", "scope"), [(TICKET, f"{NETWORK}/64", 64), (TICKET, "198.51.100.0/24", 24), (SOURCE, "::/64", 64)]
)
def test_no_cache_may_widen_it(server: Running, name: str, ecs: str, scope: int) -> None:
    """The scope is all of the option, although the key decides."""
    assert scope_of(ask(server, name, ecs=ecs)) == scope


@pytest.mark.parametrize("ecs", [None, "198.51.100.0/24", "2001:db8:99::/56", f"{NETWORK}/72"])
def test_no_source_address_without_a_network(server: Running, ecs: str | None) -> None:
    """Without an IPv6 /64 there is no source address."""
    answer = ask(server, SOURCE, ecs=ecs)
    assert (answer.rcode(), answer.answer, len(answer.authority)) == (dns.rcode.NOERROR, [], 1)


@pytest.mark.parametrize("name", [TICKET, SOURCE])
@pytest.mark.parametrize(
    ("key", "ecs", "rtype"),
    [
        (None, "2001:db8:77::/64", "AAAA"),  # a client by its network: a weak identity
        (None, None, "AAAA"),
        ("key-512", f"{NETWORK}/64", "AAAA"),  # a key of no client
        ("acme-key", f"{NETWORK}/64", "A"),
        ("acme-key", f"{NETWORK}/64", "TXT"),
    ],
)
def test_nothing_for_others(server: Running, name: str, key: str | None, ecs: str | None, rtype: str) -> None:
    """Whoever has no strong identity, or asks for another type, learns that the name has no such data."""
    answer = ask(server, name, key=key, ecs=ecs, rtype=rtype)
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])
    assert [rrset.rdtype for rrset in answer.authority] == [dns.rdatatype.SOA]


@pytest.mark.parametrize(
    "name", ["_ticket.ns1.example.test", "_ticket._ticket.www.example.test", "_other.www.example.test"]
)
def test_names_of_services_alone(server: Running, name: str) -> None:
    """Other names than services' have none."""
    assert ask(server, name).rcode() == dns.rcode.NXDOMAIN


def test_no_source_addresses_where_the_cluster_reads_none() -> None:
    """A cluster without `source` has tickets alone."""
    with Running(world(source=None)) as running:
        assert ask(running, TICKET).answer
        assert ask(running, SOURCE, ecs=f"{NETWORK}/64").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.REVOKED])
def test_nothing_for_a_client_that_is_not_enabled(state: ClientState) -> None:
    """A disabled or revoked client gets none."""
    with Running(with_acme(state=state)) as running:
        assert not ask(running, TICKET).answer


def test_a_key_counts_whatever_comes_first() -> None:
    """A weaker step before TSIG in `classify.order` takes nobody's ticket away."""
    tables = deepcopy(site_tables())
    tables["classify"]["order"] = ["source", "tsig"]
    tables["client"]["near"]["match"] = [{"source": "127.0.0.1/32"}]
    with Running(snapshot_of(build_site(tables, zone_files(ZONES)))) as running:
        assert who_is(running.snapshot, int(address_of(ask(running, SERVICE))))["client"] == 1003
        assert who_is(running.snapshot, int(address_of(ask(running, TICKET))))["client"] == 1001


def test_what_does_not_fit_is_no_ticket() -> None:
    """A client whose id has no room in the layout gets none."""
    with Running(with_acme(id=70_000)) as running:
        assert not ask(running, TICKET).answer
        assert not ask(running, SOURCE, ecs=f"{NETWORK}/64").answer


@pytest.mark.parametrize(("key", "types"), [("acme-key", {"AAAA", "RRSIG"}), (None, {"SOA", "NSEC", "RRSIG"})])
def test_signed_zones(key: str | None, types: set[str]) -> None:
    """In a signed zone the address is signed, and the proof for a stranger says that the name has none."""
    with Running(signed(world(), {"example.test": P256})) as running:
        query = dns.message.make_query(TICKET, "AAAA", want_dnssec=True)
        if key:
            query.use_tsig(dns.tsig.Key(dns.name.from_text(key), SECRET, "hmac-sha256"))
        answer = dns.query.udp(query, "127.0.0.1", port=running.port, timeout=5)
    sets = [*answer.answer, *answer.authority]
    assert {dns.rdatatype.to_text(rrset.rdtype) for rrset in sets} == types
    shown = [rrset[0].to_text() for rrset in sets if rrset.rdtype == dns.rdatatype.NSEC]
    assert shown == ([] if key else ["\\000._ticket.www.example.test. RRSIG NSEC"])


@pytest.mark.parametrize("denial", list(DnssecDenial))
def test_no_kind_of_denial_denies_it(denial: DnssecDenial) -> None:
    """Whatever proves to a stranger that the name has no address says so without listing one, and the client has it."""
    with Running(signed(world(), {"example.test": P256}, denial)) as running:
        query = dns.message.make_query(TICKET, "AAAA", want_dnssec=True)
        denied = dns.query.udp(query, "127.0.0.1", port=running.port, timeout=5)
        assert not denied.answer
        proofs = [rrset[0] for rrset in denied.authority if rrset.rdtype in (dns.rdatatype.NSEC, dns.rdatatype.NSEC3)]
        assert proofs
        assert not any(" AAAA" in proof.to_text() for proof in proofs)
        assert address_of(ask(running, TICKET))


def test_each_ticket_of_its_own() -> None:
    """With a nonce of each answer tickets, and source addresses, are not all alike (nine bits meet by chance); else
    they are, until renewal."""
    for nonce, alike in (("slot", True), ("answer", False)):
        layout = [["client", 16], ["nonce", 16]]
        web = {"layout": layout, "claims": [["content", 5]], "nonce": nonce, "renew": 86_400}
        with Running(world(**web)) as running:
            assert (len({address_of(ask(running, TICKET)) for _ in range(4)}) == 1) is alike
            assert (len({address_of(ask(running, SOURCE, ecs=f"{NETWORK}/64")) for _ in range(4)}) == 1) is alike
