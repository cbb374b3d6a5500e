"""DNS over TLS: what is answered, whom certificates and tokens identify, what is renewed."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.tsigkeyring
import pytest
from cryptography import x509
from dns.exception import DNSException

from dnsvip.dns.control import ServerIdentity
from dnsvip.dns.engine import Engine
from dnsvip.dns.io.framing import frame
from dnsvip.dns.io.server import DnsServer
from dnsvip.dns.protocol.padding import BLOCK
from dnsvip.errors import PlatformError
from dnsvip.site.io.files import zone_files
from dnsvip.site.node_dns import DnsSettings, Listener
from dnsvip.site.site_file import build_site
from tests.dns.io.test_transport import eventually, ids, question, receive
from tests.dns.io.tls_world import NAME, Authority, connected, listener
from tests.dns.protection.test_proxy import header
from tests.dns.unbound import configuration, run_unbound
from tests.dns.world import SECRET, ZONES, Running, site_tables, who_is
from tests.ports import free_port
from tests.samples import snapshot_of

TOKEN = "dv" + "a2" * 13
LAPTOP, PHONE, PRINTER, TOKENED = 2001, 2002, 2003, 2004


def tables(authority: Authority) -> dict[str, Any]:
    """A site whose clients are known by names in certificates, by a fingerprint, and by a token."""
    printer = authority.issue("printer.example.test")
    authority.issue("laptop.example.test", x509.RFC822Name("ann@example.test"), common="Ann's laptop")
    authority.issue("phone.example.test", x509.UniformResourceIdentifier("urn:phone:7"), common="Phone")
    site = site_tables()
    site["dns_token"] = {"van": {"digest": hashlib.sha256(TOKEN.encode()).hexdigest()}}
    matches = {"tls": "Ann@example.test"}, {"tls": "urn:phone:7"}, {"tls": f"SHA256:{printer}"}, {"token": "van"}
    for number, match in enumerate(matches, LAPTOP):
        site["client"][f"by-{number}"] = {"id": number, "tier": "gold", "match": [match]}
    return site


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Running]:
    files = authority.files(clients=True, names=(NAME,))
    listen = listener(files), Listener("127.0.0.1:0", "public")
    with Running(snapshot_of(build_site(tables(authority), zone_files(ZONES))), listen) as running:
        yield running


def client_of(server: Running, tls: socket.socket, times: int = 1) -> int:
    """The client in the address that is answered, 0 for nobody's; the same each time."""
    found = set()
    for _ in range(times):
        tls.sendall(frame(question()))
        answer = dns.message.from_wire(receive(tls)).answer
        vip = int(ip_address(answer[0][0].to_text()))
        plain = int(server.snapshot.site.clusters["web"].plain)
        found.add(0 if vip == plain else who_is(server.snapshot, vip)["client"])
    assert len(found) == 1
    return found.pop()


def test_pipelining(server: Running, authority: Authority) -> None:
    """Questions sent at once are answered in order, as over TCP; ALPN says dot, and other protocols are not spoken."""
    with connected(server.port, authority.context()) as tls:
        assert tls.selected_alpn_protocol() == "dot"
        tls.sendall(b"".join(frame(question(id_=number)) for number in range(500)))
        assert ids(tls, 500) == list(range(500))
    with connected(server.port, authority.context(alpn=())) as tls:  # RFC 7858 did not know ALPN
        assert client_of(server, tls) == 0


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_programs(server: Running, authority: Authority, version: str) -> None:
    """kdig verifies the name and gets an answer, so does dig; openssl connects by both versions of TLS."""
    reply = server.kdig("+tls", f"+tls-ca={authority.file}", f"+tls-hostname={NAME}", "www.example.test", "AAAA")
    assert (reply.status, len(reply.answer)) == ("NOERROR", 1)
    reply = server.dig(f"+tls-ca={authority.file}", f"+tls-hostname={NAME}", "+tls", "www.example.test", "AAAA")
    assert (reply.status, len(reply.answer)) == ("NOERROR", 1)
    done = openssl(server, authority, version, "-brief")
    assert "Verification: OK" in done.stderr


def openssl(server: Running, authority: Authority, *more: str, text: str = "") -> subprocess.CompletedProcess[str]:
    where = f"127.0.0.1:{server.port}"
    argv = ["openssl", "s_client", "-connect", where, "-CAfile", str(authority.file), "-servername", NAME, *more]
    return subprocess.run(argv, capture_output=True, text=True, input=text, timeout=10, check=False)


