"""Who a peer is by its certificate or the token in a server name, and who is let in as nobody."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription, SessionTicket
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.io.quic.accepted import BadCertificate
from dnsvip.dns.io.quic.credentials import QuicCredentials
from dnsvip.errors import PlatformError
from dnsvip.site.node_listen import ListenerTls
from tests.dns.io.quic.peers import Bare, asking, client_settings
from tests.dns.io.quic.test_doq import question
from tests.dns.io.quic.test_early import ticket_of
from tests.dns.io.tls_world import NAME, Authority
from tests.dns.world import Running

TOKEN = "dv" + "a" * 26


@pytest.fixture
def arrivals(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[Arrival]:
    """How each message came that the server has answered."""
    some: list[Arrival] = []
    quic = server.server.listeners.quic
    shared = quic._shared

    def noting(message: bytes, source: object, arrival: Arrival) -> object:
        some.append(arrival)
        return shared.respond(message, source, arrival)  # type: ignore[arg-type]

    for listener in quic._listeners:
        monkeypatch.setattr(listener, "_shared", shared._replace(respond=noting))
        monkeypatch.setattr(listener._credentials, "_token_of", lambda text, *_: {TOKEN: "a-token"}.get(text))
    return some


def certified(authority: Authority, name: str) -> QuicConfiguration:
    settings = client_settings()
    settings.load_cert_chain(authority.folder / f"{name}.pem", authority.folder / f"{name}.key")
    return settings


async def test_a_certificate(server: Running, authority: Authority, arrivals: list[Arrival]) -> None:
    """A certificate that an authority vouches for identifies by all its names, in lower case."""
    others = x509.RFC822Name("ops@acme.test"), x509.UniformResourceIdentifier("urn:X")
    fingerprint = authority.issue("Acme.example.test", *others, common="Acme")
    async with asking(server.port, certified(authority, "Acme.example.test")) as client:
        await client.ask(question())
    names = (f"sha256:{fingerprint}", "acme.example.test", "ops@acme.test", "urn:x", "acme")
    assert arrivals == [Arrival("quic", Transport.QUIC, names)]


async def test_nobody(server: Running, arrivals: list[Arrival]) -> None:
    """Without a certificate a client is let in as nobody."""
    async with asking(server.port) as client:
        await client.ask(question())
    assert arrivals == [Arrival("quic", Transport.QUIC)]


@pytest.mark.parametrize("flaw", ["another authority", "expired", "for servers", "no authority"])
async def test_a_bad_certificate(server: Running, authority: Authority, tmp_path: Path, flaw: str) -> None:
    """A certificate that is not good ends the handshake, and is never taken for none."""
    other, days, usage = Authority(tmp_path, "another"), 30, None
    match flaw:
        case "expired":
            other, days = authority, -1
        case "for servers":
            other, usage = authority, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        case "no authority":
            authority.issue("middle")
            other = authority.signed_by("middle")
    other.issue("acme", days=days, usage=usage)
    settings = certified(other, "acme")
    if flaw == "no authority":
        settings.certificate_chain = x509.load_pem_x509_certificates((authority.folder / "middle.pem").read_bytes())
    client = Bare(server.port, settings)
    client.exchange()
    assert client.quic._close_event.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate


@pytest.mark.parametrize("known", [True, False])
async def test_a_certificate_without_its_key(
    server: Running, authority: Authority, tmp_path: Path, arrivals: list[Arrival], known: bool
) -> None:
    """Who does not prove to have the key of a certificate is not let in. Where no authority vouches for it its key is
    not used at all: verifying with one of RSA may take 30 ms."""
    other = authority if known else Authority(tmp_path, "another")
    for name in ("acme", "thief"):
        other.issue(name)
    settings = certified(other, "thief")
    settings.certificate = certified(other, "acme").certificate
    client = Bare(server.port, settings)
    client.exchange()
    alert = AlertDescription.decrypt_error if known else AlertDescription.bad_certificate
    assert client.quic._close_event.error_code == QuicErrorCode.CRYPTO_ERROR + alert
    assert not arrivals


class Der(NamedTuple):
    """What a client shows for its certificate."""

    data: bytes

    def public_bytes(self, _: Encoding) -> bytes:
        return self.data


async def test_a_certificate_that_cannot_be_read(server: Running, authority: Authority) -> None:
    """One of version 8, which there is not, ends the handshake as any other; it is no fault of ours, nor in the log."""
    authority.issue("odd")
    settings = certified(authority, "odd")
    data = settings.certificate.public_bytes(Encoding.DER)
    settings.certificate = Der(data.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1))
    client = Bare(server.port, settings)
    client.exchange()
    assert client.quic._close_event.error_code == QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate
    assert "quic_failed" not in server.counters()["transport"]


async def test_a_plain_certificate(server: Running, authority: Authority, arrivals: list[Arrival]) -> None:
    """A certificate of version 1, as `openssl x509 -req` makes them, identifies by its common name."""
    folder = authority.folder
    authority.issue("old")
    asked = ["openssl", "req", "-new", "-key", folder / "old.key", "-subj", "/CN=laptop-7"]
    request = subprocess.run(asked, capture_output=True, check=True).stdout
    signed = [
        "openssl",
        "x509",
        "-req",
        "-CA",
        authority.file,
        "-CAkey",
        authority.key_file(),
        "-out",
        folder / "old.pem",
    ]
    subprocess.run(signed, input=request, capture_output=True, check=True)
    async with asking(server.port, certified(authority, "old")) as client:
        await client.ask(question())
    assert [arrival.certificate[1:] for arrival in arrivals] == [("laptop-7",)]


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


async def test_no_resumption(server: Running, authority: Authority, arrivals: list[Arrival]) -> None:
    """Who names himself by a certificate or a token gets no ticket, and nobody's ticket is taken with a token."""
    authority.issue("acme")
    tickets: list[SessionTicket] = []
    async with asking(server.port, certified(authority, "acme"), session_ticket_handler=tickets.append) as client:
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


