"""What the program takes, what it leaves to the server, and when it stops answering."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv6Network, ip_address, ip_network

import pytest

from dnsvip.dns.counters import Counters
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.xdp import image
from dnsvip.dns.io.xdp.cells import BLOCK, Cells, ZoneNumbers
from dnsvip.dns.io.xdp.feeder import LEASE_NS, Feeder
from dnsvip.dns.protection.cookies import Cookies
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.site import Anonymous, Cluster, NonceOf, Snapshot, Step, Zone
from dnsvip.site.node_dns import Listener, RateLimit
from dnsvip.xdp.objects import XDP_PASS, XDP_TX
from tests.dns.dnssec.signed import P256, key_of, signed
from tests.dns.hotpath.test_fastpath import ECS, opt, question
from tests.dns.io.xdp.kernel import DROPPED, HOSTS, OURS, Kernel, answer_in, frame, loaded, packet
from tests.dns.world import world_snapshot
from tests.samples import NOW, snapshot_of

pytestmark = pytest.mark.usefixtures("kernel")

RESOLVER, CLIENT, STRANGER = "192.0.2.1", "2001:db8:77::5", "203.0.113.9"
PLAIN, MADE = question("mail.example.test", 1), question("www.example.test")
FOUR, SIX = HOSTS["public"][4], HOSTS["public"][6]
WHOLE6 = frame(packet(CLIENT, SIX, PLAIN))


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    world = world_snapshot()
    classify = replace(world.site.classify, trust_ecs_from=(ip_network("192.0.2.1/32"),))
    web = world.site.clusters["web"]
    assert isinstance(web, Cluster)
    clusters = {**world.site.clusters, "web": replace(web, anonymous=Anonymous.ENCODED)}
    return replace(world, site=replace(world.site, classify=classify, clusters=clusters))


@pytest.fixture(scope="module")
def signed_snapshot(snapshot: Snapshot) -> Snapshot:
    return signed(snapshot, {"example.test": P256})


@pytest.fixture(scope="module")
def program(snapshot: Snapshot) -> Iterator[Kernel]:
    """One that knows PLAIN and MADE from CLIENT; each test leaves it so."""
    with loaded(FastPath(Engine(snapshot))) as made:
        for wire in (PLAIN, MADE):
            made.ask_until_known(wire, CLIENT)
            made.ask_until_known(wire, STRANGER)
        yield made


def right(snapshot: Snapshot, wire: bytes, source: str, listener: str = "public", now: float = NOW) -> bytes | None:
    return Engine(snapshot).decide(wire, ip_address(source), Arrival(listener, Transport.UDP), now).wire


def passes(program: Kernel, asked: bytes, reason: str) -> None:
    """The frame is left to the server, untouched and counted by this reason."""
    before = program.feeder.reasons()[reason]
    assert program.run(asked) == (XDP_PASS, asked)
    assert program.feeder.reasons()[reason] == before + 1


@pytest.mark.parametrize("tags", [b"", b"\x81\x00\0\7", b"\x88\xa8\0\7\x81\x00\0\x09"])
@pytest.mark.parametrize(("source", "to"), [(STRANGER, FOUR), (CLIENT, SIX)])
@pytest.mark.parametrize("wire", [PLAIN, MADE])
def test_answers_leave_as_questions_came(program: Kernel, tags: bytes, source: str, to: str, wire: bytes) -> None:
    """With up to two VLAN tags, and with padding behind a short packet, the answer has right headers and checksums."""
    for padding in (b"", bytes(18)):
        asked = frame(packet(source, to, wire), tags, padding)
        action, out = program.run(asked)
        assert action == XDP_TX
        assert answer_in(out, asked) == program.ask(wire, source)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: frame(packet(STRANGER, FOUR, PLAIN, options=b"\1\1\1\1")),
        lambda p: frame(packet(STRANGER, FOUR, PLAIN), b"\x81\x00\0\7" * 3),
        lambda p: frame(packet(STRANGER, "198.51.100.99", PLAIN)),
        lambda p: frame(packet(STRANGER, FOUR, PLAIN, dport=5353)),
        lambda p: frame(packet(STRANGER, FOUR, PLAIN, port=0)),
        lambda p: frame(packet("127.0.0.1", FOUR, PLAIN)),
        lambda p: frame(packet("ff02::1", SIX, PLAIN)),
        lambda p: p[:5] + b"\1" + p[6:],  # another machine's
        lambda p: p[:20] + b"\x20" + p[21:],  # the first fragment
        lambda p: p[:21] + b"\x01" + p[22:],  # another one
        lambda p: p[:23] + b"\x06" + p[24:],  # TCP
        lambda p: p[:24] + bytes((p[24] ^ 1,)) + p[25:],  # a damaged header
        lambda p: p[:39] + bytes((p[39] + 1,)) + p[40:],  # longer than it is
        lambda p: p[:-1],
        lambda p: p[:30],
        lambda p: WHOLE6[:-4],
        lambda p: WHOLE6[:20] + b"\0" + WHOLE6[21:],  # an extension header
        lambda p: WHOLE6[:60] + b"\0\0" + WHOLE6[62:],  # no checksum
    ],
)
def test_what_is_no_question_to_us(program: Kernel, damage: Callable[[bytes], bytes]) -> None:
    """Whatever is unusual below DNS is left to the kernel's own network stack."""
    passes(program, damage(frame(packet(STRANGER, FOUR, PLAIN))), "not-ours")


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (question("mail.example.test", 1, flags=0x2800), "unusual"),
        (question("mail.example.test", 1, flags=0x8000), "unusual"),
        (PLAIN[:-1] + b"\3", "unusual"),
        (PLAIN[:5] + b"\2" + PLAIN[6:], "unusual"),
        (PLAIN[:11] + b"\2" + PLAIN[12:] + opt(), "unusual"),
        (question(f"{'x' * 60}.{'y' * 40}.example.test"), "unusual"),
        (PLAIN[:14], "unusual"),
        (PLAIN + bytes(600), "unusual"),
        (question("nothing.example.test"), "unknown-name"),
        (question("mail.example.test", 99), "unknown-name"),
        (question("mail.example.test", 1, opt(b"\0\x0a\0\x08" + bytes(8))), "unknown-option"),
        (question("mail.example.test", 1, opt(b"\0\x03\0\0")), "unknown-option"),
        (question("mail.example.test", 1, opt(do=0x40)), "unknown-option"),
        (question("mail.example.test", 1, opt(ECS[:6] + b"\x20\0" + bytes([198, 51, 7]))), "unknown-option"),
        (question("mail.example.test", 1, opt(ECS[:6] + b"\x17\0" + bytes([198, 51, 7]))), "unknown-option"),
        (question("mail.example.test", 1, opt(ECS[:6] + b"\x18\1" + bytes([198, 51, 7]))), "unknown-option"),
        (PLAIN + b"x", "unknown-option"),
        (question("www.example.test", 28, opt(ECS + bytes([10, 9, 8]))), "unknown-requester"),
    ],
)
def test_what_the_server_answers(program: Kernel, wire: bytes, reason: str) -> None:
    """Each question that the program does not know is counted by why."""
    passes(program, frame(packet(STRANGER, FOUR, wire)), reason)


