"""X.509 of client certificates: an authority that signs itself, and the certificates that it issues.

Of a request only the public key counts: every name in a certificate is ours.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site.client_certificates import uri_of

AUTHORITY_DAYS = 3650
DAYS, LONGEST_DAYS = 30, 90
"""Days of a client certificate by default and at most."""

BACKDATED = timedelta(minutes=5)
"""So that a clock which is a little slow takes a new certificate."""

LONGEST_REQUEST = 8192
"""Characters of a request."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_CURVES = (ec.SECP256R1, ec.SECP384R1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A client certificate and that of its authority, as PEM; its end in unix seconds."""

    certificate: str
    not_after: int


def new_authority(number: int, now: float) -> tuple[str, bytes]:
    """The certificate (PEM) and the key (PKCS #8, DER) of a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dnsvip"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"dnsvip clients {number}"),
        ]
    )
    begin = datetime.fromtimestamp(now, UTC)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(begin + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()
    return pem, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def issue(
    authority: str, secret: bytes, client: str, key_generation: int, public_key: PublicKey, now: float, days: int
) -> Issued:
    """A certificate for a client, with that of its authority behind it. It never outlives the authority."""
    signer = x509.load_pem_x509_certificate(authority.encode())
    key = load_der_private_key(secret, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - for mypy; `new_authority` makes no other
    begin = datetime.fromtimestamp(int(now), UTC)
    end = min(begin + timedelta(days=days), signer.not_valid_after_utc)
    names = [x509.UniformResourceIdentifier(uri_of(client, key_generation))]
    builder = (
        x509.CertificateBuilder(
            signer.subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, client)]),
            public_key,
            x509.random_serial_number(),
        )
        .not_valid_before(begin - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),  # type: ignore[arg-type]  # ours
            critical=False,
        )
    )
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()
    return Issued(pem + authority, int(end.timestamp()))


def key_of_request(text: str) -> PublicKey:
    """The public key of a request for a certificate (PKCS #10, PEM), whose maker has proved to hold its key. Raises
    InvalidSite."""
    form = "must be a request for a certificate (PKCS #10) in PEM form with a key of P-256, P-384 or Ed25519"
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = _usable(request.public_key(), "certificate.csr", form)
        signed = request.is_signature_valid  # which may take 30 ms with a key of RSA
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion):
        raise InvalidSite([Problem("certificate.csr", form)]) from None
    if not signed:
        raise InvalidSite([Problem("certificate.csr", "is not signed by the key in it")])
    return key


def key_of_point(label: str) -> PublicKey | None:
    """The P-256 key whose compressed point (SEC 1 section 2.3.3) a label is in base32 without padding; None where it
    is none."""
    try:
        point = base64.b32decode(label.upper() + "=" * (-len(label) % 8))
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (ValueError, binascii.Error):
        return None


def _usable(key: object, where: str, form: str) -> PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    raise InvalidSite([Problem(where, form)])


def der_of(pem: str) -> list[str]:
    """Each certificate of a PEM text as DER in base64."""
    certificates = x509.load_pem_x509_certificates(pem.encode())
    return [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode() for certificate in certificates]


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate in a PEM text, in hexadecimal."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(SHA256()).hex()


def ends_at(pem: str) -> int:
    """When a certificate ends, in unix seconds."""
    return int(x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp())
