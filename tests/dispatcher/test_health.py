"""Checks of real servers on loopback: they die, come back, answer wrongly, tell their load."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from dnsvip.dispatcher.health.report import reported
from dnsvip.dispatcher.io.health import checks as health_module
from dnsvip.dispatcher.io.health import places as places_module
from dnsvip.dispatcher.io.health.checks import MOST_PROBES, Health, with_health
from dnsvip.dispatcher.io.health.links import Links
from dnsvip.dispatcher.io.health.places import LEAST_SECONDS
from dnsvip.dispatcher.io.health.probes import Contexts, Result, probe_agent, probe_http, probe_tcp, url_of
from dnsvip.site import Address, Check, Pool, Server, ServerState, Site, Snapshot
from dnsvip.site.rules import check_one
from dnsvip.telemetry.paced import MOST

LOOPBACK = ip_address("::1")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A TCP server on ::1; its port."""
    server = await asyncio.start_server(handler, "::1", port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def saying(answer: bytes, heard: list[bytes] | None = None, request: bool = False) -> Handler:
    """A server that writes this to each connection, after a request where it waits for one."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if request:
            head = await reader.readuntil(b"\r\n\r\n")
            if heard is not None:
                heard.append(head)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return handle


def http(status: str, heard: list[bytes] | None = None) -> Handler:
    """A web server with one answer, which names a place to go to."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: http://[::1]:1/\r\n\r\n"
    return saying(head.encode(), heard, request=True)


async def test_tcp() -> None:
    """A port that listens passes; one that does not is refused."""
    async with listening(saying(b"")) as port:
        assert await probe_tcp(LOOPBACK, Check(tcp=port)) == Result(passed=True)
    found = await probe_tcp(LOOPBACK, Check(tcp=port))
    assert (found.passed, "refused" in found.note.lower()) == (False, True)


@pytest.mark.parametrize(
    ("status", "passed"),
    [("200 OK", True), ("204 None", True), ("302 Found", True), ("404 Gone", False), ("503 Busy", False)],
)
async def test_http_status(status: str, passed: bool) -> None:
    """2xx and 3xx pass, and no redirect is followed; the note has any other status."""
    async with listening(http(status)) as port:
        found = await probe_http(LOOPBACK, Check(http=f"http://[{{address}}]:{port}/health"))
    assert found == Result(passed, "" if passed else f"HTTP {status[:3]}")


async def test_http_request() -> None:
    """The path and the host of the check are asked for."""
    heard: list[bytes] = []
    async with listening(http("200 OK", heard)) as port:
        await probe_http(LOOPBACK, Check(http=f"http://[{{address}}]:{port}/health?x=1", host="www.example.test"))
    assert heard[0].startswith(b"GET /health?x=1 HTTP/1.1\r\n")
    assert b"\r\nHost: www.example.test\r\n" in heard[0]


@pytest.mark.parametrize("answer", [b"", b"\0\1\2", b"HTTP/1.1 200", b"SSH-2.0-x\r\n", b"HTTP/1.1 99999 x\r\n\r\n"])
async def test_http_noise(answer: bytes) -> None:
    """What is no HTTP answer is a failure with a reason, never an exception."""
    async with listening(saying(answer)) as port:
        found = await probe_http(LOOPBACK, Check(http=f"http://[{{address}}]:{port}/"))
    assert not found.passed
    assert found.note


@pytest.mark.parametrize(
    ("interim", "passed"),
    [(b"HTTP/1.1 100 Continue\r\n\r\n", True), (b"HTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" * 20, True)],
)
async def test_interim_responses(interim: bytes, passed: bool) -> None:
    """They are passed over (RFC 9110 section 15.2)."""
    async with listening(saying(interim + b"HTTP/1.1 204 None\r\n\r\n")) as port:
        assert await probe_http(LOOPBACK, Check(http=f"http://[{{address}}]:{port}/")) == Result(passed)


@pytest.mark.parametrize("piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\nX: y\r\n", b"X"])
async def test_an_endless_answer(piece: bytes) -> None:
    """A server that never ends its answer costs little of the time of packets: no more of it is read than has room."""
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with suppress(ConnectionError):
            while True:
                writer.write(piece * 1000)
                sent += 1000 * len(piece)
                await writer.drain()

    async with listening(endless) as port:
        check = Check(http=f"http://[{{address}}]:{port}/", timeout=30)
        answer = await probe_http(LOOPBACK, check)
    assert answer == Result(passed=False, note="the answer is not HTTP")
    assert sent < 1 << 25  # what sockets buffer


