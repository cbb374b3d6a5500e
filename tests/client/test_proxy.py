"""The proxy with real programs: curl by CONNECT, SOCKS5 and plain HTTP, against real TLS."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from dnsvip.client.claims import Claims
from dnsvip.client.io.proxy import Proxy
from dnsvip.client.io.system import connected
from dnsvip.errors import ClientError
from tests.client.webserver import Web

NAME = "www.example.test"


class Target:
    """Replaces the agent: resolves one name, refuses one, connects to literal addresses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.said: list[Claims] = []

    async def __call__(self, name: str, port: int, claims: Claims) -> socket.socket:
        self.said.append(claims)
        self.asked.append((name, port))
        if name == "nowhere.example.test":
            raise ClientError("nowhere.example.test: has no AAAA record")
        address = "::1" if name == NAME else str(ip_address(name))
        family = socket.AF_INET6 if IPv6Address(address) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        return await connected(sock, address, port)


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
async def proxy(target: Target) -> AsyncIterator[Proxy]:
    async with Proxy(target) as running:
        yield running


async def curl(*words: str | Path, env: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "--max-time", "20", *map(str, words)),
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def seen(*words: str | Path, env: dict[str, str]) -> dict[str, Any]:
    status, output = await curl(*words, env=env)
    assert status == 0, output
    document: dict[str, Any] = json.loads(output)
    return document


async def test_connect_keeps_tls_end_to_end(proxy: Proxy, web: Web, certificate: Path, target: Target) -> None:
    """https uses CONNECT: curl verifies the certificate name, SNI and Host match the URL."""
    url = f"https://{NAME}:{web.https}/path?x=1"
    found = await seen("--cacert", certificate / "cert.pem", url, env=proxy.environment)
    assert found["sni"] == NAME
    assert found["fields"]["host"] == f"{NAME}:{web.https}"
    assert found["start"] == "GET /path?x=1 HTTP/1.1"
    assert target.asked == [(NAME, web.https)]


async def test_wrong_certificate_is_still_refused(proxy: Proxy, web: Web) -> None:
    """A certificate that curl does not trust fails as it does without the proxy."""
    status, _ = await curl(f"https://{NAME}:{web.https}/", env=proxy.environment)
    assert status == 60


async def test_plain_http(proxy: Proxy, web: Web) -> None:
    """http is forwarded in origin form with Host intact and without proxy headers, password included."""
    url = f"http://{NAME}:{web.http}?q=1"
    found = await seen(
        "-d", "hello", "-H", "X-Kept: yes", "-H", "X-Hop: no", "-H", "Connection: x-hop", url, env=proxy.environment
    )
    assert found["start"] == "POST /?q=1 HTTP/1.1"
    assert found["body"] == "hello"
    fields = found["fields"]
    assert fields["host"] == f"{NAME}:{web.http}"
    assert fields["x-kept"] == "yes"
    assert fields["connection"] == "close"
    assert not {"proxy-authorization", "proxy-connection", "x-hop"} & fields.keys()


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
async def test_socks(proxy: Proxy, web: Web, certificate: Path, target: Target, scheme: str) -> None:
    """SOCKS5 accepts names and addresses."""
    url = proxy.environment["all_proxy"].replace("socks5h", scheme)
    host = NAME if scheme == "socks5h" else "[::1]"
    words = ("--proxy", url, "--cacert", certificate / "cert.pem", "-k", f"https://{host}:{web.https}/")
    found = await seen(*words, env={})
    assert found["fields"]["host"] == f"{host}:{web.https}"
    assert target.asked == [(host.strip("[]"), web.https)]


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "all_proxy"])
async def test_password_is_needed(proxy: Proxy, web: Web, target: Target, variable: str) -> None:
    """Without this run's password none of the three protocols connects."""
    right = proxy.environment[variable]
    scheme, _, rest = right.partition("://")
    for credentials in ("", "dnsvip:wrong@", "other:" + rest.split(":")[1].split("@")[0] + "@"):
        url = f"{scheme}://{credentials}127.0.0.1:{proxy.port}"
        web_scheme = "http" if variable == "http_proxy" else "https"
        port = web.http if web_scheme == "http" else web.https
        _, output = await curl("-k", "-w", "%{http_code}", "--proxy", url, f"{web_scheme}://{NAME}:{port}/", env={})
        assert "200" not in output
        if variable != "all_proxy":
            assert "407" in output
    assert target.asked == []


