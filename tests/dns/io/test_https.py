"""DNS over HTTPS: real clients, whom tokens and certificates identify, and peers that mean harm."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import ssl
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.update
import h2.config
import h2.connection
import h2.events
import pytest
from cryptography import x509

from dnsvip.dns.doh import frames
from dnsvip.dns.doh.frames import Error
from dnsvip.dns.doh.http2 import CALM
from dnsvip.dns.io.gate import StreamLimits
from dnsvip.dns.reply import PendingUpdate
from dnsvip.site.io.files import zone_files
from dnsvip.site.node_dns import Listener
from dnsvip.site.site_file import build_site
from tests.dns.doh.test_http2 import GOT, POST, split
from tests.dns.io.test_transport import eventually
from tests.dns.io.tls_world import NAME, Authority, connected, listener
from tests.dns.world import ZONES, Running, site_tables, who_is
from tests.ports import free_port
from tests.samples import snapshot_of

TOKEN, OTHER, WRONG = ("dv" + two * 13 for two in ("a2", "c4", "b3"))
LAPTOP, TOKENED, OTHERED = 2001, 2002, 2003
TYPE = "application/dns-message"


@pytest.fixture(scope="module")
def authority(authority: Authority) -> Authority:
    authority.issue("laptop.example.test", x509.RFC822Name("ann@example.test"))
    return authority


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Running]:
    site = site_tables()
    site["dns_token"] = {
        name: {"digest": hashlib.sha256(text.encode()).hexdigest()} for name, text in (("van", TOKEN), ("tv", OTHER))
    }
    matches = {"tls": "ann@example.test"}, {"token": "van"}, {"token": "tv"}
    for number, match in enumerate(matches, LAPTOP):
        site["client"][f"by-{number}"] = {"id": number, "tier": "gold", "match": [match]}
    files = authority.files(clients=True, names=(NAME,))
    door = replace(listener(files, "door", "https"), identity="required")
    listen = listener(files, scheme="https"), Listener("127.0.0.1:0", "public"), door
    limits = StreamLimits(idle=1.0)
    with Running(snapshot_of(build_site(site, zone_files(ZONES))), listen, limits) as running:
        yield running


def query(name: str = "www.example.test", kind: str = "AAAA") -> bytes:
    return dns.message.make_query(name, kind, id=0).to_wire()


def got(wire: bytes | None = None) -> str:
    return "/dns-query?dns=" + urlsafe_b64encode(wire or query()).decode().rstrip("=")


def curl(
    server: Running,
    authority: Authority,
    path: str,
    *more: str,
    name: str = NAME,
    data: bytes | None = None,
    at: int = 0,
) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and content that curl gets from one of the listeners."""
    where = f"{name}:{server.endpoints[at].port}"
    argv = ["curl", "-s", "-S", "--cacert", str(authority.file), "--resolve", f"{where}:127.0.0.1", "-D", "-"]
    if data is not None:
        argv += ["-H", f"Content-Type: {TYPE}", "--data-binary", "@-"]
    argv += [*more, f"https://{where}{path}"]
    done = subprocess.run(argv, capture_output=True, input=data, timeout=10, check=True)
    *_, head, body = (b"\r\n\r\n" + done.stdout).rsplit(b"\r\n\r\n", 2)
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def client_in(server: Running, wire: bytes) -> int:
    """The client in the address of an answer, 0 for nobody's."""
    vip = int(ip_address(dns.message.from_wire(wire).answer[0][0].to_text()))
    plain = int(server.snapshot.site.clusters["web"].plain)
    return 0 if vip == plain else who_is(server.snapshot, vip)["client"]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl(server: Running, authority: Authority, version: str) -> None:
    """GET, POST and HEAD by both versions; what is wrong is told."""
    status, fields, body = curl(server, authority, got(), version)
    assert (status, fields["content-type"], client_in(server, body)) == (200, TYPE, 0)
    assert fields["cache-control"].startswith("private, max-age=")
    assert fields["content-length"] == str(len(body))
    status, fields, body = curl(server, authority, "/dns-query", version, data=query("mail.example.test", "A"))
    answer = dns.message.from_wire(body).answer[0]
    assert (status, fields["cache-control"]) == (200, f"max-age={answer.ttl}")
    status, fields, body = curl(server, authority, got(), version, "--head", "-o", "/dev/null")
    assert (status, body, "content-length" in fields) == (200, b"", True)
    assert curl(server, authority, "/", version)[2] == b"DNS over HTTPS is at /dns-query\n"
    assert curl(server, authority, "/dns-query", version, data=b"x" * 40_000)[0] == 413
    assert curl(server, authority, "/dns-query", version, "-X", "DELETE")[1]["allow"] == "get, head, post"
    assert curl(server, authority, "/dns-query", version, data=query()[:2] + b"\x80" + query()[3:])[0] == 400
    status, _, body = curl(server, authority, "/dns-query", version, "-H", "Expect: 100-continue", data=query())
    assert (status, client_in(server, body)) == (200, 0)