def test_certificates_identify(server: Running, authority: Authority) -> None:
    """A client is known by an email name, a URI or the fingerprint of its certificate, over its connection alone: who
    asks the same from the same address, before and after, over TLS, TCP or UDP, gets nobody's address."""
    with (
        connected(server.port, authority.context()) as nobody,
        socket.create_connection(("127.0.0.1", server.endpoints[1].port)) as plain,
    ):
        for name, known in (("laptop", LAPTOP), ("phone", PHONE), ("printer", PRINTER)):
            with connected(server.port, authority.context(f"{name}.example.test")) as tls:
                for _ in range(3):
                    assert client_of(server, tls, 5) == known
                    assert client_of(server, nobody, 5) == 0
                    assert client_of(server, plain, 5) == 0
                    udp = server.dig("www.example.test", "AAAA", listener=1).answer
                    assert udp[0].split()[-1] == str(server.snapshot.site.clusters["web"].plain)
        assert server.counters()["steps"]["tls"] == 45


def test_strangers_certificates(server: Running, authority: Authority, tmp_path: Path) -> None:
    """A certificate of another authority, one that has ended, and one without its key end the handshake."""
    other = Authority(tmp_path, "other")
    other.issue("laptop.example.test", x509.RFC822Name("ann@example.test"))
    authority.issue("old.example.test", x509.RFC822Name("ann@example.test"), days=-1)
    forged, old = authority.context(), authority.context("old.example.test")
    forged.load_cert_chain(tmp_path / "laptop.example.test.pem", tmp_path / "laptop.example.test.key")
    before = server.counters()["transport"].get("tls_handshake_failed", 0)
    for context in (forged, old):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"), connected(server.port, context) as tls:
            client_of(server, tls)  # by TLS 1.3 the client learns it now
    assert server.counters()["transport"]["tls_handshake_failed"] == before + 2


def test_names_of_a_fingerprint_are_nobodys(server: Running, authority: Authority) -> None:
    """Who has an authority write another's fingerprint as a name into his certificate is not that client."""
    printer = next(c for c in server.snapshot.site.clients.values() if c.id == PRINTER).match[0].value
    authority.issue("x.example.test", x509.UniformResourceIdentifier(printer), common=printer[:64])
    with connected(server.port, authority.context("x.example.test")) as tls:
        assert client_of(server, tls) == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption(server: Running, authority: Authority, version: ssl.TLSVersion) -> None:
    """A session is resumed, with the identity that it was opened with, and with nobody else's."""
    for name, known in (("laptop.example.test", LAPTOP), (None, 0)):
        context = authority.context(name)
        context.maximum_version = version
        with connected(server.port, context) as tls:
            assert client_of(server, tls) == known
            session = tls.session
            assert not tls.session_reused
        with connected(server.port, context, session=session) as tls:
            assert tls.session_reused
            assert client_of(server, tls) == known


def test_certificates_that_end(authority: Authority, tmp_path: Path) -> None:
    """A certificate whose time is over resumes no session, and the connection that it opened ends; others stay."""
    own, second = Authority(tmp_path), 1 / 86_400
    own.server()
    with Running(
        snapshot_of(build_site(site_tables(), zone_files(ZONES))), (listener(own.files(clients=True)),)
    ) as run:
        own.issue("brief", days=2 * second)
        contexts = own.context("brief"), own.context("brief")
        contexts[0].maximum_version = ssl.TLSVersion.TLSv1_2
        sessions = []
        for context in contexts:
            with connected(run.port, context) as tls:
                client_of(run, tls)
                sessions.append(tls.session)
        with connected(run.port, contexts[1]) as kept, connected(run.port, own.context()) as other:
            assert (client_of(run, kept), client_of(run, other)) == (0, 0)
            time.sleep(2)
            run.in_loop(run.server.listeners.refresh)
            with suppress(ConnectionError):
                assert receive(kept) == b""
            assert client_of(run, other) == 0
        for context, session in zip(contexts, sessions, strict=True):
            with pytest.raises((OSError, DNSException)), connected(run.port, context, session=session) as tls:
                client_of(run, tls)
        counted = run.counters()["transport"]
        assert (counted["tls_certificate_ended"], counted["tls_handshake_failed"]) == (1, 2)


