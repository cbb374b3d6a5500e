"""Certificates, and a server with a `quic://` listener that all tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dnsvip.site.node_dns import DnsSettings
from dnsvip.site.node_listen import Listener, ListenerTls
from tests.dns.io.quic.peers import NAME
from tests.dns.world import Running, world_snapshot


class Issuer:
    """An authority in a folder: `ca.pem`, and certificates that it signs."""

    def __init__(self, folder: Path, name: str = "an authority") -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, [x509.BasicConstraints(ca=True, path_length=None)])
        self.file = folder / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *extensions: Any, days: int = 1) -> tuple[Path, Path]:
        """Files with a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, extensions, days)
        files = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _sign(self, subject: x509.Name, key: Any, extensions: Any, days: int = 1) -> x509.Certificate:
        now = datetime.now(UTC)
        start, end = now - timedelta(2), now + timedelta(days)
        serial = x509.random_serial_number()
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), serial, start, end)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256())


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def files(issuer: Issuer) -> ListenerTls:
    """A server's certificate, which asks for those of clients."""
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.DNSName(f"*.{NAME}")])
    return ListenerTls(*issuer.issue(NAME, names), client_ca=(str(issuer.file),), names=(NAME,))


@pytest.fixture(scope="session")
def settings(files: ListenerTls) -> DnsSettings:
    return DnsSettings(listen=(Listener("quic://127.0.0.1:0", "quic"), Listener("127.0.0.1:0", "plain")), tls=files)


@pytest.fixture(scope="session")
def server(settings: DnsSettings) -> Iterator[Running]:
    with Running(world_snapshot(), settings=settings) as running:
        yield running
