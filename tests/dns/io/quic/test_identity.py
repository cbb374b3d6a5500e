"""Who a peer is by its certificate or the token in a server name, and who is let in as nobody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.quic.credentials import QuicCredentials
from dnsvip.errors import PlatformError
from dnsvip.site.node_listen import ListenerTls
from tests.dns.io.quic.conftest import Issuer
from tests.dns.io.quic.peers import NAME, Bare, asking, client_settings
from tests.dns.io.quic.test_doq import question
from tests.dns.io.quic.test_early import ticket_of
from tests.dns.world import Running

TOKEN = "dv" + "a" * 26


@pytest.fixture
def arrivals(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[Arrival]:
    """How each message came that the server has answered."""
    some: list[Arrival] = []
    quic = server.server._quic
    shared = quic._shared

    def noting(message: bytes, source: object, arrival: Arrival) -> object:
        some.append(arrival)
        return shared.respond(message, source, arrival)  # type: ignore[arg-type]

    for listener in quic._listeners:
        monkeypatch.setattr(listener, "_shared", shared._replace(respond=noting))
        monkeypatch.setattr(listener._credentials, "_token_of", lambda text, _: {TOKEN: "a-token"}.get(text))
    return some


def certified(files: tuple[Path, Path]) -> object:
    settings = client_settings()
    settings.load_cert_chain(*files)
    return settings


async def test_a_certificate(server: Running, issuer: Issuer, arrivals: list[Arrival]) -> None:
    """A certificate that an authority vouches for identifies by all its names, in lower case."""
    names = x509.SubjectAlternativeName(
        [x509.DNSName("Acme.example.test"), x509.RFC822Name("ops@acme.test"), x509.UniformResourceIdentifier("urn:X")]
    )
    async with asking(server.port, certified(issuer.issue("Acme", names))) as client:
        await client.ask(question())
    (arrival,) = arrivals
    assert (arrival.listener, arrival.transport, arrival.token) == ("quic", Transport.QUIC, None)
    fingerprint, *others = arrival.certificate
    assert others == ["acme.example.test", "ops@acme.test", "urn:x", "acme"]
    assert fingerprint.startswith("sha256:")
    assert len(fingerprint) == 71


async def test_nobody(server: Running, arrivals: list[Arrival]) -> None:
    """Without a certificate a client is let in as nobody."""
    async with asking(server.port) as client:
        await client.ask(question())
    assert arrivals == [Arrival("quic", Transport.QUIC)]


@pytest.mark.parametrize("flaw", ["another authority", "expired", "for servers", "its own"])
async def test_a_bad_certificate(server: Running, issuer: Issuer, tmp_path: Path, flaw: str) -> None:
    """A certificate that is not good ends the handshake, and is never taken for none."""
    other = Issuer(tmp_path, "another")
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    files = {
        "another authority": lambda: other.issue("acme"),
        "expired": lambda: issuer.issue("acme", days=-1),
        "for servers": lambda: issuer.issue("acme", usage),
        "its own": lambda: Issuer(tmp_path, "acme").issue("acme"),
    }[flaw]()
    client = Bare(server.port, certified(files))  # type: ignore[arg-type]
    client.exchange()
    assert client.quic._close_event.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate


async def test_a_token(server: Running, arrivals: list[Arrival]) -> None:
    """The first label of the server name is a token, in whichever case; a wrong one ends the handshake."""
    settings = client_settings()
    settings.server_name = f"{TOKEN.upper()}.{NAME}"
    async with asking(server.port, settings) as client:
        await client.ask(question())
    assert arrivals == [Arrival("quic", Transport.QUIC, (), "a-token")]
    settings.server_name = f"dv{'b' * 26}.{NAME}"
    wrong = Bare(server.port, settings)
    wrong.exchange()
    assert wrong.quic._close_event.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.access_denied
    assert len(arrivals) == 1


async def test_no_resumption(server: Running, issuer: Issuer, arrivals: list[Arrival]) -> None:
    """Who names himself by a certificate or a token gets no ticket, and nobody's ticket is taken with a token."""
    files = issuer.issue("acme")
    tickets: list[object] = []
    async with asking(server.port, certified(files), session_ticket_handler=tickets.append) as client:  # type: ignore[arg-type]
        await client.ask(question())
    settings = client_settings()
    settings.server_name = f"{TOKEN}.{NAME}"
    async with asking(server.port, settings, session_ticket_handler=tickets.append) as client:
        await client.ask(question())
    await asyncio.sleep(0.05)
    assert tickets == []
    ticket = await ticket_of(server)
    settings.session_ticket = replace(ticket, server_name=settings.server_name)
    async with asking(server.port, settings) as client:
        await client.ask(question())
        assert not client._quic.tls.session_resumed
    assert [arrival.token for arrival in arrivals] == [None, "a-token", None, "a-token"]


async def test_files(files: ListenerTls, issuer: Issuer, tmp_path: Path) -> None:
    """Files that cannot be used are named, and those in use stay; a renewed certificate is used."""
    own = Issuer(tmp_path, "own")
    used = replace(files, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    with pytest.raises(PlatformError, match=r"dns.listen 'x': tls: .*cert.pem and .* No such file"):
        QuicCredentials("x", used, ["doq"])
    first, second = own.issue("one"), own.issue("two")
    used.certificate.write_bytes(first[0].read_bytes())
    used.key.write_bytes(first[1].read_bytes())
    credentials = QuicCredentials("x", used, ["doq"])
    serial = credentials.configuration.certificate.serial_number
    used.certificate.write_bytes(second[0].read_bytes())
    with pytest.raises(PlatformError, match=r"key.pem is not the key of .*cert.pem"):
        credentials.refresh()
    assert credentials.configuration.certificate.serial_number == serial
    used.key.write_bytes(second[1].read_bytes())
    credentials.refresh()
    assert credentials.configuration.certificate.serial_number != serial
    with pytest.raises(PlatformError, match="no certificates of authorities"):
        QuicCredentials("x", replace(used, client_ca=(str(used.key),)), ["doq"])
    with pytest.raises(Exception, match="no authority"):
        QuicCredentials("x", replace(used, client_ca=("dnsvip",)), ["doq"]).names(own.certificate, [])
