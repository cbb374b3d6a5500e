"""DNS over HTTPS as libcurl asks it, with ngtcp2, nghttp3 and BoringSSL: nothing of it is ours or aioquic's."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import pytest
from curl_cffi import AsyncSession, CurlHttpVersion, CurlOpt, Response

from dnsvip.site.io.files import zone_files
from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from dnsvip.site.site_file import build_site
from tests.dns.io.quic.test_doq import question
from tests.dns.io.quic.test_http3 import counts
from tests.dns.io.tls_world import NAME, Authority
from tests.dns.world import ZONES, Running, site_tables, who_is
from tests.samples import snapshot_of

TOKEN = "dv" + "a2" * 13
TOKENED, MANY = 2001, 60
TYPE = "application/dns-message"


@pytest.fixture
def own_files(authority: Authority, tmp_path: Path) -> ListenerTls:
    """A certificate that a test may renew."""
    other = Authority(tmp_path)
    other.server()
    return replace(other.files(), names=(NAME,))


@pytest.fixture
def web(own_files: ListenerTls) -> Iterator[Running]:
    """A server with an `https://` listener, one of whose clients has a token."""
    site = site_tables()
    site["dns_token"] = {"van": {"digest": hashlib.sha256(TOKEN.encode()).hexdigest()}}
    site["client"]["van"] = {"id": TOKENED, "tier": "gold", "match": [{"token": "van"}]}
    settings = DnsSettings(listen=(Listener("https://127.0.0.1:0", "web"),), tls=own_files)
    with Running(snapshot_of(build_site(site, zone_files(ZONES))), settings=settings) as running:
        yield running


@asynccontextmanager
async def curl(web: Running, folder: Path, version: CurlHttpVersion = CurlHttpVersion.V3ONLY) -> AsyncIterator[Any]:
    """A client that has one connection, and asks by no other version of HTTP."""
    options: dict[CurlOpt, Any] = {
        CurlOpt.RESOLVE: [f"{NAME}:{web.port}:127.0.0.1", f"{TOKEN}.{NAME}:{web.port}:127.0.0.1"],
        CurlOpt.PIPEWAIT: 1,
    }
    verify = str(folder / "ca.pem")
    async with AsyncSession(http_version=version, verify=verify, curl_options=options, timeout=20) as session:
        yield session


def url(web: Running, name: str = "www.example.test", token: str = "", host: str = NAME) -> str:
    text = urlsafe_b64encode(question(name)).rstrip(b"=").decode()
    return f"https://{host}:{web.port}/dns-query{'/' if token else ''}{token}?dns={text}"


def client_in(web: Running, answer: Response) -> int:
    """The client in the address of an answer, 0 for nobody's."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, TYPE)
    vip = int(ip_address(dns.message.from_wire(answer.content).answer[0][0].to_text()))
    plain = int(web.snapshot.site.clusters["web"].plain)
    return 0 if vip == plain else who_is(web.snapshot, vip)["client"]


async def test_get_and_post(web: Running, tmp_path: Path) -> None:
    """Both bring the same, by HTTP/3 alone; what is wrong is told by its status."""
    async with curl(web, tmp_path) as session:
        got = await session.get(url(web, "ns1.example.test"))
        where, kind = f"https://{NAME}:{web.port}/dns-query", {"Content-Type": TYPE}
        posted = await session.post(where, data=question("ns1.example.test"), headers=kind)
        assert (got.status_code, got.http_version) == (200, CurlHttpVersion.V3)
        assert (got.content, got.headers["cache-control"]) == (posted.content, posted.headers["cache-control"])
        assert (await session.head(url(web))).content == b""
        assert (await session.get(where)).status_code == 400
        assert (await session.get(f"{where}/other/other")).status_code == 404
        assert (await session.post(where, data=question())).status_code == 415
        assert (await session.post(where, data=b"x" * 70_000, headers=kind)).status_code == 413
        assert client_in(web, await session.get(url(web))) == 0
    assert counts(web)["handshakes"] == 1


async def test_tokens(web: Running, tmp_path: Path) -> None:
    """A client is known by its token in a field, in the path and in the name; a wrong one is refused."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with curl(web, tmp_path) as session:
        assert client_in(web, await session.get(url(web), headers=bearer)) == TOKENED
        assert client_in(web, await session.get(url(web, token=TOKEN))) == TOKENED
        assert client_in(web, await session.get(url(web))) == 0
        assert client_in(web, await session.get(url(web, host=f"{TOKEN}.{NAME}"))) == TOKENED
        wrong = await session.get(url(web, token="dv" + "a" * 26))
        assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer realm="dns"')


async def test_many_at_once(web: Running, tmp_path: Path) -> None:
    """Streams of one connection each get their own answer."""
    names = [f"n{number}.each.example.test" for number in range(MANY)]
    async with curl(web, tmp_path) as session:
        await session.get(url(web))
        for _ in range(3):
            answers = await asyncio.gather(*(session.get(url(web, name)) for name in names))
            asked = [str(dns.message.from_wire(answer.content).question[0].name)[:-1] for answer in answers]
            assert asked == names
    assert (counts(web)["handshakes"], counts(web)["messages"]) == (1, 3 * MANY + 1)


async def test_a_renewed_certificate(web: Running, own_files: ListenerTls, tmp_path: Path) -> None:
    """A connection goes on with the certificate that it has seen; a new one gets the new certificate."""
    async with curl(web, tmp_path) as before, curl(web, tmp_path) as after:
        assert (await before.get(url(web))).status_code == 200
        renewed = Authority(tmp_path, "other")  # whom only those trust who come later
        renewed.server()
        (tmp_path / "ca.pem").write_bytes(renewed.file.read_bytes())
        web.loop.call_soon_threadsafe(web.server.listeners.refresh)
        assert (await before.get(url(web))).status_code == 200
        assert (await after.get(url(web))).status_code == 200
    assert counts(web)["handshakes"] == 2


async def test_found_by_alt_svc(web: Running, tmp_path: Path) -> None:
    """Who first asks by HTTP/2 is told of HTTP/3 at the same port (RFC 7838), where it answers."""
    async with curl(web, tmp_path, CurlHttpVersion.V2TLS) as session:
        first = await session.get(url(web))
        assert (first.http_version, first.headers["alt-svc"]) == (
            CurlHttpVersion.V2_0,
            f'h3=":{web.port}"; ma=86400',
        )
    async with curl(web, tmp_path, CurlHttpVersion.V3) as session:
        assert (await session.get(url(web))).http_version == CurlHttpVersion.V3