async def test_timeouts() -> None:
    """A silent server fails within the timeout, whatever the probe."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silent) as port:
        for probe, check in (
            (probe_http, Check(http=f"http://[{{address}}]:{port}/", timeout=0.1)),
            (probe_agent, Check(agent=port, timeout=0.1)),
        ):
            assert await probe(LOOPBACK, check) == Result(passed=False, note="no answer within 0.1 s")


async def test_agent() -> None:
    """A line of the protocol is a report; another, or one without end, is a failure."""
    async with listening(saying(b"up 75%\n")) as port:
        found = await probe_agent(LOOPBACK, Check(agent=port))
    assert found.passed
    assert found.report
    assert found.report.percent == 75
    for wrong in (b"hello\n", b"", b"x" * 100_000):
        async with listening(saying(wrong)) as port:
            found = await probe_agent(LOOPBACK, Check(agent=port))
        assert (found.passed, found.report) == (False, None)


def test_urls() -> None:
    """An IPv6 address has brackets, an IPv4 address does not."""
    check = Check(http="http://[{address}]:80/health")
    assert url_of(ip_address("fd00::1"), check) == "http://[fd00::1]:80/health"
    assert url_of(ip_address("10.0.0.1"), check) == "http://10.0.0.1:80/health"
    assert url_of(ip_address("fd00::1"), Check(http="http://{address}/{address}")) == "http://[fd00::1]/fd00::1"


@pytest.mark.parametrize(
    "http",
    [
        "http://192.0.2.9/x",
        "http://{address}@192.0.2.9/",
        "http://192.0.2.9@{address}/",
        "http://{address}.example.test/",
        "http://{address}:80@192.0.2.9/",
        "http://x[{address}]/",
        "http://[{address}%25x]/",
        "http://{address}\\@192.0.2.9/",
        "ftp://[{address}]/",
    ],
)
async def test_an_http_check_asks_the_server_only(http: str) -> None:
    """A check whose host is another one is refused by the site, and fails unasked where an older version took it."""
    pool = Pool("p", (Server("s", LOOPBACK),), check=Check(http=http))
    assert [problem.where for problem in check_one("pool", "p", pool, Site())] == ["pool.p.check.http"]
    if http.startswith("http:"):
        found = await probe_http(LOOPBACK, Check(http=http))
        assert not found.passed
        assert "URL" in found.note


def test_a_zone_of_an_address_is_refused() -> None:
    """An address with a zone (RFC 4007) names an interface of whichever machine reads it."""
    pool = Pool("p", (Server("s", ip_address("fe80::1%eth0")),), check=Check(tcp=80))
    (problem,) = check_one("pool", "p", pool, Site())
    assert "take an address without one" in problem.message


BANNERS = [
    b"SSH-2.0-OpenSSH_9.2 secret-banner\r\n",
    b"220 mail.example.test ESMTP secret-banner\r\n",
    b"up 75% secret-banner\n",
    b"secret-banner\n",
    b"# secret-banner\n",
    b"HTTP/1.1 secret-banner\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nsecret-banner\r\n\r\n",
    b"HTTP/1.1 503 secret-banner\r\nX: secret-banner\r\n\r\nsecret-banner",
    b"HTTP/1.1 200 OK\r\nContent-Length: secret-banner\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.9/secret-banner\r\n\r\n",
    b"\x15\x03\x01\x00\x0dsecret-banner",
]


@pytest.mark.parametrize("banner", BANNERS)
async def test_no_banner_is_quoted(banner: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """What some other service says to a check stands nowhere: not in a status or a report, not in a log."""
    async with listening(saying(banner)) as port:
        checks = [Check(agent=port), Check(http=f"http://[{{address}}]:{port}/", agent=port), Check(tcp=port)]
        checks.append(Check(http=f"https://[{{address}}]:{port}/", verify=False))
        pools = {
            f"p{number}": Pool(f"p{number}", (Server("s", LOOPBACK),), check=replace(check, interval=0.05, fall=1))
            for number, check in enumerate(checks)
        }
        health = Health()
        health.update(Snapshot(1, Site(pools=pools)))
        async with asyncio.timeout(10):
            while health.probes < 12:
                await asyncio.sleep(0.02)
        rows = health.status()
        await health.stop()
    assert not any(row["passing"] for row in rows if row["pool"] in ("p0", "p3"))
    told = repr([rows, reported(rows), with_health({"servers": []}, health)]) + "".join(capsys.readouterr())
    assert "secret-banner" not in told


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own making for www.example.test, and that in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder: Path = tmp_path_factory.mktemp("tls")
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "cert").write_bytes(pem)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key").write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context, pem.decode()


async def test_https_is_verified_unless_verify_is_off(certificate: tuple[ssl.SSLContext, str]) -> None:
    """An unknown authority and a wrong name fail; the right ones pass, and so does anything with verify = false."""
    context, pem = certificate
    async with listening(http("200 OK"), tls=context) as port:
        check = Check(http=f"https://[{{address}}]:{port}/", timeout=5)
        unknown = await probe_http(LOOPBACK, check)
        named = await probe_http(LOOPBACK, replace(check, ca=pem, host="other.test"))
        assert await probe_http(LOOPBACK, replace(check, ca=pem, host="www.example.test")) == Result(passed=True)
        assert await probe_http(LOOPBACK, replace(check, verify=False)) == Result(passed=True)
    assert (unknown.passed, unknown.note[:12]) == (False, "certificate:")
    assert (named.passed, named.note[:12]) == (False, "certificate:")


def snapshot(check: Check | None, *states: ServerState) -> Snapshot:
    """One pool with servers on ::1 in these states."""
    made = tuple(Server(f"s{n}", LOOPBACK, state=state) for n, state in enumerate(states or (ServerState.UP,)))
    return Snapshot(1, Site(pools={"p": Pool("p", made, check=check)}))


@asynccontextmanager
async def watching(health: Health) -> AsyncIterator[list[Snapshot]]:
    """Health that runs; the snapshots it has acted by."""
    acted: list[Snapshot] = []

    async def act(found: Snapshot) -> None:
        acted.append(found)

    task = asyncio.ensure_future(health.run(act))
    try:
        yield acted
    finally:
        task.cancel()
        await health.stop()


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds; fails after a while."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_server_dies_and_comes_back() -> None:
    """Its state in the snapshot follows, and the status says why and since when."""
    health = Health()
    async with watching(health) as acted:
        async with listening(saying(b"")) as port:
            base = snapshot(Check(tcp=port, interval=0.1))
            assert health.update(base) is base
            await until(lambda: health.probes > 3)
            assert health.applied() is base
            assert not acted
        await until(lambda: bool(acted))
        assert acted[-1].site.pools["p"].servers[0].state is ServerState.DOWN
        assert health.applied() is acted[-1]
        (shown,) = health.status()
        assert (shown["state"], shown["set"], shown["passing"]) == ("down", "up", False)
        assert "refused" in shown["note"].lower()
        async with listening(saying(b""), port):
            await until(lambda: acted[-1] is base)


class OneLink(Links):
    """A link that a test takes away: `away` is the interface without a carrier, or empty."""

    away = "eth0"

    async def lost(self, address: Address) -> str:
        """See Links.lost."""
        return self.away

    def is_back(self, interface: str) -> bool:
        """See Links.is_back."""
        return self.away != interface


async def test_a_link_that_is_away() -> None:
    """Servers behind a link without a carrier are drained, not down, as their flows would move; they are not probed
    meanwhile, and with the first that passes all are back at once."""
    links = OneLink()
    health = Health(links)
    async with watching(health) as acted:
        async with listening(saying(b"")) as port:
            pass
        base = snapshot(Check(tcp=port, interval=0.1, fall=1, rise=50), *[ServerState.UP] * 3)
        health.update(base)
        await until(lambda: {row["state"] for row in health.status()} == {"drain"})
        assert {(row["set"], row["note"], row["passing"]) for row in health.status()} == {
            ("up", "eth0 has no carrier", False)
        }
        assert list(health.usable(["p"])) == []
        await until(lambda: bool(acted) and states_of(acted[-1]) == {ServerState.DRAIN})
        acted.clear()
        probes = health.probes
        await asyncio.sleep(1)
        assert health.probes == probes
        async with listening(saying(b""), port):
            links.away = ""
            await until(lambda: bool(acted))
            assert acted == [base]
        await until(lambda: states_of(acted[-1]) == {ServerState.DOWN})


def states_of(found: Snapshot) -> set[ServerState]:
    """The states of the servers of pool p."""
    return {server.state for server in found.site.pools["p"].servers}


async def test_an_agent_beside_a_check() -> None:
    """The agent's load sets the weight; its last report stays when it is gone, and the check decides on health."""
    health = Health()
    async with watching(health) as acted, listening(saying(b"")) as port:
        async with listening(saying(b"25%\n")) as agent:
            health.update(snapshot(Check(tcp=port, agent=agent, interval=0.1)))
            await until(lambda: bool(acted))
            assert acted[-1].site.pools["p"].servers[0].weight == 25
        await until(lambda: bool(health.status()[0]["agent"]))
        shown = health.status()[0]
        assert (shown["passing"], shown["weight"], shown["load"]) == (True, 25, 25)