def test_an_authority_that_ends_while_a_handshake_is_under_way(authority: Authority, tmp_path: Path) -> None:
    """Nobody who has begun before, or comes while the server's own files cannot be used, has its certificate taken."""
    own = Authority(tmp_path)
    own.server()
    authority.issue("laptop.example.test")
    base = replace(snapshot_of(build_site(site_tables(), zone_files(ZONES))), client_ca=(authority.file.read_text(),))
    context = own.context()
    context.load_cert_chain(authority.folder / "laptop.example.test.pem", authority.folder / "laptop.example.test.key")
    files = replace(own.files(), client_ca=("dnsvip",))
    with Running(base, (listener(files),)) as running:
        with connected(running.port, context) as tls:
            assert client_of(running, tls) == 0
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
        with socket.create_connection(("127.0.0.1", running.port), 5) as sock:
            with pytest.raises(ssl.SSLWantReadError):
                session.do_handshake()
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(1 << 14))
            running.in_loop(lambda: running.server.update(replace(base, generation=9, client_ca=())))
            session.do_handshake()
            session.write(frame(question()))
            sock.sendall(outgoing.read())
            with suppress(ConnectionError):
                while data := sock.recv(1 << 14):
                    incoming.write(data)
            with suppress(ssl.SSLError):
                assert not session.read(1 << 14)
        running.in_loop(lambda: running.server.update(replace(base, generation=10)))
        with connected(running.port, context) as tls:
            assert client_of(running, tls) == 0
            (tmp_path / f"{NAME}.pem").write_text("nothing")
            running.in_loop(lambda: running.server.update(replace(base, generation=11, client_ca=())))
            with suppress(ConnectionError):
                assert receive(tls) == b""
        with pytest.raises((OSError, DNSException)), connected(running.port, context) as tls:
            client_of(running, tls)
        with connected(running.port, own.context()) as tls:
            assert client_of(running, tls) == 0


def test_tokens_in_server_names(server: Running, authority: Authority) -> None:
    """TOKEN.NAME identifies in any case, a resumed session is looked at again, and a wrong token is refused."""
    context = authority.context()
    with connected(server.port, context, f"{TOKEN.upper()}.{NAME}") as tls:
        assert client_of(server, tls, 3) == TOKENED
        session = tls.session
    wrong = f"dv{'b3' * 13}.{NAME}"
    with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"), connected(server.port, context, wrong):
        pass
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)access.denied"),
        connected(server.port, context, wrong, session=session),
    ):
        pass
    assert server.counters()["transport"]["tls_token_refused"] == 2
    with connected(server.port, context) as tls:
        assert client_of(server, tls) == 0


def test_a_token_that_ends(authority: Authority) -> None:
    """Where a token is removed, the connections that it opened end; those of others stay."""
    site = tables(authority)
    listen = (listener(authority.files(names=(NAME,))),)
    with (
        Running(snapshot_of(build_site(site, zone_files(ZONES))), listen) as running,
        connected(running.port, authority.context(), f"{TOKEN}.{NAME}") as tls,
        connected(running.port, authority.context()) as other,
    ):
        assert (client_of(running, tls), client_of(running, other)) == (TOKENED, 0)
        del site["dns_token"], site["client"][f"by-{TOKENED}"]
        later = replace(snapshot_of(build_site(site, zone_files(ZONES))), generation=9)
        running.in_loop(lambda: running.server.update(later))
        with suppress(ConnectionError):
            assert receive(tls) == b""
        assert client_of(running, other) == 0
        assert running.counters()["transport"]["tls_token_ended"] == 1


def test_renewed_certificates(authority: Authority, tmp_path: Path) -> None:
    """A new certificate is used from the next connection on; one that cannot be used leaves the one before."""
    own = Authority(tmp_path)
    first = own.server()
    with Running(snapshot_of(build_site(site_tables(), zone_files(ZONES))), (listener(own.files()),)) as running:

        def shown() -> str:
            with connected(running.port, own.context()) as tls:
                return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()

        assert shown() == first
        with connected(running.port, own.context()) as kept:
            second = own.server()
            running.in_loop(running.server.listeners.refresh)
            assert shown() == second
            (tmp_path / f"{NAME}.pem").write_text("nothing")
            running.in_loop(running.server.listeners.refresh)
            assert shown() == second
            assert client_of(running, kept) == 0