async def test_failures_are_reported(proxy: Proxy) -> None:
    """A name without an address and a port without a server give 502 with the reason, and a SOCKS failure."""
    status, output = await curl("http://nowhere.example.test/", env=proxy.environment)
    assert (status, "has no AAAA record" in output) == (0, True)
    status, output = await curl("-w", "%{http_code}", "http://[::1]:1/", env=proxy.environment)
    assert "502" in output
    status, _ = await curl("--proxy", proxy.environment["all_proxy"], "http://nowhere.example.test/", env={})
    assert status == 97  # CURLE_PROXY


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET / HTTP/1.1\r\n", b"HTTP/1.1 400"),
        (b"GET https://www.example.test/ HTTP/1.1\r\n", b"HTTP/1.1 400"),
        (b"GET ftp://www.example.test/ HTTP/1.1\r\n", b"HTTP/1.1 400"),
        (b"CONNECT www.example.test HTTP/1.1\r\n", b"HTTP/1.1 400"),
        (b"CONNECT www.example.test:x HTTP/1.1\r\n", b"HTTP/1.1 400"),
        (b"GET http://[::1/ HTTP/1.1\r\n", b"HTTP/1.1 400"),
        (b"GET http://www.example.test/ HTTP/2.0\r\n", b"HTTP/1.1 400"),
        (b"nonsense\r\n", b"HTTP/1.1 400"),
    ],
)
async def test_malformed_requests(proxy: Proxy, target: Target, request_: bytes, answer: bytes) -> None:
    """A malformed proxy request gets 400 and no connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(request_ + b"Proxy-Authorization: " + proxy._basic + b"\r\n\r\n")
    assert (await reader.read()).startswith(answer)
    writer.close()
    assert target.asked == []


async def test_socks_refusals(proxy: Proxy) -> None:
    """Unsupported methods and commands other than CONNECT get their SOCKS replies."""
    password = proxy.environment["all_proxy"].split(":")[2].split("@")[0].encode()
    login = b"\x05\x01\x02" + b"\x01\x06dnsvip" + bytes([len(password)]) + password
    cases = (
        (b"\x05\x01\x00", b"\x05\xff"),
        (login + b"\x05\x02\x00\x03\x01x\x00\x50", b"\x05\x02\x01\x00\x05\x07\x00\x01" + bytes(6)),
        (login + b"\x05\x01\x00\x09", b"\x05\x02\x01\x00\x05\x08\x00\x01" + bytes(6)),
    )
    for sent, expected in cases:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(sent)
        assert await reader.read() == expected
        writer.close()


async def test_large_bodies_and_many_connections(proxy: Proxy, web: Web) -> None:
    """Two megabytes in each direction and thirty concurrent connections arrive intact."""
    size = 2_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    head = f"POST http://{NAME}:{web.http}/ HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {size}\r\n".encode()
    writer.write(head + b"Proxy-Authorization: " + proxy._basic + b"\r\n\r\n" + b"a" * size)
    assert (await reader.read()).count(b"a") >= size
    writer.close()
    url = f"http://{NAME}:{web.http}/"
    found = await asyncio.gather(*(seen(url, env=proxy.environment) for _ in range(30)))
    assert len({tuple(each["from"]) for each in found}) == 30


async def test_environment_replaces_the_surroundings() -> None:
    """Proxy variables are set in both cases, and an inherited no_proxy is dropped."""
    async with Proxy(Target()) as proxy:
        environment = proxy.environment
    assert environment["no_proxy"] == environment["NO_PROXY"] == ""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        assert environment[name] == environment[name.upper()]
    async with Proxy(Target()) as other:
        assert other.environment["http_proxy"].split("@")[0] != environment["http_proxy"].split("@")[0]


@pytest.fixture
def through(target: Target, proxy: Proxy) -> tuple[Target, Proxy]:
    return target, proxy


@pytest.mark.parametrize(
    ("way", "fields", "said"),
    [
        (("http_proxy", "dnsvip"), ["Dnsvip-Claim: content=video, session=12"], {"content": "video", "session": 12}),
        (("http_proxy", "dnsvip+content=video+session=12"), [], {"content": "video", "session": 12}),
        (("http_proxy", "dnsvip+content=page"), ["dnsvip-claim: content=video"], {"content": "video"}),
        (("all_proxy", "dnsvip+content=video"), [], {"content": "video"}),
        (("http_proxy", "dnsvip"), [], {}),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
async def test_claims_of_a_connection(
    web: Web, certificate: Path, through: tuple[Target, Proxy], way: tuple[str, str], fields: list[str], said: Claims,
    tls: bool,
) -> None:  # fmt: skip
    """A header field, or the user's name, says claims of one connection, of which the server sees nothing."""
    (target, proxy), (variable, user) = through, way
    url = f"https://{NAME}:{web.https}/" if tls else f"http://{NAME}:{web.http}/"
    at = proxy.environment[variable].replace("dnsvip:", f"{user}:")
    header = [word for line in fields for word in ("--proxy-header" if tls else "-H", line)]
    found = await seen("--cacert", certificate / "cert.pem", "--proxy", at, *header, url, env={})
    assert target.said == [said]
    assert "dnsvip-claim" not in found["fields"]


async def test_claims_that_are_none(target: Target, proxy: Proxy) -> None:
    """What is no NAME=VALUE is refused before anybody is connected to."""
    through = proxy.environment["http_proxy"]
    status, output = await curl("-H", "Dnsvip-Claim: video", f"http://{NAME}/", env={"http_proxy": through})
    assert (status, output) == (0, "dnsvip client: claims: must be NAME=VALUE, such as content=video\n")
    socks = proxy.environment["all_proxy"].replace("dnsvip:", "dnsvip+video:")
    status, _ = await curl("--proxy", socks, f"http://{NAME}/", env={})
    assert (status, target.said) == (97, [])