def test_programs(server: Running, authority: Authority, tmp_path: Path) -> None:
    """kdig and dig ask by GET and POST, curl resolves by it, and dnsperf keeps its connections."""
    for get in (False, True):
        tls = f"+tls-ca={authority.file}", f"+tls-hostname={NAME}"
        reply = server.kdig("+https-get" if get else "+https", *tls, "www.example.test", "AAAA")
        assert ("status: NOERROR" in reply.text, len(reply.answer)) == (True, 1)
        reply = server.dig("+https-get" if get else "+https", *tls, "www.example.test", "AAAA")
        assert (reply.status, len(reply.answer)) == ("NOERROR", 1)
    doh = f"https://{NAME}:{server.port}/dns-query"
    argv = ["curl", "-sv", "-m", "5", "--cacert", authority.file, "--doh-url", doh, "--connect-timeout", "1"]
    argv += ["--resolve", f"{NAME}:{server.port}:127.0.0.1", "http://mail.example.test:9/"]
    mail = server.dig("mail.example.test", "A", listener=1).answer[0].split()[-1]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    assert f"Trying {mail}:9" in done.stderr
    (tmp_path / "asked").write_text("www.example.test AAAA\nmail.example.test A\nno.example.test TXT\n")
    for method in ("GET", "POST"):
        where = ["-s", "127.0.0.1", "-p", str(server.port), "-d", tmp_path / "asked", "-O", f"doh-method={method}"]
        argv = ["dnsperf", "-m", "doh", "-c", "4", "-n", "200", *where]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
        assert "Queries completed:    600 (100.00%)" in done.stdout


def test_nghttp2(server: Running, authority: Authority, tmp_path: Path) -> None:
    """The programs of nghttp2 ask by GET and POST, with padding and trailers, and hundreds at once."""
    (tmp_path / "query").write_bytes(query("mail.example.test", "A"))
    where, kind = f"https://127.0.0.1:{server.port}/dns-query", f"content-type: {TYPE}"
    data = f"--data={tmp_path / 'query'}"
    nghttp = ["nghttp", "--no-verify-peer", "--stat", "--timeout=10", f"--header=:authority: {NAME}", "--null-out"]
    post = [data, f"--header={kind}", "--padding=9", where]
    for more in ([where + got().removeprefix("/dns-query")], [*post, "--trailer=x-test: ok"], [*post, "--multiply=20"]):
        done = subprocess.run([*nghttp, *more], capture_output=True, text=True, check=True, timeout=30)
        statuses = re.findall(r"^ *\d+ +\S+ +\S+ +\S+ +(\d{3}) ", done.stdout, re.MULTILINE)
        assert statuses == ["200"] * (20 if "--multiply=20" in more else 1), done.stdout
    load = ["h2load", "--requests=600", "--clients=6", "--max-concurrent-streams=50", f"--header={kind}", data, where]
    done = subprocess.run(load, capture_output=True, text=True, check=True, timeout=30)
    assert "600 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert "status codes: 600 2xx" in done.stdout


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_tokens(server: Running, authority: Authority, version: str) -> None:
    """A client is known by its token alone, wherever that stands; a wrong one is refused, and never seen again."""
    bearer = "-H", f"Authorization: Bearer {TOKEN}"
    in_path = got().replace("/dns-query", f"/dns-query/{TOKEN.upper()}")
    for path, more, name in ((got(), bearer, NAME), (in_path, (), NAME), (got(), (), f"{TOKEN}.{NAME}")):
        status, fields, body = curl(server, authority, path, version, *more, name=name)
        assert (status, client_in(server, body)) == (200, TOKENED)
        assert fields["cache-control"].startswith("private, max-age=")
        assert client_in(server, curl(server, authority, got(), version)[2]) == 0
    static = got(query("mail.example.test", "A"))
    assert curl(server, authority, static, version, *bearer)[1]["cache-control"].startswith("private")
    wrong = "-H", f"Authorization: Bearer {WRONG}"
    for path, more in ((got().replace("query", f"query/{WRONG}"), ()), (got(), wrong)):
        status, fields, body = curl(server, authority, path, version, *more)
        assert (status, fields["www-authenticate"], fields["cache-control"]) == (401, 'bearer realm="dns"', "no-store")
        assert WRONG.encode() not in body
    assert server.counters()["steps"]["token"] > 0