async def test_an_agent_alone_is_the_check() -> None:
    """Without another check a server whose agent does not answer is down."""
    health = Health()
    async with watching(health) as acted:
        async with listening(saying(b"drain\n")) as port:
            health.update(snapshot(Check(agent=port, interval=0.1)))
            await until(lambda: bool(acted))
            assert acted[-1].site.pools["p"].servers[0].state is ServerState.DRAIN
        await until(lambda: acted[-1].site.pools["p"].servers[0].state is ServerState.DOWN)


async def test_an_operator_changes_things_meanwhile() -> None:
    """Health survives a change of the site; a server the operator brings back has the state of its check."""
    health = Health()
    async with watching(health) as acted:
        check = Check(tcp=1, interval=0.1)
        health.update(snapshot(check, ServerState.MAINT))
        await until(lambda: not health.status()[0]["passing"])
        assert health.update(snapshot(check)).site.pools["p"].servers[0].state is ServerState.DOWN
        async with listening(saying(b"")) as port:
            again = snapshot(Check(tcp=port, interval=0.1))
            assert health.update(again).site.pools["p"].servers[0].state is ServerState.DOWN
            await until(lambda: bool(acted) and acted[-1] is again)
        without = snapshot(None)
        assert health.update(without) is without
        assert health.status() == []


