"""A client's own certificate: what it asks for, when it is time, and whether what came is for its key."""

from __future__ import annotations

from base64 import b32encode, b64decode
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from dnsvip.client.enrolment import Enrolment, first_name
from dnsvip.errors import ClientError
from dnsvip.site.server_forms import is_encrypted

LABEL = "_certificate"
"""The label before a service's name; one for the key is before it (`dns.certification`)."""

DUE = 2 / 3
"""Of a certificate's time, after which it is time for the next."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A certificate with its authority's, as PEM, good from `since` to `until` (unix seconds)."""

    pem: str
    key: ec.EllipticCurvePublicKey
    since: float
    until: float

    def is_good(self, now: float) -> bool:
        """Whether servers take it."""
        return self.since <= now < self.until

    def is_due(self, now: float) -> bool:
        """Whether it is time to ask for the next."""
        return not self.since <= now < self.since + (self.until - self.since) * DUE


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key for certificates."""
    return ec.generate_private_key(ec.SECP256R1())


def request_for(key: ec.EllipticCurvePrivateKey, client: str) -> str:
    """A request for a certificate (PKCS #10, PEM), for an operator."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, client)])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def name_to_ask(enrolment: Enrolment, key: ec.EllipticCurvePublicKey) -> str | None:
    """The name at which a certificate for a key is; None without a service, or an encrypted server to ask."""
    service = first_name(enrolment.services)
    if service is None or not any(map(is_encrypted, enrolment.asked_servers)):
        return None
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return f"{b32encode(point).decode().rstrip('=').lower()}.{LABEL}.{service}"


def chain_in(answer: bytes) -> str:
    """The certificates in an answer (each as DER in base64, with commas between them) as PEM; raises ClientError."""
    try:
        certificates = [x509.load_der_x509_certificate(b64decode(one, validate=True)) for one in answer.split(b",")]
    except ValueError:
        raise ClientError("the DNS server's answer has no certificate") from None
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def read_chain(pem: str, source: str, key: ec.EllipticCurvePublicKey) -> Chain:
    """A certificate that is for a key; raises ClientError."""
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
        found = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ClientError(f"{source}: has no certificate in PEM form") from None
    if found != key or not isinstance(found, ec.EllipticCurvePublicKey):
        raise ClientError(f"{source}: is a certificate for another key than this client's")
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Chain(pem, found, since.timestamp(), until.timestamp())