def test_the_authority_of_the_site(authority: Authority, tmp_path: Path) -> None:
    """Certificates of the site's own authority identify from the next snapshot on; where it is given up, the
    connections that they opened end, and those of others stay."""
    own = Authority(tmp_path)
    own.issue("laptop.example.test", x509.RFC822Name("ann@example.test"))
    base = snapshot_of(build_site(tables(authority), zone_files(ZONES)))
    later = replace(base, generation=9, client_ca=(own.file.read_text(),))
    context = authority.context()
    context.load_cert_chain(tmp_path / "laptop.example.test.pem", tmp_path / "laptop.example.test.key")
    files = replace(authority.files(), client_ca=("dnsvip", str(authority.file)))
    with Running(base, (listener(files),)) as running:
        with pytest.raises(ssl.SSLError), connected(running.port, context) as tls:
            client_of(running, tls)
        running.in_loop(lambda: running.server.update(later))
        with connected(running.port, context) as tls, connected(running.port, authority.context()) as other:
            assert (client_of(running, tls), client_of(running, other)) == (LAPTOP, 0)
            running.in_loop(lambda: running.server.update(replace(base, generation=10)))
            with suppress(ConnectionError):
                assert receive(tls) == b""
            assert client_of(running, other) == 0


@pytest.mark.parametrize("what", ["no file", "another's key", "encrypted", "no authorities"])
async def test_unusable_certificates(tmp_path: Path, what: str) -> None:
    """A server with files that it cannot use does not start, and says which they are."""
    own = Authority(tmp_path)
    own.server()
    own.issue("b.example.test")
    files, key = own.files(), tmp_path / f"{NAME}.key"
    match what:
        case "no file":
            key.unlink()
        case "another's key":
            files = replace(files, key=tmp_path / "b.example.test.key")
        case "encrypted":
            command = ["openssl", "pkcs8", "-topk8", "-in", key, "-passout", "pass:x", "-out", tmp_path / "c.key"]
            subprocess.run(command, check=True, capture_output=True)
            files = replace(files, key=tmp_path / "c.key")
        case _:
            files = replace(files, client_ca=(str(key),))
    engine = Engine(snapshot_of(build_site(site_tables(), zone_files(ZONES))))
    with pytest.raises(PlatformError, match=r"dns.listen 'secure': tls.*PEM"):
        await DnsServer(DnsSettings(listen=(listener(files),)), engine).start()


@pytest.mark.parametrize("kind", ["NOERROR", "NXDOMAIN", "TSIG"])
def test_padding(server: Running, authority: Authority, kind: str) -> None:
    """An answer to a padded query over TLS has whole blocks (RFC 8467), a signed one too; others have no padding."""
    options = [dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(40))]
    query = dns.message.make_query("no.example.test" if kind == "NXDOMAIN" else "www.example.test", "AAAA")
    query.use_edns(0, options=options)
    if kind == "TSIG":
        query.use_tsig(dns.tsigkeyring.from_text({"acme-key": SECRET}), "acme-key")
    wire = query.to_wire()
    with connected(server.port, authority.context()) as tls:
        for _ in range(4):  # the last ones may be known by their bytes
            tls.sendall(frame(wire))
            padded = receive(tls)
            assert len(padded) % BLOCK == 0
    message = dns.message.from_wire(padded, keyring=query.keyring, request_mac=query.mac)
    assert {option.otype for option in message.options} == {dns.edns.OptionType.PADDING}
    with socket.create_connection(("127.0.0.1", server.endpoints[1].port)) as plain:
        plain.sendall(frame(wire))
        assert len(receive(plain)) < BLOCK