async def test_probes_are_bounded() -> None:
    """However many servers there are, at most MOST_PROBES are asked at once."""
    now, most = 0, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0.05)
        now -= 1
        writer.write(b"up\n")
        writer.close()

    health = Health()
    async with listening(slow) as port, watching(health):
        health.update(snapshot(Check(agent=port, interval=0.1, timeout=10), *[ServerState.UP] * 300))
        await until(lambda: health.probes >= 300)
    assert 8 < most <= MOST_PROBES


async def test_a_pool_leaves_places_to_others() -> None:
    """Servers of one pool that do not answer, very many and each for a minute, keep no other pool from being checked:
    neither while they hold every place, nor while they wait for one."""
    silent = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    health = Health()
    async with listening(hang) as dead, listening(saying(b"")) as alive, watching(health):
        many = snapshot(Check(agent=dead, interval=0.1, timeout=60), *[ServerState.UP] * 600).site.pools["p"]
        one = replace(snapshot(Check(tcp=alive, interval=0.1)).site.pools["p"], name="other")
        health.update(Snapshot(1, Site(pools={"p": many})))
        await until(lambda: health._places._free == 0)
        health.update(Snapshot(2, Site(pools={"p": many, "other": one})))
        begun = time.monotonic()
        await until(lambda: bool(list(health.usable(["other"]))))
        await until(lambda: any("others were being checked" in row["note"] for row in health.status()))
        assert time.monotonic() - begun < 20  # instead of a minute for each round
        silent.set()


