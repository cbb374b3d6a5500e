"""Certificates made for a test, and a server on loopback with encrypted listeners."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dnsvip.site.node_listen import Listener, ListenerTls

NAME = "dns.example.test"


class Authority:
    """A CA whose files are in a folder: `ca.pem`, and NAME.pem and NAME.key of what it has issued."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(self._name, self._name, self._key.public_key()).add_extension(constraints, critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *others: x509.GeneralName,
        common: str = "",
        days: float = 30,
        usage: x509.ExtendedKeyUsage | None = None,
    ) -> str:
        """Issue a certificate for a name and others, as NAME.pem and NAME.key; its SHA-256 fingerprint."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common or name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name), *others])
        builder = _builder(subject, self._name, key.public_key(), days).add_extension(names, critical=False)
        if usage is not None:
            builder = builder.add_extension(usage, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        form, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(form))
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(form, private, serialization.NoEncryption()))
        return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def key_file(self) -> Path:
        """A file with the authority's own key."""
        form, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file = self.file.with_suffix(".key")
        file.write_bytes(self._key.private_bytes(form, private, serialization.NoEncryption()))
        return file

    def signed_by(self, name: str) -> Authority:
        """Who has an issued certificate, and signs others with its key, which it is not meant for."""
        other = copy(self)
        key = serialization.load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        other._key, other._name = key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return other

    def files(self, name: str = NAME, *, clients: bool = False, names: tuple[str, ...] = ()) -> ListenerTls:
        """The settings of a listener with the certificate of this name."""
        own = (str(self.file),) if clients else ()
        return ListenerTls(self.folder / f"{name}.pem", self.folder / f"{name}.key", own, names)

    def server(self) -> str:
        """Issue the certificate of the server, for NAME, all names below it, and this machine."""
        return self.issue(NAME, x509.DNSName(f"*.{NAME}"), x509.IPAddress(ip_address("127.0.0.1")))

    def context(self, client: str | None = None, alpn: Sequence[str] = ("dot",)) -> ssl.SSLContext:
        """What a client speaks TLS with that trusts this authority; `client` is the name of its certificate."""
        context = ssl.create_default_context(cafile=str(self.file))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if client:
            context.load_cert_chain(self.folder / f"{client}.pem", self.folder / f"{client}.key")
        return context


@contextmanager
def connected(
    port: int,
    context: ssl.SSLContext,
    name: str = NAME,
    source: str = "127.0.0.1",
    session: ssl.SSLSession | None = None,
) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to a port of this machine."""
    with (
        socket.create_connection(("127.0.0.1", port), 5, (source, 0)) as sock,
        context.wrap_socket(sock, server_hostname=name, session=session) as tls,
    ):
        yield tls


def listener(tls: ListenerTls, name: str = "secure", scheme: str = "tls") -> Listener:
    """An encrypted listener on a free port."""
    return Listener(f"{scheme}://127.0.0.1:0", name, tls=tls)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float = 30
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begin = now - timedelta(days=max(1, 1 - days))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + timedelta(days=days))
    )