def test_a_connection_has_many_tokens(server: Running, authority: Authority) -> None:
    """What a token proves counts for its request alone, however they alternate on one connection; one that is for a
    token's name is for no other name."""
    tokens = [(None, 0), (TOKEN, TOKENED), (OTHER, OTHERED), (WRONG, 401)] * 6
    with Client(server, authority) as client:
        for token, known in tokens:
            more = [(b"authorization", b"Bearer " + token.encode())] if token else []
            status, body = client.ask(GOT_WWW + more)
            assert (client_in(server, body) if status == 200 else status) == known
    with Client(server, authority, f"{TOKEN}.{NAME}") as client:
        own = f"{TOKEN}.{NAME}".encode()
        for host, known in ((own, TOKENED), (NAME.encode(), 421), (f"{OTHER}.{NAME}".encode(), 421), (own, TOKENED)):
            status, body = client.ask([*GOT_WWW[:2], (b":authority", host), GOT_WWW[3]])
            assert (client_in(server, body) if status == 200 else status) == known
        status, body = client.ask([*GOT_WWW, (b"authorization", b"Bearer " + OTHER.encode())])
        assert client_in(server, body) == OTHERED


def test_a_listener_for_known_clients(server: Running, authority: Authority) -> None:
    """Where only known clients are answered, a token is enough; nobody in particular is refused, by DNS."""
    for more, rcode in ((("-H", f"Authorization: Bearer {TOKEN}"), dns.rcode.NOERROR), ((), dns.rcode.REFUSED)):
        status, fields, body = curl(server, authority, got(), *more, at=2)
        assert (status, dns.message.from_wire(body).rcode()) == (200, rcode)
        assert fields["cache-control"].startswith("no-store" if rcode else "private")