async def test_a_pool_costs_others_no_time() -> None:
    """However many servers of a pool do not answer, the only one of another pool has the whole timeout of its check."""
    silent = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(LEAST_SECONDS + 0.5)
        await http("200 OK")(reader, writer)

    health = Health()
    async with listening(hang) as dead, listening(slow) as late, watching(health):
        many = snapshot(Check(agent=dead, interval=0.1, timeout=60), *[ServerState.UP] * 300).site.pools["p"]
        check = Check(http=f"http://[{{address}}]:{late}/", interval=0.1, timeout=5)
        one = replace(snapshot(check).site.pools["p"], name="other")
        health.update(Snapshot(1, Site(pools={"p": many, "other": one})))

        def row() -> dict[str, Any]:
            return next(row for row in health.status() if row["pool"] == "other")

        await until(lambda: row()["probes"] >= 2)
        assert any("others were being checked" in each["note"] for each in health.status())
        assert (row()["failures"], row()["note"]) == (0, "")
        silent.set()


async def test_very_many_pools_cost_others_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pools have a server that does not answer, one of another pool that answers slowly is found to do so,
    and has the whole timeout of its check from then on."""
    monkeypatch.setattr(places_module, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(places_module, "LATELY_SECONDS", 5.0)
    silent = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)
        await http("200 OK")(reader, writer)

    health = Health()
    async with listening(hang) as dead, listening(slow) as late, watching(health):
        one = snapshot(Check(agent=dead, interval=0.1, timeout=60)).site.pools["p"]
        many = {f"p{n}": replace(one, name=f"p{n}") for n in range(MOST_PROBES + 72)}
        check = Check(http=f"http://[{{address}}]:{late}/", interval=0.1, timeout=5)
        other = replace(snapshot(check).site.pools["p"], name="other")
        health.update(Snapshot(1, Site(pools=many)))
        await until(lambda: health._places._free == 0)
        health.update(Snapshot(2, Site(pools={**many, "other": other})))

        def row() -> dict[str, Any]:
            return next(row for row in health.status() if row["pool"] == "other")

        failed = [0, 0]

        def has_settled() -> bool:
            now = row()
            if now["failures"] != failed[0]:
                failed[:] = now["failures"], now["probes"]
            return bool(now["passing"] and now["probes"] >= failed[1] + 5)

        await until(has_settled, 60)
        assert any("others were being checked" in each["note"] for each in health.status())
        silent.set()


async def test_authorities_are_read_bit_by_bit(certificate: tuple[ssl.SSLContext, str]) -> None:
    """However many authorities checks have, and however many checks have others: packets wait for one certificate at a
    time, and what is used is kept."""
    _, pem = certificate
    contexts, longest = Contexts(2), 0.0
    checks = [Check(http="https://{address}/", ca=f"{pem}\n" * 100 + f"# {number}") for number in range(3)]

    async def packets() -> None:
        nonlocal longest
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - begun)

    others = asyncio.ensure_future(packets())
    made = await asyncio.gather(*(contexts.of(check) for check in checks))
    others.cancel()
    assert longest < 0.01
    assert len(set(map(id, made))) == 3
    assert await contexts.of(checks[2]) is made[2]
    assert await contexts.of(checks[0]) is not made[0]


async def test_usable_follows_each_result() -> None:
    """What can take new flows is known after each check and each change, as readiness is asked for all the time."""
    health = Health()
    async with watching(health), listening(saying(b"")) as port:
        health.update(snapshot(Check(tcp=port, interval=0.1, fall=1)))
        assert not list(health.usable(["p"]))
        await until(lambda: bool(list(health.usable(["p"]))))
        health.update(snapshot(Check(tcp=port, interval=0.1, fall=1), ServerState.DRAIN))
        assert not list(health.usable(["p"]))
        health.update(snapshot(Check(tcp=1, interval=0.1, fall=1, rise=1)))
        await until(lambda: not list(health.usable(["p"])))


async def test_status_beside_a_runners() -> None:
    """The status has each server's health beside its counters; without a check it is unknown."""
    health = Health()
    async with watching(health):
        health.update(snapshot(Check(tcp=1, interval=0.1, fall=1)))
        await until(lambda: not health.status()[0]["passing"])
        servers = [
            {"pool": "p", "name": name, "address": address, "state": state}
            for name, address, state in [
                ("s0", "::1", "down"),
                ("b", "::2", "up"),
                ("c", "::3", "up"),
                ("d", "::3", "maint"),
            ]
        ]
        told = with_health({"servers": servers, "mtu": 1500, "unreachable": ["::3"]}, health)
    assert [server["healthy"] for server in told["servers"]] == [False, None, False, None]
    assert [server["set"] for server in told["servers"]] == ["up", "up", "up", "maint"]
    assert (told["mtu"], [one["state"] for one in told["health"]]) == (1500, ["down"])
    assert told["checks"]["probes"] >= told["checks"]["failures"] >= 1


