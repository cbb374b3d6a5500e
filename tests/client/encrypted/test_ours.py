"""The agent at our own server: identified by key, token and certificate over every encrypted transport."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import pytest

from dnsvip.client import Agent, Why
from dnsvip.client.enrol import Encryption, make_enrolment
from dnsvip.client.enrolment import Enrolment, ServerTrust
from dnsvip.client.io import files as client_files
from dnsvip.client.io import stub as stub_module
from dnsvip.client.io.encrypted.channels import Channels
from dnsvip.client.io.encrypted.credentials import Credentials
from dnsvip.client.io.stub import Stub
from dnsvip.errors import ClientError
from dnsvip.site.io.files import zone_files
from dnsvip.site.node_listen import Listener, ListenerTls
from dnsvip.site.site_file import build_site
from tests.client.encrypted.authority import NAME, Authority, KeyPair
from tests.dns.world import ZONES, Running, site_tables, who_is
from tests.samples import snapshot_of

SERVICE = "www.example.test"
SOURCE = IPv6Address("2001:db8:77::5")
TOKEN = "dv" + "a2" * 13
LISTENERS = ("tls", "https", "quic")
SCHEMES = (*LISTENERS, "h3")
PATHS = {"https": "/dns-query", "h3": "/dns-query"}


def site() -> Any:
    tables = site_tables()
    tables["dns_token"] = {"van": {"digest": hashlib.sha256(TOKEN.encode()).hexdigest()}}
    tables["client"]["van"] = {"id": 2001, "tier": "gold", "match": [{"token": "van"}]}
    tables["client"]["laptop"] = {"id": 2002, "tier": "gold", "match": [{"tls": "laptop.example.test"}]}
    tables["dns_group"] = {"high": {"servers": [f"tls://192.0.2.53:853#{NAME}"], "tiers": ["gold"]}}
    return snapshot_of(build_site(tables, zone_files(ZONES)))


@pytest.fixture(scope="module")
def server(authority: Authority, files: KeyPair) -> Iterator[Running]:
    tls = ListenerTls(*files, (str(authority.file),), (NAME,))
    listen = tuple(Listener(f"{scheme}://127.0.0.1:0", scheme, tls=tls) for scheme in LISTENERS)
    with Running(site(), listen) as running:
        yield running


def enrolled(server: Running, authority: Authority, scheme: str, client: str, token: str | None = None) -> Enrolment:
    port = server.endpoints[LISTENERS.index("https" if scheme == "h3" else scheme)].port
    place = f"{scheme}://127.0.0.1:{port}{PATHS.get(scheme, '')}#{NAME}"
    return make_enrolment(server.snapshot, client, (place,), Encryption(ServerTrust(authority.ca), token))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("client", "number", "token"), [("acme", 1001, None), ("van", 2001, TOKEN)])
async def test_it_is_known(
    server: Running, authority: Authority, scheme: str, client: str, number: int, token: str | None
) -> None:
    """By its key and by its token the client gets its own address, its ticket, and the servers of its group."""
    agent = Agent(enrolled(server, authority, scheme, client, token))
    resolved = await agent.resolve(SERVICE, source=SOURCE)
    assert (who_is(server.snapshot, int(resolved.issued))["client"], resolved.why) == (number, Why.PROVEN)
    assert await agent.fetch_tickets() == len([name for name in agent.services if not name.startswith("*.")])
    assert await agent.renew()
    assert agent.enrolment
    assert agent.enrolment.servers == (f"tls://192.0.2.53:853#{NAME}",)
    agent.close()


@pytest.mark.parametrize("scheme", ["https", "h3"])
async def test_http3(server: Running, authority: Authority, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub asks for others and for the client by HTTP/3: at once where the server is named so, else from the second
    connection on, as the first has said that it may."""
    trusted = Channels(Credentials(ServerTrust(authority.ca)))
    monkeypatch.setattr(stub_module, "Channels", lambda: trusted)
    made = replace(enrolled(server, authority, scheme, "acme"), zones=())
    agent = Agent(made)
    before = server.counters()["transport"]
    async with Stub(agent, "127.0.0.1:0", made.servers) as stub:
        port = int(stub.endpoint.rpartition(":")[2])
        for name, rdtype, channels in (
            (SERVICE, "AAAA", agent._naming._own_channels),
            ("example.test", "SOA", trusted),
        ):
            for _ in range(2):
                answer = await dns.asyncquery.udp(dns.message.make_query(name, rdtype), "127.0.0.1", 10, port)
                assert answer.answer
                channels._lines[made.servers[0]].close()
                agent._naming._servers._cache.clear()
    agent.close()
    after = server.counters()["transport"]
    seen = [after.get(name, 0) - before.get(name, 0) for name in ("https_messages", "h3_messages")]
    assert seen == ([2, 2] if scheme == "https" else [0, 4])