async def test_an_authority_that_ends(files: ListenerTls, authority: Authority) -> None:
    """No certificate of an authority is taken that has ended, also where the listener's own files cannot be used; and
    where it ends in a handshake, or a certificate does, what it has opened ends."""
    authority.issue("acme")
    trusted = authority.file.read_text()
    own = replace(files, client_ca=("dnsvip",))
    credentials = QuicCredentials("x", own, ["doq"], authorities=trusted)
    certificate = x509.load_pem_x509_certificate((authority.folder / "acme.pem").read_bytes())
    assert credentials.names(certificate, [])
    credentials._files = replace(own, key=authority.folder / "none.key")
    assert credentials.refresh("")
    with pytest.raises(BadCertificate, match="no authority"):
        credentials.names(certificate, [])


async def test_a_certificate_that_ends(server: Running, authority: Authority, arrivals: list[Arrival]) -> None:
    """A connection ends with the certificate that opened it, also before its handshake is complete."""
    authority.issue("brief", days=2 / 86_400)
    async with asking(server.port, certified(authority, "brief")) as client, asking(server.port) as other:
        await client.ask(question())
        await asyncio.sleep(2)
        begun = [
            connection for connection in server.server.listeners.quic.connections if connection.arrival.certificate
        ]
        assert len(begun) == 1
        await asyncio.to_thread(server.in_loop, server.server.listeners.refresh)
        await asyncio.wait_for(client.closed, 5)
        await other.ask(question())
    assert server.counters()["transport"]["quic_certificate_ended"] == 1


async def test_files(files: ListenerTls, tmp_path: Path) -> None:
    """Files that cannot be used are named, and those in use stay; a renewed certificate is used."""
    own = Authority(tmp_path, "own")
    own.issue("one")
    own.issue("two")
    used = replace(files, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    with pytest.raises(PlatformError, match=r"dns.listen 'x': tls: .*cert.pem and .* No such file"):
        QuicCredentials("x", used, ["doq"])
    used.certificate.write_bytes((tmp_path / "one.pem").read_bytes())
    used.key.write_bytes((tmp_path / "one.key").read_bytes())
    credentials = QuicCredentials("x", used, ["doq"])
    serial = credentials.configuration.certificate.serial_number
    assert not credentials.refresh()
    used.certificate.write_bytes((tmp_path / "two.pem").read_bytes())
    with pytest.raises(PlatformError, match=r"key.pem is not the key of .*cert.pem"):
        QuicCredentials("x", used, ["doq"])
    assert not credentials.refresh()
    assert credentials.configuration.certificate.serial_number == serial
    used.key.write_bytes((tmp_path / "two.key").read_bytes())
    assert credentials.refresh()
    assert credentials.configuration.certificate.serial_number != serial
    with pytest.raises(PlatformError, match="no certificates of authorities"):
        QuicCredentials("x", replace(used, client_ca=(str(used.key),)), ["doq"])
    with pytest.raises(BadCertificate, match="no authority"):
        QuicCredentials("x", replace(used, client_ca=("dnsvip",)), ["doq"]).names(
            credentials.configuration.certificate, []
        )