def test_keepalive(authority: Authority) -> None:
    """Who asks how long a connection may be idle learns it over TLS and TCP, and not over UDP (RFC 7828)."""
    option = dns.edns.GenericOption(11, b"")
    query = dns.message.make_query("mail.example.test", "A", use_edns=0, options=[option])
    settings = DnsSettings(listen=(listener(authority.files()), Listener("127.0.0.1:0", "public")))
    with Running(snapshot_of(build_site(site_tables(), zone_files(ZONES))), settings=settings) as running:
        idle = ServerIdentity(idle=settings.tcp.idle_seconds)
        running.in_loop(
            lambda: setattr(running.server, "fast", running.server.compiled(running.snapshot, identity=idle))
        )
        port = running.endpoints[1].port
        udp, tcp = (ask(query, "127.0.0.1", 5, port) for ask in (dns.query.udp, dns.query.tcp))
        context = authority.context()
        tls = dns.query.tls(query, "127.0.0.1", 5, running.port, ssl_context=context, server_hostname=NAME)
    found = [[option.to_wire() for option in answer.options if option.otype == 11] for answer in (udp, tcp, tls)]
    assert found == [[], [b"\0\x64"], [b"\0\x64"]]


def test_behind_a_front_end(authority: Authority) -> None:
    """A PROXY header before the handshake names the client; without one the connection ends."""
    listen = (listener(authority.files()),)
    settings = DnsSettings(listen=listen, proxy_from=(ip_network("127.0.0.0/8"),))
    with Running(snapshot_of(build_site(site_tables(), zone_files(ZONES))), settings=settings) as running:
        with socket.create_connection(("127.0.0.1", running.port), 5) as sock:
            sock.sendall(header("2001:db8:77::9", 1))
            with authority.context().wrap_socket(sock, server_hostname=NAME) as tls:
                assert client_of(running, tls) == 1001
        with pytest.raises((ssl.SSLError, OSError)), connected(running.port, authority.context()):
            pass
        assert running.counters()["transport"]["tls_bad_proxy"] == 1


def test_unbound_forwards(server: Running, authority: Authority, tmp_path: Path) -> None:
    """An Unbound that forwards over TLS verifies the server and gets answers."""
    port = free_port()
    settings = f'  tls-cert-bundle: "{authority.file}"\n'
    forward = 'forward-zone:\n  name: "example.test"\n  forward-tls-upstream: yes\n'
    forward += f"  forward-addr: 127.0.0.1@{server.port}#{NAME}\n"
    text = configuration(tmp_path, port, server.port, "iterator", settings, ()) + forward
    before = server.counters()["transport"]["tls_messages"]
    with run_unbound(tmp_path, port, text, "mail.example.test", "A"):
        assert server.counters()["transport"]["tls_messages"] > before


def test_dnsdist_forwards(server: Running, authority: Authority, tmp_path: Path) -> None:
    """A dnsdist with the server as a backend over TLS gives its clients answers."""
    port = free_port()
    backend = (
        f'address = "127.0.0.1:{server.port}", tls = "openssl", caStore = "{authority.file}", subjectName = "{NAME}"'
    )
    file = tmp_path / "dnsdist.conf"
    file.write_text(f'setLocal("127.0.0.1:{port}")\nnewServer({{{backend}, checkName = "example.test."}})\n')
    with subprocess.Popen(
        ["dnsdist", "-C", file, "--supervised", "--disable-syslog"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            query = dns.message.make_query("mail.example.test", "A")

            def answered() -> bool:
                with suppress(dns.exception.Timeout, OSError):
                    return dns.query.udp(query, "127.0.0.1", 0.5, port).rcode() == dns.rcode.NOERROR
                return False

            assert eventually(answered, 10)
        finally:
            process.terminate()


def test_probing(server: Running, authority: Authority) -> None:
    """A resolver that probes without knowing any name (RFC 9539) gets by TLS what it gets in the clear."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, rtype in (("mail.example.test", "A"), ("example.test", "SOA"), ("no.such.zone", "A")):
        query = dns.message.make_query(name, rtype)
        tls = dns.query.tls(query, "127.0.0.1", 5, server.port, ssl_context=context)
        assert tls.to_wire() == dns.query.tcp(query, "127.0.0.1", 5, server.endpoints[1].port).to_wire()


def test_time_is_counted(server: Running) -> None:
    """Every message that came over TLS is in an outcome and in the answers by transport; open connections are told."""
    assert eventually(lambda: server.counters()["transport"]["tls_open"] == 0)
    counters = server.counters()
    transport = counters["transport"]
    messages = sum(transport.get(f"{name}_messages", 0) for name in ("udp", "tcp", "tls"))
    assert sum(counters["outcomes"].values()) == messages
    by_tls = sum(number for name, number in counters["queries"].items() if name.startswith("tls "))
    assert by_tls == transport["tls_messages"]