def test_dnsdist_forwards(server: Running, authority: Authority, tmp_path: Path) -> None:
    """A dnsdist asks over HTTPS, known by the token in its URL, and gives its clients what it gets."""
    port, file = free_port(), tmp_path / "dnsdist.conf"
    where = f'address = "127.0.0.1:{server.port}", dohPath = "/dns-query/{TOKEN}", checkName = "example.test."'
    tls = f'tls = "openssl", caStore = "{authority.file}", subjectName = "{NAME}"'
    file.write_text(f'setLocal("127.0.0.1:{port}")\nnewServer({{{where}, {tls}}})\n')
    argv = ["dnsdist", "-C", file, "--supervised", "--disable-syslog"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            answers: list[dns.message.Message] = []

            def answered() -> bool:
                with suppress(dns.exception.Timeout, OSError):
                    answers.append(dns.query.udp(dns.message.from_wire(query()), "127.0.0.1", 0.5, port))
                return bool(answers) and answers[-1].rcode() == dns.rcode.NOERROR

            assert eventually(answered, 10)
            assert client_in(server, answers[-1].to_wire()) == TOKENED
        finally:
            process.terminate()


CACHE = """daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}
http {{
  access_log off; proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {folder}/cache keys_zone=all:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://127.0.0.1:{server}; proxy_cache all; add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""


def test_a_shared_cache_keeps_what_is_everybodys(server: Running, tmp_path: Path) -> None:
    """nginx in front, as a cache that many share, keeps static answers for as long as they live; what is made for a
    requester it gives to nobody else."""
    port, file = free_port(), tmp_path / "nginx.conf"
    file.write_text(CACHE.format(folder=tmp_path, port=port, server=server.port))
    with subprocess.Popen(["nginx", "-p", tmp_path, "-c", file], stderr=subprocess.DEVNULL) as process:
        try:

            def asked(wire: bytes, *more: str) -> tuple[str, bytes]:
                argv = ["curl", "-s", "-D", "-", "--retry", "20", "--retry-connrefused", "--retry-delay", "0", *more]
                done = subprocess.run([*argv, f"http://127.0.0.1:{port}{got(wire)}"], capture_output=True, check=True)
                head, _, body = done.stdout.partition(b"\r\n\r\n")
                return head.decode().partition("X-Cache: ")[2].split()[0], body

            bearer = "-H", f"Authorization: Bearer {TOKEN}"
            mail = query("mail.example.test", "A")
            assert [asked(mail)[0] for _ in range(3)] == ["MISS", "HIT", "HIT"]
            for more, known in ((bearer, TOKENED), ((), 0), (bearer, TOKENED), ((), 0)):
                cached, body = asked(query(), *more)
                assert (cached, client_in(server, body)) == ("MISS", known)
        finally:
            process.terminate()


def test_certificates(server: Running, authority: Authority) -> None:
    """A client certificate identifies all requests of its connection, and only those."""
    file = f"{authority.folder}/laptop.example.test"
    own = "--cert", f"{file}.pem", "--key", f"{file}.key"
    status, fields, body = curl(server, authority, got(), *own)
    assert (status, client_in(server, body)) == (200, LAPTOP)
    assert fields["cache-control"].startswith("private")
    assert client_in(server, curl(server, authority, got())[2]) == 0


def test_what_is_no_question(server: Running, authority: Authority) -> None:
    """Zones are not transferred, and an update is answered once it is made."""
    with Client(server, authority) as client:
        status, body = client.ask(POST, query("example.test", "AXFR"))
        assert (status, dns.message.from_wire(body).rcode()) == (200, dns.rcode.REFUSED)

        async def make(_pending: PendingUpdate) -> tuple[int, str]:
            await asyncio.sleep(0.3)
            return dns.rcode.REFUSED, ""

        server.in_loop(lambda: server.server.updating(make))
        update = dns.update.UpdateMessage("example.test.", id=7)
        status, body = client.ask(POST, update.to_wire())
        assert (status, dns.message.from_wire(body).rcode()) == (200, dns.rcode.REFUSED)


class Client:
    """hyper-h2 at the other end of a connection."""

    def __init__(self, server: Running, authority: Authority, name: str = NAME) -> None:
        self._connected = connected(server.port, authority.context(alpn=("h2",)), name)

    def __enter__(self) -> Client:
        self.tls = self._connected.__enter__()
        self.tls.settimeout(5)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        return self

    def __exit__(self, *error: object) -> None:
        self._connected.__exit__(None, None, None)

    def ask(self, fields: list[tuple[bytes, bytes]], body: bytes = b"") -> tuple[int, bytes]:
        """Status and content of the response."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.tls.sendall(self.h2.data_to_send())
        status, content = 0, b""
        while data := self.tls.recv(65536):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.DataReceived):
                    content += event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.tls.sendall(self.h2.data_to_send())
                    return status, content
        raise ConnectionError


GOT_WWW = [*GOT[:3], (b":path", got().encode())]


def ended(tls: ssl.SSLSocket) -> bytes:
    """All that comes until the server ends the connection."""
    tls.settimeout(8)
    data = b""
    try:
        while more := tls.recv(65536):
            data += more
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def goaway(data: bytes) -> int | None:
    """The code of the GOAWAY in what a server has sent."""
    return next((int.from_bytes(p[4:8], "big") for kind, _, _, p in split(data) if kind == frames.GOAWAY), None)


