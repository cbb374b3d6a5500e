"""The public keys of certificate files, as their digests, for TLSA records: those in use and those to come."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)

from dnsvip.errors import ConfigError
from dnsvip.site.node_listen import ListenerTls

log = structlog.get_logger()


class CertificateKeys:
    """The keys of one certificate, and of the next, as its files last went together."""

    def __init__(self, tls: ListenerTls) -> None:
        self._tls = tls
        self._stamp: tuple[object, ...] = ()
        self.digests: tuple[str, ...] = ()

    def refresh(self) -> tuple[str, ...]:
        """SHA-256 digests (hex) of the keys as they are now; as they were where the files cannot be read, or have a
        certificate for another key, which the server does not take either."""
        stamp = self._stamped()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self.digests = keys_of(self._tls)
            except ConfigError as error:
                log.error("a DNS certificate cannot be read; its TLSA records stay", error=str(error))
        return self.digests

    def _stamped(self) -> tuple[object, ...]:
        stamp: list[object] = []
        for file in filter(None, (self._tls.certificate, self._tls.key, self._tls.next_key)):
            try:
                status = file.stat()
                stamp.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                stamp.append(None)
        return tuple(stamp)


def keys_of(tls: ListenerTls) -> tuple[str, ...]:
    """SHA-256 digests (hex) of the keys of a certificate and of the next one; raises ConfigError where they cannot be
    read, or the certificate is for another key."""
    try:
        held = load_pem_x509_certificates(tls.certificate.read_bytes())[0].public_key()
        if _digest(load_pem_private_key(tls.key.read_bytes(), None).public_key()) != _digest(held):
            raise ValueError(f"{tls.certificate} is not for the key in {tls.key}")
        keys = [held] if tls.next_key is None else [held, public_key(tls.next_key)]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{tls.certificate}: {error}") from None
    return tuple(dict.fromkeys(map(_digest, keys)))


def names_of(certificate: Path) -> set[str]:
    """The names and addresses that a certificate is for; none where it cannot be read."""
    try:
        found = load_pem_x509_certificates(certificate.read_bytes())[0]
        names = found.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (OSError, ValueError, ExtensionNotFound):
        return set()
    hosts = {name.lower() for name in names.get_values_for_type(DNSName)}
    return hosts | {str(address) for address in names.get_values_for_type(IPAddress)}


def public_key(file: Path) -> PublicKeyTypes:
    """The public key in a PEM file with it, or with a certificate of it; raises OSError or ValueError."""
    text = file.read_bytes()
    if b"-----BEGIN PUBLIC KEY-----" in text:
        return load_pem_public_key(text)
    try:
        return load_pem_x509_certificates(text)[0].public_key()
    except ValueError:
        raise ValueError(f"{file} has neither a certificate nor a public key in PEM form") from None


def _digest(key: PublicKeyTypes) -> str:
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
