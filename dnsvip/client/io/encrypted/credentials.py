"""What encrypted servers are verified by, and what the client shows them of itself."""

from __future__ import annotations

import ssl
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dnsvip.client.enrolment import ServerTrust
from dnsvip.errors import ClientError
from dnsvip.site.server_forms import ServerForm


class ChannelError(ClientError):
    """A server that cannot be asked over an encrypted channel, and why."""


class Closed(ChannelError):
    """A connection that has ended before the answer."""


class CertificateRefused(Closed):
    """A server that takes no client with this certificate."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`trust` is what servers are verified by; `token` and `certificate` (files of chain and key) say who the client
    is."""

    trust: ServerTrust = ServerTrust()
    token: str | None = None
    certificate: tuple[Path, Path] | None = None

    def server_name(self, server: ServerForm) -> str:
        """The name that the certificate must be for, and that is sent in clear (SNI): over TLS and QUIC a token is its
        first label. Raises ChannelError for a token without a name."""
        name = server.name or server.host
        if self.token is None or server.is_http:
            return name
        if server.name is None:
            raise ChannelError("a token needs the server's name: it goes behind #")
        return f"{self.token}.{name}"


class ResumingContext(ssl.SSLContext):
    """A client's TLS settings for one server, which remember its last session: asyncio itself resumes none."""

    session: ssl.SSLSession | None = None

    def ended(self, tls: ssl.SSLObject, heard: int) -> None:
        """Forget the session of a connection that ended before an answer: in it the client's certificate is as it was,
        and a server takes none whose time is over."""
        if tls.session_reused and not heard:
            self.session = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As of `SSLContext`, with the session."""
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session or self.session)


def tls_context(credentials: Credentials, alpn: str) -> ResumingContext:
    """The settings for one server. Raises ChannelError where an authority or the client's certificate cannot be
    read."""
    context, trust = ResumingContext(ssl.PROTOCOL_TLS_CLIENT), credentials.trust
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([alpn])
    try:
        if trust.ca:
            context.load_verify_locations(cadata=trust.ca)
        elif trust.pins:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the pin is what it is verified by
        else:
            context.load_default_certs()
        if credentials.certificate:
            context.load_cert_chain(*credentials.certificate)
    except (ssl.SSLError, OSError) as error:
        raise ChannelError(f"the client's certificate or authorities cannot be used: {error}") from None
    return context


def check_pin(trust: ServerTrust, certificate: bytes | None) -> None:
    """Raises ChannelError where the key of a certificate (DER) is none of the pinned ones (RFC 7858 section 4.2)."""
    try:
        pin = pin_of(x509.load_der_x509_certificate(certificate)) if trust.pins and certificate else None
    except (ValueError, UnsupportedAlgorithm):  # OpenSSL takes certificates that this library does not
        pin = None
    if trust.pins and pin not in trust.pins:
        raise ChannelError("its certificate has another key than the enrolment says")


def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a certificate: the SHA-256 of its public key, in base64."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(sha256(key).digest()).decode()


_REFUSALS = tuple(
    f"alert {words}"
    for words in (
        "unknown ca",
        "bad certificate",
        "certificate expired",
        "certificate revoked",
        "certificate unknown",
        "decrypt error",  # another authority of the same name
    )
)
"""What alerts about a client's certificate end with."""


def broken(error: Exception) -> Closed:
    """The end of a connection: a server's alert about the client's certificate comes after the handshake (RFC 8446
    section 4.4.2.4)."""
    why = tls_failure(error, "")
    return CertificateRefused(f"refuses this client's certificate: {why}") if why.endswith(_REFUSALS) else Closed(why)


def tls_failure(error: Exception, name: str) -> str:
    """What is wrong with a handshake, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good for {name}: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason: Any = error.reason or "failed"
        return f"TLS: {str(reason).replace('_', ' ').lower()}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