CALM_DOWN = Error.ENHANCE_YOUR_CALM
BEGIN = frames.PREFACE + frames.settings({})


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frames.head(8, frames.PING, 0, 0) * 1 + b"x" * 8, None),
        ((frames.head(8, frames.PING, 0, 0) + b"x" * 8) * (CALM + 10), CALM_DOWN),
        (frames.settings({}) * (CALM + 10), CALM_DOWN),
        (
            frames.head(0, frames.HEADERS, 0, 1) + frames.head(0, frames.CONTINUATION, 0, 1) * 99,
            CALM_DOWN,
        ),
        (frames.head(9000, frames.HEADERS, 4, 1) + (b"\x00\x01a\x01b" * 1800), CALM_DOWN),
        (frames.head(8000, frames.HEADERS, 4, 1) + (b"\x00\x01a\x01b" * 1600), Error.COMPRESSION),
        (frames.head(16385, frames.DATA, 0, 1), Error.FRAME_SIZE),
        (b"GET / HTTP/1.1\r\n\r\n", Error.PROTOCOL),
    ],
    ids=["idle", "pings", "settings", "continuations", "long-head", "header-bomb", "large-frame", "http1"],
)
def test_hostile_frames(server: Running, authority: Authority, sent: bytes, code: int | None) -> None:
    """Who floods is told why, and its connection ends; an idle one ends too; others are answered meanwhile."""
    before = server.counters()["transport"].get("https_bad_http", 0)
    with connected(server.port, authority.context(alpn=("h2",))) as tls, Client(server, authority) as client:
        tls.sendall((b"" if sent.startswith(b"GET") else BEGIN) + sent)
        assert client.ask(GOT_WWW)[0] == 200
        assert goaway(ended(tls)) == code
    assert server.counters()["transport"].get("https_bad_http", 0) == before + (code is not None)
    eventually(lambda: server.counters()["transport"]["https_open"] == 0)


def test_a_peer_that_opens_no_window(server: Running, authority: Authority) -> None:
    """Answers that a peer does not let through wait in bounded room, and not for long."""
    with connected(server.port, authority.context(alpn=("h2",))) as tls:
        tls.sendall(frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        client = h2.connection.H2Connection()
        client.initiate_connection()
        client.data_to_send()
        for _ in range(50):
            stream = client.get_next_available_stream_id()
            client.send_headers(stream, GOT_WWW, end_stream=True)
        tls.sendall(client.data_to_send())
        begin = time.monotonic()
        kinds = [kind for kind, _, _, _ in split(ended(tls))]
        assert (kinds.count(frames.HEADERS), kinds.count(frames.DATA)) == (50, 0)
        assert time.monotonic() - begin < 5


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_slow_requests(server: Running, authority: Authority, alpn: str) -> None:
    """A request that comes byte by byte is not waited for."""
    data = BEGIN if alpn == "h2" else f"POST /dns-query HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: {TYPE}\r\n".encode()
    before = server.counters()["transport"].get("https_idle", 0)
    with connected(server.port, authority.context(alpn=(alpn,))) as tls, suppress(ConnectionError, ssl.SSLError):
        for byte in data + b"x" * 1000:
            tls.sendall(bytes((byte,)))
            time.sleep(0.05)
    assert server.counters()["transport"]["https_idle"] == before + 1


def test_pipelined_requests(server: Running, authority: Authority) -> None:
    """HTTP/1.1 requests that are sent ahead are answered in order, in one connection; the last one ends it."""
    names = [f"n{number}.example.test" for number in range(200)]
    asked = [f"GET {got(query(name))} HTTP/1.1\r\nHost: {NAME}\r\n".encode() for name in names]
    with connected(server.port, authority.context(alpn=())) as tls:
        tls.sendall(b"\r\n".join(asked) + b"Connection: close\r\n\r\n")
        pieces = ended(tls).split(b"HTTP/1.1 200 ")[1:]
    answers = [dns.message.from_wire(piece.partition(b"\r\n\r\n")[2]) for piece in pieces]
    assert [answer.question[0].name.to_text(True) for answer in answers] == names


def test_no_more_is_read_than_is_answered(server: Running, authority: Authority) -> None:
    """A peer that asks and does not read holds what the socket does, and no more."""
    request = f"GET {got()} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), 5) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with authority.context(alpn=()).wrap_socket(sock, server_hostname=NAME) as tls:
            tls.settimeout(0.5)
            sent = 0
            with suppress(TimeoutError, ssl.SSLError, ConnectionError):
                while sent < 64 << 20:
                    tls.sendall(request * 50)
                    sent += len(request) * 50
            assert sent < 8 << 20