@pytest.mark.parametrize("state", [ServerState.DOWN, ServerState.MAINT])
async def test_a_failing_server_out_of_service(state: ServerState) -> None:
    """Whether a server passes that an operator has taken out of service is nobody's trouble, and it has no weight."""
    health = Health()
    async with watching(health):
        health.update(snapshot(Check(tcp=1, interval=0.1, fall=1), state))
        await until(lambda: not health.status()[0]["passing"])
        row = {"pool": "p", "name": "s0", "address": "::1", "state": state.value}
        told = with_health({"servers": [row]}, health)
    assert (row["set"], row["healthy"]) == (state, None)
    assert (told["health"][0]["set"], told["health"][0]["state"], told["health"][0]["weight"]) == (state, state, 0)


async def test_acting_is_tried_again() -> None:
    """Applying a result is retried until it succeeds."""
    tried = 0

    async def act(_: Snapshot) -> None:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise OSError("busy")

    health = Health()
    task = asyncio.ensure_future(health.run(act))
    health.update(snapshot(Check(tcp=1, interval=0.1)))
    await until(lambda: tried == 3)
    assert not task.done()
    task.cancel()
    await health.stop()


async def test_a_probe_that_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a probe did not foresee counts against the server, and the next one is made all the same."""

    async def broken(*_: object) -> Result:
        raise RuntimeError("unforeseen")

    monkeypatch.setitem(health_module._PROBES, "tcp", broken)
    health = Health()
    async with watching(health) as acted:
        health.update(snapshot(Check(tcp=1, interval=0.1)))
        await until(lambda: health.failures > 3)
        assert acted[-1].site.pools["p"].servers[0].state is ServerState.DOWN
        assert health.status()[0]["note"] == "RuntimeError"


async def test_a_flapping_pool_is_not_told_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that comes and goes with every check makes some lines a minute and no more; those of others are told,
    and a pool that goes and comes as a whole is told of each of its servers."""
    flapping = iter([True, False] * 10_000)

    async def probe(address: Address, *_: object) -> Result:
        return Result(next(flapping) if address == LOOPBACK else False, "by turns")

    monkeypatch.setitem(health_module._PROBES, "tcp", probe)
    check = Check(tcp=9, interval=0.1, rise=1, fall=1)
    many = tuple(Server(f"s{n}", ip_address(f"::{n + 2:x}")) for n in range(MOST + 10))
    pools = {"one": Pool("one", (Server("flaps", LOOPBACK),), check=check), "many": Pool("many", many, check=check)}
    health = Health()
    monkeypatch.setattr(health_module, "MOST", 5)
    with capture_logs() as lines:
        health.update(Snapshot(1, Site(pools=pools)))
        try:
            await until(lambda: health.probes > 20 * (len(many) + 1))
        finally:
            await health.stop()
    told = Counter(line["pool"] for line in lines if line["event"] == "server")
    assert told["one"] == 5 + 2
    assert told["many"] == len(many)