def test_a_mark_is_not_enough(program: Kernel) -> None:
    """User space is told of what is missing twice, not of what comes once."""
    program.learn()
    program.ask(question("once.example.test"), STRANGER)
    assert program.learn() == 0
    program.ask(question("once.example.test"), STRANGER)
    assert program.learn() == 1


def test_many_sources(snapshot: Snapshot) -> None:
    """However many sources ask in turn, nearly all are known after a few rounds."""
    with loaded(FastPath(Engine(snapshot))) as program:
        program.ask_until_known(MADE, STRANGER)
        asked = [frame(packet(str(ip_address("203.0.114.1") + 256 * n), FOUR, MADE)) for n in range(1500)]
        for _ in range(4):
            known = 0
            for n, each in enumerate(asked):
                known += program.run(each)[0] == XDP_TX
                if n % 50 == 0:
                    program.learn()
            program.learn()
        assert known > 1400


def cookie_question(cookie: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    option = b"\0\x0a" + len(cookie).to_bytes(2, "big") + cookie
    return question("www.example.test", 28, opt(before + option + after))


SECRETS = bytes(range(16)), bytes(16)
SUBNET = ECS + bytes([198, 51, 100])


def cookies_of(source: str) -> list[bytes]:
    """Options of a source: a client's cookie, server's ones that are current, to be renewed, of the former secret, too
    old, of the future, and those that are none of ours."""
    peer, jar, old = ip_address(source).packed, Cookies(SECRETS), Cookies(SECRETS[1:])
    good = jar.check(b"8 bytes.", peer, NOW).answer
    return [
        good[:8],
        good,
        *(jar.check_at(b"8 bytes.", peer, int(NOW) + age).answer for age in (-1700, -1900, -3400, -3800, 100, 500)),
        old.check(b"8 bytes.", peer, NOW).answer,
        Cookies([b"x" * 16]).check(b"8 bytes.", peer, NOW).answer,
        jar.check(b"8 bytes.", ip_address(RESOLVER).packed, NOW).answer,
        b"other..." + good[8:],
        good[:8] + b"\2" + good[9:],
        good[:-1] + bytes((good[-1] ^ 1,)),
    ]


@pytest.mark.parametrize("source", [STRANGER, CLIENT])
@pytest.mark.parametrize("before", [b"", SUBNET])
@pytest.mark.parametrize("required", [False, True])
def test_cookies(snapshot: Snapshot, source: str, before: bytes, *, required: bool) -> None:
    """A client cookie is answered with a server cookie, a current one with itself, others with another; where cookies
    are required, invalid ones are left to the server."""
    engine = Engine(replace(snapshot, cookie_secrets=SECRETS), require_cookies=required)
    with loaded(FastPath(engine)) as program:
        program.ask_until_known(cookie_question(cookies_of(source)[1], before), source)
        answered = 0
        for cookie in cookies_of(source):
            wire = cookie_question(cookie, before)
            by_server = engine.decide(wire, ip_address(source), Arrival("public", Transport.UDP), NOW)
            left = program.feeder.reasons()["unknown-option"]
            assert program.ask(wire, source) == (by_server.wire if by_server.cookie_valid or not required else None)
            assert program.feeder.reasons()["unknown-option"] - left == (required and not by_server.cookie_valid)
            answered += by_server.cookie_valid
        assert answered == 6


def test_a_client_cookie_makes_it_known(snapshot: Snapshot) -> None:
    """Who never sends a server's cookie gets answers from the kernel too, and as long as the server's ones may be."""
    engine = Engine(replace(snapshot, cookie_secrets=SECRETS))
    with loaded(FastPath(engine)) as program:
        wire = cookie_question(b"8 bytes.")
        answer = program.ask_until_known(wire, STRANGER)
        assert answer == engine.decide(wire, ip_address(STRANGER), Arrival("public", Transport.UDP), NOW).wire
        program.at(NOW + 128)
        assert program.ask(wire, STRANGER) not in (answer, None)


def test_other_cookies(snapshot: Snapshot) -> None:
    """Cookies of other lengths, before other options, and all where there is no secret, are the server's."""
    good = cookies_of(STRANGER)[1]
    with loaded(FastPath(Engine(replace(snapshot, cookie_secrets=SECRETS)))) as program:
        program.ask_until_known(cookie_question(good), STRANGER)
        before = program.feeder.reasons()["unknown-option"]
        others = [cookie_question(good, after=SUBNET), *(cookie_question(good[:n]) for n in (0, 7, 16, 23))]
        others += [cookie_question(good + bytes(8)), cookie_question(good[:8], after=b"\0\x0c\0\0")]
        assert [program.ask(other, STRANGER) for other in others] == [None] * len(others)
        assert program.feeder.reasons()["unknown-option"] == before + len(others)
        for secrets in (SECRETS[1:], ()):
            changed = FastPath(Engine(replace(snapshot, generation=2, cookie_secrets=secrets)))
            program.feeder.use(changed)
            program.at(NOW)
            program.ask_until_known(MADE, STRANGER)
            answer = program.ask(cookie_question(good), STRANGER)
            assert bool(answer) is bool(secrets)
            assert good not in (answer or b"")


def test_what_the_server_alone_answers_is_told_once(program: Kernel) -> None:
    """A name that has no template, as of a DNAME, is known to have none."""
    for _ in range(4):
        program.ask(question("x.moved.example.test"), STRANGER)
        told = program.learn()
    assert told == 0


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        ("never.example.test", 28),
        ("a.b.never.example.test", 1),
        ("mail.example.test", 99),
        ("one.wild.example.test", 16),
    ],
)
def test_names_that_do_not_exist(snapshot: Snapshot, program: Kernel, name: str, qtype: int) -> None:
    """Asked for often, a name that does not exist, has no such type or is a wildcard's is answered, in any case."""
    for wire in (question(name, qtype), question(name.title(), qtype, opt())):
        assert program.ask_until_known(wire, STRANGER) == right(snapshot, wire, STRANGER)