async def test_without_http3(authority: Authority, files: KeyPair) -> None:
    """A server that is named for HTTP/3 and has none is asked by HTTP/2."""
    listener = Listener("https://127.0.0.1:0", "web", tls=ListenerTls(*files), http3=False)
    with Running(site(), (listener,)) as running:
        made = make_enrolment(
            running.snapshot,
            "acme",
            (f"h3://127.0.0.1:{running.port}/dns-query#{NAME}",),
            Encryption(ServerTrust(authority.ca)),
        )
        agent = Agent(made)
        resolved = await agent.resolve(SERVICE, source=SOURCE)
        assert (who_is(running.snapshot, int(resolved.issued))["client"], resolved.why) == (1001, Why.PROVEN)
        agent.close()


async def test_a_token_in_the_path(server: Running, authority: Authority) -> None:
    """A server may be named with a token in its path."""
    made = enrolled(server, authority, "https", "van")
    agent = Agent(replace(made, servers=(made.servers[0].replace("#", f"/{TOKEN}#"),)))
    resolved = await agent.resolve(SERVICE, source=SOURCE)
    assert who_is(server.snapshot, int(resolved.issued))["client"] == 2001
    agent.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_wrong_token(server: Running, authority: Authority, scheme: str) -> None:
    """A token that is none of the site's is refused, and nobody takes its bearer for anonymous."""
    made = replace(enrolled(server, authority, scheme, "van", TOKEN), token="dv" + "zz" * 13)
    agent = Agent(made, timeout=2)
    with pytest.raises(ClientError, match=r"access denied|refuses this client|closed"):
        await agent.resolve(SERVICE, source=SOURCE)
    agent.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_certificate_that_is_refused(
    server: Running, authority: Authority, scheme: str, tmp_path: Path
) -> None:
    """Where the servers refuse the client's certificate, its key says who it is."""
    path = tmp_path / "enrolment.json"
    client_files.save(enrolled(server, authority, scheme, "acme"), path)
    (tmp_path / "other").mkdir()
    chain, key = Authority(tmp_path / "other").pair("acme")
    (tmp_path / "enrolment.crt").write_bytes(chain.read_bytes())
    (tmp_path / "enrolment.key").write_bytes(key.read_bytes())
    (tmp_path / "enrolment.key").chmod(0o600)
    agent = Agent.load(path)
    for _ in range(2):
        resolved = await agent.resolve(SERVICE, source=SOURCE)
        assert who_is(server.snapshot, int(resolved.issued))["client"] == 1001
        agent._naming._servers._cache.clear()
    agent.close()


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_certificate(server: Running, authority: Authority, scheme: str, tmp_path: Path) -> None:
    """By the certificate beside its enrolment the client is known; a key that others can read is not used."""
    path = tmp_path / "enrolment.json"
    client_files.save(enrolled(server, authority, scheme, "laptop"), path)
    chain, key = authority.pair("laptop.example.test", label=f"laptop-{scheme}")
    (tmp_path / "enrolment.crt").write_bytes(chain.read_bytes())
    (tmp_path / "enrolment.key").write_bytes(key.read_bytes())
    (tmp_path / "enrolment.key").chmod(0o644)
    with pytest.raises(ClientError, match="chmod 600"):
        Agent.load(path)
    (tmp_path / "enrolment.key").chmod(0o600)
    agent = Agent.load(path)
    resolved = await agent.resolve(SERVICE, source=SOURCE)
    assert who_is(server.snapshot, int(resolved.issued))["client"] == 2002
    assert await agent.renew()
    agent.close()
