"""Names that name sessions: whoever asks for one gets an address with its session, and no other such name exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import dns.message
import pytest
from dnstap_pb import Dnstap

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.session import SessionLabels, field_value
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.token_bucket import SECOND
from dnsvip.dns.dnstap import frame
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.querylog import Sample, record
from dnsvip.errors import InvalidSite
from dnsvip.site import Snapshot
from dnsvip.site.io.files import zone_files
from dnsvip.site.session_rules import session_labels, session_services
from dnsvip.site.site_file import build_site
from tests.dispatcher.build import CLIENT, segment
from tests.dns.world import ZONES, Running, site_tables, who_is
from tests.samples import NOW, snapshot_of

SERVICE = "*.s.example.test"
LAYOUT = [["tier", 4], ["client", 14], ["session", 12], ["nonce", 7]]


def world(anonymous: str = "plain") -> Snapshot:
    tables = site_tables()
    tables["cluster"]["web"] |= {"layout": LAYOUT, "anonymous": anonymous}
    tables["service"][SERVICE] = {"cluster": "web", "session": "label"}
    servers = [{"name": f"s{n}", "address": f"fd00:10::{n + 1:x}"} for n in range(8)]
    tables["pool"] = {"all": {"stickiness": "session", "servers": servers}}
    for tier in ("gold", "standard"):
        tables["tier"][tier]["pool"] = "all"
    return snapshot_of(build_site(tables, zone_files(ZONES)))


def labels_of(snapshot: Snapshot) -> SessionLabels:
    ((service, cluster),) = session_services(snapshot.site)
    return session_labels(snapshot, service, cluster)


def names(snapshot: Snapshot, count: int = 1) -> list[str]:
    return [
        f"{labels_of(snapshot).make(n * 0x9E37_79B9_7F4A_7C15 % 2**64)}.s.example.test" for n in range(1, count + 1)
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with Running(world()) as running:
        yield running


def address(running: Running, name: str, *args: str) -> int:
    (record,) = running.dig(*args, name, "AAAA").answer
    return int(IPv6Address(record.split()[-1]))


@pytest.mark.parametrize("subnet", ["0.0.0.0/0", "198.51.100.0/24", "2001:db8:203::/48"])
def test_the_session_is_in_everybodys_address(server: Running, subnet: str) -> None:
    """An anonymous requester and clients of two tiers get addresses of their own with the same session."""
    (name,) = names(server.snapshot)
    number = labels_of(server.snapshot).number(name.split(".")[0].encode())
    assert number is not None
    for spelling in (name, name.upper(), name):
        said = who_is(server.snapshot, address(server, spelling, f"+subnet={subnet}"))
        assert said["session"] == field_value(number, 12)
    assert said["client"] == {"0.0.0.0/0": 0, "198.51.100.0/24": 1001, "2001:db8:203::/48": 1002}[subnet]


def test_other_names_do_not_exist(server: Running) -> None:
    """A label that was not made, one level too many, or the wildcard itself: NXDOMAIN, as often as asked."""
    (name,) = names(server.snapshot)
    for other in (f"x{name[1:]}", "www.s.example.test", f"a.{name}", "*.s.example.test", f"{'0' * 32}.s.example.test"):
        for qtype in ("AAAA", "A", "TXT", "AAAA", "AAAA"):
            assert server.dig(other, qtype).status == "NXDOMAIN", other
    assert server.dig("s.example.test", "AAAA").status == "NOERROR"
    assert server.dig(name, "TXT").status == "NOERROR"


def test_own_sessions_never_look_like_those_of_labels() -> None:
    """In a cluster with such a service, DNS's own sessions leave the highest bit alone; elsewhere nothing changes."""
    snapshot = world("encoded")
    with Running(snapshot) as running:
        own = [who_is(snapshot, address(running, "www.example.test", f"+subnet=10.{n}.0.0/24")) for n in range(20)]
    assert all(said["session"] < 1 << 11 for said in own)


def test_whoever_opens_it_comes_to_the_same_server() -> None:
    """From any network, as any client or none, at any dispatcher, and after the keys have rotated."""
    snapshot = world()
    ring = snapshot.keyrings["web"]
    (old,) = ring.epochs
    retiring = replace(old, state=EpochState.RETIRING)
    new = Epoch(1, EpochState.ACTIVE, bytes(range(64, 96)), activated_at=int(NOW))
    rotated = replace(snapshot, generation=2, keyrings={"web": Keyring(ring.layout, [retiring, new])})
    chosen: dict[str, set[str]] = {name: set() for name in names(snapshot, 12)}
    vips: set[int] = set()
    with Running(snapshot) as running:
        for state in (snapshot, rotated):
            running.in_loop(lambda state=state: running.server.update(state))
            tables = DispatchTables(state)
            for name, servers in chosen.items():
                for step, subnet in enumerate(("0.0.0.0/0", "198.51.100.0/24", "2001:db8:203::/48")):
                    vip = address(running, name, f"+subnet={subnet}")
                    vips.add(vip)
                    packet = segment(vip, 2, 1000 + step, CLIENT + (step << 64))
                    verdict = decide(packet, tables, Flows(100), int(NOW) * SECOND)
                    assert verdict.server, verdict
                    servers.add(verdict.server.name)
    assert [len(servers) for servers in chosen.values()] == [1] * 12
    assert len(set.union(*chosen.values())) > 3
    assert len(vips) == 2 * 3 * 12


@pytest.mark.parametrize(
    ("service", "layout", "text"),
    [
        ("s.example.test", LAYOUT, "needs a wildcard"),
        (SERVICE, [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]], "needs a field ['session', 8] or wider"),
        ("*." + ".".join(["a" * 53] * 4) + ".x.example.test", LAYOUT, "leaves no room"),
    ],
)
def test_rules(service: str, layout: list[list[object]], text: str) -> None:
    """What cannot be served is refused, and the message says what would be right."""
    tables = site_tables()
    tables["cluster"]["web"]["layout"] = layout
    tables["service"] = {service: {"cluster": "web", "session": "label"}}
    with pytest.raises(InvalidSite) as refused:
        build_site(tables, zone_files(ZONES))
    assert text in str(refused.value)


def test_the_query_log_has_no_session() -> None:
    """A name that opens a session is not written to the query log or dnstap, in any spelling, nor what is below it."""
    engine = Engine(world())
    (name,) = names(world())
    for asked, written in (
        (name, "*.s.example.test."),
        (name.upper(), "*.s.example.test."),
        (f"_443._tcp.{name}", "*.s.example.test."),
        ("s.example.test", "s.example.test."),
        ("www.example.test", "www.example.test."),
    ):
        wire, source = dns.message.make_query(asked, "AAAA").to_wire(), IPv6Address("2001:db8:77::10")
        reply = engine.decide(wire, source, Arrival("public", Transport.UDP), NOW)
        line = record(Sample(NOW, Transport.UDP, "public", source, wire, reply), str, engine.session_bases)
        assert line["qname"] == written
        assert name.partition(".")[0] not in str(line).lower()
        tap = frame(Sample(NOW, Transport.UDP, "public", source, wire, reply), str, engine.session_bases, whole=True)
        assert name.partition(".")[0].encode() not in tap.lower()
        message = dns.message.from_wire(Dnstap.FromString(tap).message.response_message)
        assert message.question[0].name.to_text().lower() == written