def test_made_up_names_evict_no_known_one(snapshot: Snapshot) -> None:
    """However many names are made up, each asked for often enough to be told, what is in use stays, be it that a name
    does not exist."""
    absent, wild = question("never.example.test", 1), question("one.wild.example.test", 16)
    known = (PLAIN, absent, wild)
    with loaded(FastPath(Engine(snapshot)), templates=1024) as program:
        for wire in known:
            program.ask_until_known(wire, CLIENT)
        for n in range(1500):
            made_up = question(f"{n:05}.{'wild.' * (n % 2)}example.test", 16)
            for _ in range(2):
                program.ask(made_up, STRANGER)
            program.learn()
            if n % 100 == 0:
                program.at(NOW + n // 100)
                assert all(program.ask(wire, CLIENT) for wire in known), n
        assert program.ask(question("01400.example.test", 16), STRANGER)
        assert program.ask(question("00000.example.test", 16), STRANGER) is None
        assert program.ask_until_known(question("www.example.test", 1), CLIENT)


def test_signatures(signed_snapshot: Snapshot) -> None:
    """With DO, an answer that has been signed is given with its signatures, per client too, until a slot or the
    signatures end; then user space signs anew."""
    engine = Engine(signed_snapshot)
    mail, www = (question(name, 28, opt(do=0x80)) for name in ("mail.example.test", "www.example.test"))
    never = question("never.example.test", 28, opt(do=0x80))
    with loaded(FastPath(engine)) as program:

        def right(wire: bytes, source: str) -> bytes | None:
            return engine.decide(wire, ip_address(source), Arrival("public", Transport.UDP), program.now).wire

        for now in (NOW, NOW + 9 * 86400):
            program.at(now)
            for wire in (mail, www, never):
                if now > NOW:
                    passes(program, frame(packet(CLIENT, SIX, wire)), "signed")
                for source in (CLIENT, STRANGER):
                    got = program.ask_until_known(wire, source)
                    assert got == right(wire, source)
                    assert b"\0\x2e\0\1" in got
            assert program.ask_until_known(question("mail.example.test", 28, opt()), CLIENT)[-11:] == opt()


def test_a_change_of_keys_is_in_the_next_answer(signed_snapshot: Snapshot) -> None:
    """With another key of the zone no signature of the one before is given."""
    fast = FastPath(Engine(signed_snapshot))
    asked = [question(name, 28, opt(do=0x80)) for name in ("mail.example.test", "www.example.test")]
    with loaded(fast) as program:
        before = [program.ask_until_known(wire, CLIENT) for wire in asked]
        changed = replace(signed_snapshot, generation=2, zone_keys={"example.test": (key_of(number=2),)})
        fast = FastPath(Engine(changed, fast.engine), fast)
        program.feeder.use(fast)
        program.at(NOW)
        assert [program.ask(wire, CLIENT) for wire in asked] == [None, None]
        after = [program.ask_until_known(wire, CLIENT) for wire in asked]
        arrival = Arrival("public", Transport.UDP)
        assert after == [fast.engine.decide(wire, ip_address(CLIENT), arrival, NOW).wire for wire in asked]
        assert not set(after) & set(before)


def test_zones_that_are_signed_from_now_on(snapshot: Snapshot, signed_snapshot: Snapshot) -> None:
    """When a zone is signed, or signed no more, DO gets what holds then."""
    wire = question("mail.example.test", 28, opt(do=0x80))
    fast, number = FastPath(Engine(snapshot)), 1
    with loaded(fast) as program:
        sizes = []
        for each in (snapshot, signed_snapshot, snapshot):
            number += 1
            fast = FastPath(Engine(replace(each, generation=number), fast.engine), fast)
            program.feeder.use(fast)
            program.at(NOW)
            assert program.ask(wire, CLIENT) is None
            sizes.append(len(program.ask_until_known(wire, CLIENT)))
    assert sizes[0] == sizes[2] < sizes[1]


def test_a_change_of_clients_is_in_the_next_answer(snapshot: Snapshot) -> None:
    """With another engine no address of the one before is given, and templates of the same names stay."""
    fast = FastPath(Engine(snapshot))
    with loaded(fast) as program:
        before = program.ask_until_known(MADE, CLIENT)
        program.ask_until_known(PLAIN, CLIENT)
        clients = {name: client for name, client in snapshot.site.clients.items() if name != "acme"}
        changed = replace(snapshot, generation=2, site=replace(snapshot.site, clients=clients))
        fast = FastPath(Engine(changed, fast.engine), fast)
        program.feeder.use(fast)
        program.at(NOW)
        assert program.ask(PLAIN, CLIENT) is not None
        assert program.ask(MADE, CLIENT) is None
        after = program.ask_until_known(MADE, CLIENT)
        assert after == right(changed, MADE, CLIENT) != before


def test_a_change_of_names_is_in_the_next_answer(snapshot: Snapshot) -> None:
    """With another zone nothing of the one before is answered."""
    fast = FastPath(Engine(snapshot))
    with loaded(fast) as program:
        program.ask_until_known(PLAIN, CLIENT)
        zone = snapshot.site.zones["example.test"]
        zones = {**snapshot.site.zones, "example.test": replace(zone, text=zone.text + "\nmail 60 A 192.0.2.222\n")}
        changed = replace(snapshot, generation=2, site=replace(snapshot.site, zones=zones))
        program.feeder.use(FastPath(Engine(changed, fast.engine), fast))
        program.at(NOW)
        assert program.ask(PLAIN, CLIENT) is None
        assert program.ask_until_known(PLAIN, CLIENT) == right(changed, PLAIN, CLIENT)


def test_the_lease(snapshot: Snapshot) -> None:
    """Without a sign of life nothing is answered after the lease."""
    with loaded(FastPath(Engine(snapshot))) as program:
        for wire in (PLAIN, MADE):
            program.ask_until_known(wire, CLIENT)
        config = image.TYPES.struct("dns_config")
        values = config.unpack(program.maps["dns_config"].get(bytes(4)) or b"")
        for late, answers in ((0, True), (LEASE_NS - 1, True), (LEASE_NS, False)):
            moved = values | {"now": values["now"] + late, "clock_offset": -late}
            program.maps["dns_config"].put(bytes(4), config.pack(**moved))
            assert bool(program.ask(PLAIN, CLIENT)) is bool(program.ask(MADE, CLIENT)) is answers


@pytest.mark.parametrize("fixed_time", [False, True])
def test_the_next_slots(snapshot: Snapshot, fixed_time: bool) -> None:
    """In each slot a client has another address, which the program makes by itself, by either AES, as the server."""
    with loaded(FastPath(Engine(snapshot)), fixed_time=fixed_time) as program:
        seen = {program.ask_until_known(MADE, CLIENT)}
        for n in range(1, 400):
            now = NOW + n * 977
            program.at(now)
            answer = program.ask(MADE, CLIENT)
            assert answer == right(snapshot, MADE, CLIENT, now=now)
            seen.add(answer)
        assert len(seen) > 100
        assert program.learn() == 0


@pytest.mark.parametrize(
    ("prefix", "layout", "tag_bits"),
    [
        ("2001:db8:a:1::/64", (("tier", 4), ("client", 12), ("nonce", 9)), 36),
        ("2001:db8:a:1::/64", (("tier", 4), ("client", 12), ("expiry", 5)), 40),
        ("2001:db8:a::/48", (("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 24), ("session", 14)), 8),
        ("2001:db8:a::/48", (("nonce", 30), ("session", 16), ("tier", 4)), 27),
        ("2001:db8::/32", (("session", 31), ("expiry", 9), ("client", 11), ("tier", 4), ("nonce", 25)), 13),
        ("2001:db8::/32", (("client", 16), ("tier", 4), ("nonce", 9)), 64),
        ("2001:db8:a:1:2:3::/96", (("tier", 4), ("client", 12), ("nonce", 5)), 8),
    ],
)
@pytest.mark.parametrize("fixed_time", [False, True])
def test_every_layout(
    snapshot: Snapshot, prefix: str, layout: tuple[tuple[str, int], ...], tag_bits: int, fixed_time: bool
) -> None:
    """Whatever the layout, the slot and the AES, clients and strangers get the server's addresses."""
    web = snapshot.site.clusters["web"]
    assert isinstance(web, Cluster)
    network = IPv6Network(prefix)
    web = replace(web, prefix=network, plain=network[1], layout=layout, tag_bits=tag_bits, claims=(), renew=60)
    made = snapshot_of(replace(snapshot.site, clusters={**snapshot.site.clusters, "web": web}))
    engine = Engine(made)
    with loaded(FastPath(engine), fixed_time=fixed_time) as program:
        left = 0
        for source in (CLIENT, STRANGER, *(f"2001:db8:{n:x}::7" for n in range(10, 20))):
            program.at(NOW)
            program.ask_until_known(MADE, source)
            for n in range(40):
                program.at(NOW + n * 61)
                answer = program.ask(MADE, source)
                left += answer is None
                by_server = engine.decide(MADE, ip_address(source), Arrival("public", Transport.UDP), NOW + n * 61)
                assert answer in (by_server.wire, None)
        assert left < 10  # reserved addresses


def test_a_guarded_listener(snapshot: Snapshot) -> None:
    """A listener that refuses strangers does so in the kernel's presence: only whom it answers gets answers there."""
    listeners = (Listener("127.0.0.1:53", "public", allow=(ip_network("203.0.113.0/24"),)), Listener("[::1]:53", "six"))
    with loaded(FastPath(Engine(snapshot, listeners=listeners))) as program:
        for _ in range(5):
            assert program.ask(PLAIN, RESOLVER) is None
            program.learn()
        assert program.ask_until_known(PLAIN, STRANGER) == right(snapshot, PLAIN, STRANGER)
        assert program.ask(PLAIN, RESOLVER) is None
        assert program.ask_until_known(PLAIN, RESOLVER, "six") is not None
        for wire in (
            question(name, 1, opt(ECS + bytes([198, 51, 100]))) for name in ("mail.example.test", "www.example.test")
        ):
            assert program.ask_until_known(wire, STRANGER) == right(snapshot, wire, STRANGER)
            assert program.ask(wire, RESOLVER) is None


def test_a_listener_for_known_clients(snapshot: Snapshot) -> None:
    """Where ECS may say who is known, the server answers questions that have it."""
    listeners = (Listener("127.0.0.1:53", "public", identity="required"), Listener("[::1]:53", "six"))
    with loaded(FastPath(Engine(snapshot, listeners=listeners))) as program:
        assert program.ask_until_known(PLAIN, CLIENT) == right(snapshot, PLAIN, CLIENT)
        for _ in range(5):
            assert program.ask(PLAIN, STRANGER) is None
            assert program.ask(question("mail.example.test", 1, opt(ECS + bytes([198, 51, 100]))), CLIENT) is None
            program.learn()


def test_front_ends_speak_for_others(snapshot: Snapshot) -> None:
    """What a front end sends is left to the server, which reads its header."""
    with loaded(FastPath(Engine(snapshot))) as program:
        program.feeder = Feeder(
            program.maps,
            program.set_cipher,
            HOSTS,
            FastPath(Engine(snapshot)),
            FrontEnds((ip_network("192.0.2.0/24"),)),
        )
        program.feeder.open(OURS[:6], {(FOUR, 53): "public", (SIX, 53): "public"})
        program.at(NOW)
        for _ in range(5):
            assert program.ask(MADE, RESOLVER) is None
            program.learn()
        assert program.ask_until_known(MADE, STRANGER)


def test_a_nonce_for_each_answer(snapshot: Snapshot) -> None:
    """An address that is of one answer alone is never given twice."""
    web = snapshot.site.clusters["web"]
    assert isinstance(web, Cluster)
    clusters = {**snapshot.site.clusters, "web": replace(web, nonce=NonceOf.ANSWER)}
    changed = replace(snapshot, site=replace(snapshot.site, clusters=clusters))
    with loaded(FastPath(Engine(changed))) as program:
        for _ in range(5):
            assert program.ask(MADE, CLIENT) is None
            program.learn()


def test_a_closed_door(program: Kernel) -> None:
    """Addresses that the machine has no more are not answered on."""
    program.feeder.open(OURS[:6], {(SIX, 53): "public"})
    assert program.ask(PLAIN, STRANGER) is None
    program.feeder.open(OURS[:6], {(host, 53): name for name, hosts in HOSTS.items() for host in hosts.values()})
    assert program.ask(PLAIN, STRANGER) is not None


def test_full_maps(snapshot: Snapshot) -> None:
    """With more requesters than there is room for, each gets its own address or none."""
    with loaded(FastPath(Engine(snapshot)), requesters=1024) as program:
        answered = 0
        for n in range(3000):
            source = f"2001:db8:{n % 1500:x}::1"
            got = program.ask(MADE, source)
            if got is None:
                program.ask(MADE, source)
                program.learn()
                got = program.ask(MADE, source)
            if got is not None:
                answered += 1
                if n % 50 == 0:
                    assert got == right(snapshot, MADE, source)
        assert answered > 2000


def _strangers(program: Kernel, count: int, options: bytes = b"", network: str = "198.18.0.0/15") -> int:
    """How many of so many questions go up, each for another name and, in that network, from another source."""
    first = ip_network(network)[1]
    wires = (question(f"n{number}-{int(program.now * 100)}.example.test", 1, options) for number in range(count))
    return sum(program.ask(wire, str(first + 256 * number)) is None for number, wire in enumerate(wires))


@pytest.fixture
def hurried(program: Kernel) -> Iterator[Kernel]:
    """A program that leaves 1,000 questions a second to the server, and a hundred at once."""
    program.feeder.leave_up(1000)
    yield program
    program.feeder.leave_up(None)
    program.learn()


def test_a_server_that_cannot_keep_up(hurried: Kernel) -> None:
    """As many questions go up as it can answer, others are dropped and counted; what the kernel knows it answers."""
    hurried.at(NOW + 1)
    before = hurried.feeder.reasons()["busy"]
    assert _strangers(hurried, 300) == 100
    assert hurried.feeder.reasons()["busy"] == before + 200
    assert hurried.ask(question("new.example.test", 1), STRANGER) == DROPPED
    for wire in (PLAIN, MADE):
        assert hurried.ask(wire, STRANGER)
    elsewhere = frame(packet(STRANGER, FOUR, PLAIN, dport=5300))
    assert hurried.run(elsewhere) == (XDP_PASS, elsewhere)
    hurried.at(NOW + 1.05)
    assert 49 <= _strangers(hurried, 100) <= 50
    hurried.feeder.leave_up(None)
    assert _strangers(hurried, 300) == 300


def test_the_ends_of_a_budget(hurried: Kernel) -> None:
    """Of no question a second none goes up, of very many all do; what the kernel knows it answers in any case."""
    for seconds, (rate, most) in enumerate(((0.0, 0), (1e-30, 0), (1e9, 300), (1e30, 300)), 3):
        hurried.feeder.leave_up(rate)
        hurried.at(NOW + seconds)
        assert _strangers(hurried, 300) == most, rate
        for wire in (PLAIN, MADE):
            assert hurried.ask(wire, STRANGER)


def test_proven_sources_go_up_before_all_others(snapshot: Snapshot) -> None:
    """Beside a flood, questions with a valid cookie go up, of one source no more than half as many as of all."""
    secret = bytes(range(16))
    made = Cookies((secret,)).check(bytes(8), ip_address(STRANGER).packed, NOW + 1).answer
    proven, forged = (opt(b"\0\x0a\0\x18" + cookie) for cookie in (made, bytes(24)))
    with loaded(FastPath(Engine(replace(snapshot, cookie_secrets=(secret,))))) as program:
        program.feeder.leave_up(1000)
        program.at(NOW + 1)
        assert _strangers(program, 300, forged) == 100
        asked = [program.ask(question(f"p{n}.example.test", 1, proven), STRANGER) for n in range(200)]
        assert asked.count(None) == 50
        assert _strangers(program, 10, forged) == 0


def test_a_source_that_floods_leaves_the_others_theirs(hurried: Kernel) -> None:
    """Of one source as many go up as there are, to where half is left for others."""
    hurried.at(NOW + 9)
    asked = [hurried.ask(question(f"s{n}.example.test", 1), f"203.0.113.{n}") for n in range(200)]
    assert 50 <= asked.count(None) <= 80
    assert _strangers(hurried, 20) == 20


def test_names_that_share_a_hash(program: Kernel) -> None:
    """A template that another name is found by is not its answer."""
    templates, other = program.maps["templates"], question("nail.example.test", 1)
    program.ask_until_known(other, STRANGER)
    spans = {at: image.TYPES.struct("template").members[at] for at in ("owner", "name")}
    owner, name = (slice(member.offset, member.offset + member.size) for member in spans.values())
    values = {value[name][1:5]: (key, value) for key, [value] in templates.items()}
    (_, mine), (key, theirs) = values[b"mail"], values[b"nail"]
    templates.put(key, mine[: owner.start] + theirs[owner] + mine[owner.stop :])
    assert program.ask(other, STRANGER) is None
    templates.put(key, theirs)
    assert program.ask(other, STRANGER) is not None


def test_a_record_that_is_half_of_another_requester(program: Kernel) -> None:
    """A requester whose record has an address that it was not made with gets it from the server, or made anew."""
    requesters, made = program.maps["requesters"], image.TYPES.struct("ready").members["made"].offset
    for wire in (MADE, question("www.example.test", 1)):
        want = program.ask_until_known(wire, STRANGER)
        for key, [value] in list(requesters.items()):
            requesters.put(key, value[:made] + bytes((value[made] ^ 1,)) + value[made + 1 :])
        assert program.ask(wire, STRANGER) in (want, None)
        assert program.ask_until_known(wire, STRANGER) == want


def test_cells() -> None:
    """Each way of ending has its number, as long as there are any; what has none is left to the server."""
    cells = Cells(2 * BLOCK)
    assert cells.of_template(DnsOutcome.ANSWER, 0, holes=False) == 0
    assert cells.of_template(DnsOutcome.NODATA, 0, holes=False) == 1
    assert cells.of_template(DnsOutcome.SERVICE, 0, holes=True) == BLOCK
    assert cells.of_template(DnsOutcome.SERVICE, 3, holes=True) is None
    numbers = [cells.of_address(Step.ECS, Kind.ENCODED, f"tier-{n}") for n in range(BLOCK + 1)]
    assert numbers == [*range(BLOCK), None]
    used = dict(cells.used())
    assert {number: cells.key(number) for number in used} == used
    assert used[1] == (DnsOutcome.NODATA, 0, None, None, None)
    assert used[BLOCK + 7] == (DnsOutcome.SERVICE, 0, Step.ECS, Kind.ENCODED, "tier-7")
    assert len(used) == 2 + BLOCK


def test_cells_of_tiers_that_are_no_more() -> None:
    """They are given to others at the change after the one that took the tier away, unless it has come back."""
    cells = Cells(2 * BLOCK)
    numbers = [cells.of_address(Step.ECS, Kind.ENCODED, f"tier-{n}") for n in range(BLOCK)]
    cells.keep({f"tier-{n}" for n in range(3, BLOCK)})
    assert cells.of_address(Step.ECS, Kind.ENCODED, "new") is None
    assert cells.of_address(Step.ECS, Kind.ENCODED, "tier-1") == numbers[1]
    assert cells.are_leaving
    cells.keep({"tier-1", "new", *(f"tier-{n}" for n in range(3, BLOCK))})
    assert not cells.are_leaving
    assert {cells.of_address(Step.ECS, Kind.ENCODED, name) for name in ("new", "newer")} == {numbers[0], numbers[2]}
    assert cells.of_address(Step.ECS, Kind.ENCODED, "newest") is None


def test_tiers_that_change(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often tiers get other names, those of today are answered by the program, and each answer is counted for
    the tier that it was of."""
    monkeypatch.setattr("dnsvip.dns.io.xdp.cells.BLOCK", 4)
    site = snapshot.site
    fast = FastPath(Engine(snapshot))
    with loaded(fast) as program:
        for number in range(8):
            tier = replace(site.tiers["gold"], name=f"tier-{number}")
            clients = {name: replace(client, tier=tier.name) for name, client in site.clients.items()}
            changed = replace(
                snapshot,
                generation=2 + number,
                site=replace(site, tiers={tier.name: tier, **site.tiers}, clients=clients),
            )
            fast = FastPath(Engine(changed, fast.engine), fast)
            program.feeder.use(fast)
            program.at(NOW)
            for _ in range(number + 1):
                assert program.ask_until_known(MADE, CLIENT) is not None
        program.feeder.collect(fast.engine.counters)
        counted = fast.engine.counters.tiers
    assert {name: count for name, count in counted.items() if name.startswith("tier-")} == {
        f"tier-{number}": number + 1 for number in range(8)
    }


def test_zone_numbers() -> None:
    """Each zone has its number, as long as there are any; answers from none are 0."""
    zones = ZoneNumbers(4)
    assert [zones.of(apex) for apex in (None, (b"a",), (b"b",), (b"a",))] == [0, 1, 2, 1]
    assert zones.are_scarce
    assert [zones.of(apex) for apex in ((b"c",), (b"d",), (b"b",))] == [3, None, 2]
    assert zones.zones == [(b"a",), (b"b",), (b"c",)]


def test_zones_that_change(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more zones than numbers, what the program answered is counted for the zone that it was of, and zones that
    have gone make room at the next change of names."""
    monkeypatch.setitem(image.TYPES.constants("dns_bounds"), "MAX_ZONES", 3)
    site, counters = snapshot.site, Counters()
    zones = {
        f"{name}.test": Zone(f"{name}.test", "@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nns 60 A 192.0.2.1")
        for name in "abcd"
    }
    first, second = (
        {name: zones[name] for name in names} for names in (("a.test", "b.test", "c.test"), ("c.test", "d.test"))
    )
    fast = FastPath(Engine(replace(snapshot, site=replace(site, zones=first))))
    with loaded(fast) as program:
        for name in ("ns.a.test", "ns.b.test", "ns.b.test"):
            program.ask_until_known(question(name, 1), STRANGER)
        for _ in range(4):
            assert program.ask(question("ns.c.test", 1), STRANGER) is None
            program.learn()
        second_engine = Engine(replace(snapshot, generation=2, site=replace(site, zones=second)), fast.engine)
        program.feeder.use(FastPath(second_engine, fast))
        program.at(NOW)
        for name in ("ns.c.test", "ns.d.test"):
            program.ask_until_known(question(name, 1), STRANGER)
        assert program.feeder.collect(counters) == 5
        counted = dict(counters.zones(second_engine.zones.by_apex, 9)) | dict(
            fast.engine.counters.zones({(b"a", b"test"), (b"b", b"test")}, 9)
        )
        assert counted == {(b"a", b"test"): 1, (b"b", b"test"): 2, (b"c", b"test"): 1, (b"d", b"test"): 1}


def test_attributes_that_change(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often services get other attributes, those of today have their addresses from the program."""
    monkeypatch.setitem(image.TYPES.constants("dns_bounds"), "MAX_MAKERS", 4)
    service = snapshot.site.services["www.example.test"]
    fast = FastPath(Engine(snapshot))
    with loaded(fast) as program:
        for lang in range(8):
            services = {**snapshot.site.services, service.name: replace(service, attributes={"lang": lang % 4})}
            changed = replace(snapshot, generation=2 + lang, site=replace(snapshot.site, services=services))
            fast = FastPath(Engine(changed, fast.engine), fast)
            program.feeder.use(fast)
            program.at(NOW)
            assert program.ask_until_known(MADE, CLIENT) == right(changed, MADE, CLIENT)


def test_samples_that_do_not_fit(snapshot: Snapshot) -> None:
    """Where samples come faster than they are taken, some are lost, each counted for whoever was to have it."""
    with loaded(FastPath(Engine(snapshot))) as program:
        program.ask_until_known(PLAIN, CLIENT)
        program.feeder.sample((1, 2))
        program.at(NOW)
        asked = frame(packet(CLIENT, SIX, PLAIN))
        number = 12_000
        for _ in range(number):
            program.run(asked)
        taken, lost = program.taken(), program.sampler.lost()
        assert [sum(bits >> n & 1 for bits, _ in taken) + lost[n] for n in (0, 1)] == [number, number // 2]
        assert min(lost[:2]) > 0
        assert list(program.sampler.lost()) == [0, 0, 0]
        program.feeder.sample(())
        program.at(NOW)
        program.ask(PLAIN, CLIENT)
        assert program.taken() == []


def test_a_limit_for_each_prefix(snapshot: Snapshot) -> None:
    """Answers of a kind to a /24 or /56 are limited; other kinds, other prefixes and valid cookies are not; each other
    one beyond is empty, with TC."""
    with loaded(FastPath(Engine(replace(snapshot, cookie_secrets=SECRETS)))) as program:
        peer = ip_address(STRANGER).packed
        cookie = Cookies(SECRETS).check(b"8 bytes.", peer, NOW).answer
        proven = question("mail.example.test", 1, opt(b"\0\x0a\0\x18" + cookie))
        for wire in (PLAIN, MADE, proven):
            program.ask_until_known(wire, STRANGER)
        program.feeder.limit(RateLimit(2, slip=2))
        program.at(NOW)
        whole, cut = program.ask(PLAIN, STRANGER), PLAIN[:2] + b"\x86" + PLAIN[3:]
        near, far = "203.0.113.200", "203.0.114.9"
        assert [program.ask(PLAIN, source) for source in (near, near, STRANGER, near)] == [whole, DROPPED, cut, DROPPED]
        assert program.ask(PLAIN, far) == whole
        assert program.ask(MADE, STRANGER)
        assert [len(program.ask(proven, STRANGER) or b"") for _ in range(9)] == [len(whole or b"") + 11 + 28] * 9
        assert [program.ask(PLAIN, f"2001:db8:5:{n:x}::1") for n in (1, 0xFF, 2, 0x100)] == [
            whole,
            whole,
            DROPPED,
            whole,
        ]
        program.at(NOW + 0.5)
        assert [program.ask(PLAIN, STRANGER) for _ in range(2)] == [whole, cut]
        reasons = program.feeder.reasons()
        assert (reasons["slipped"], reasons["dropped"]) == (2, 3)


def test_counters(snapshot: Snapshot) -> None:
    """Answers are added to the counters once."""
    with loaded(FastPath(Engine(snapshot))) as program:
        for _ in range(3):
            program.ask_until_known(MADE, CLIENT)
        counters = Counters()
        assert program.feeder.collect(counters) == 3
        assert program.feeder.collect(counters) == 0
        assert counters.outcomes[DnsOutcome.SERVICE] == counters.messages == 3
        assert counters.tiers == {"gold": 3}
        assert set(program.feeder.reasons()) >= {"answered", "not-ours", "unknown-name"}
