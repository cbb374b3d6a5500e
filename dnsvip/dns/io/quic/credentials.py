"""Certificate, key and client authorities of a QUIC listener, from files, as aioquic takes them.

What a client certificate must be is what OpenSSL asks of it over TCP: signed by an authority, within its time, and not
meant for something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeAlias

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL.crypto import X509, Error, X509Store, X509StoreContext, X509StoreContextError

from dnsvip.dns.io.listener_files import ListenerFiles
from dnsvip.dns.io.quic.accepted import AccessDenied, BadCertificate
from dnsvip.dns.io.tls import UNREADABLE, names_in, token_label
from dnsvip.errors import PlatformError
from dnsvip.site.node_listen import OURS, ListenerTls

WINDOW = 1 << 15
"""Bytes that a peer may send on a stream, and four times as many on all, before it hears from us."""

TokenOf: TypeAlias = Callable[[str, IPv4Address | IPv6Address, bool], str | None]
"""As `tls.TokenOf`, and whether the source is proven, or may be forged."""


class QuicCredentials(ListenerFiles):
    """As `Terminator`, for QUIC. `token_of` knows tokens in server names."""

    def __init__(
        self,
        listener: str,
        files: ListenerTls,
        protocols: Sequence[str],
        token_of: TokenOf | None = None,
        authorities: str = "",
    ) -> None:
        self._protocols, self._token_of = list(protocols), token_of
        super().__init__(listener, files, authorities)

    @property
    def asks(self) -> bool:
        """Whether clients are asked for a certificate."""
        return bool(self._files.client_ca)

    def token(
        self, server_name: str | None, source: IPv4Address | IPv6Address, *, proven: bool
    ) -> tuple[str, str] | None:
        """Name and text of the token in a server name, None in an ordinary one; raises AccessDenied for a wrong one."""
        label = token_label(self._files.names, server_name)
        if self._token_of is None or label is None:
            return None
        token = self._token_of(label, source, proven)
        if token is None:
            raise AccessDenied("this token is unknown")
        return token, label

    def names(self, certificate: x509.Certificate, chain: Sequence[x509.Certificate]) -> tuple[str, ...]:
        """The names that a client certificate bears, as `Arrival.certificate` has them; raises BadCertificate where no
        authority vouches for it."""
        try:
            if self._store is None or not self._trusts:
                raise BadCertificate("there is no authority for client certificates")
            shown, others = X509.from_cryptography(certificate), list(map(X509.from_cryptography, chain))
            X509StoreContext(self._store, shown, others).verify_certificate()
            _check_usage(certificate)
            return names_in(certificate)
        except (X509StoreContextError, Error, *UNREADABLE) as error:
            raise BadCertificate("no authority vouches for the certificate") from error

    def _load(self, authorities: str) -> None:
        where, files = f"dns.listen {self._listener!r}: tls", self._files
        try:
            chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())
            key = load_pem_private_key(files.key.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            text = f"{files.certificate} and {files.key} are not a PEM certificate and its key: {_why(error)}"
            raise PlatformError(f"{where}: {text}") from None
        if key.public_key() != chain[0].public_key():
            raise PlatformError(f"{where}: {files.key} is not the key of {files.certificate}")
        trusted: list[x509.Certificate] = []
        for file in files.client_ca:
            try:
                pem = authorities.encode() if file == OURS else Path(file).read_bytes()
                trusted += x509.load_pem_x509_certificates(pem) if pem else []
            except (OSError, ValueError) as error:
                text = f"{file} has no certificates of authorities in PEM form: {_why(error)}"
                raise PlatformError(f"{where}.client_ca: {text}") from None
        self._store = X509Store() if trusted else None
        for authority in trusted:
            self._store.add_cert(X509.from_cryptography(authority))  # type: ignore[union-attr]  # there are some
        self.configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=self._protocols,
            certificate=chain[0],
            certificate_chain=chain[1:],
            private_key=key,
            cipher_suites=[
                CipherSuite.AES_128_GCM_SHA256,
                CipherSuite.AES_256_GCM_SHA384,
                CipherSuite.CHACHA20_POLY1305_SHA256,
            ],
            supported_versions=[QuicProtocolVersion.VERSION_1],
            max_data=4 * WINDOW,
            max_stream_data=WINDOW,
        )


def _check_usage(certificate: x509.Certificate) -> None:
    """Raise ValueError where a certificate says what it is for, and that is not clients."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not any(use in usage for use in _OF_CLIENTS):
        raise ValueError("the certificate is not for clients")


_OF_CLIENTS = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
