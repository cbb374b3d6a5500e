"""A client's key, which never leaves this machine, and its certificate: files beside the enrolment."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dnsvip.client.certificate import Chain, new_key, read_chain
from dnsvip.client.io.files import check_private, read
from dnsvip.errors import ClientError
from dnsvip.site.io.safe_file import make_folder, read_regular, write_file


class CertificateFiles:
    """The files of the enrolment at `enrolment`: `.key` and `.crt` in place of its suffix."""

    def __init__(self, enrolment: Path) -> None:
        self.key, self.chain = enrolment.with_suffix(".key"), enrolment.with_suffix(".crt")

    def made_key(self) -> ec.EllipticCurvePrivateKey:
        """The key, made where there is none yet; raises ClientError."""
        if not self.key.exists():
            key = new_key()
            text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            make_folder(self.key.parent, error=ClientError)
            write_file(self.key, text, error=ClientError)
        return self.read_key()

    def read_key(self) -> ec.EllipticCurvePrivateKey:
        """The key; raises ClientError where there is none, or others can read it."""
        try:
            text = read_regular(self.key)
        except OSError as error:
            raise ClientError(f"{self.key}: cannot be read: {error.strerror or error}") from None
        check_private(self.key)
        try:
            key = load_pem_private_key(text, None)
        except (ValueError, TypeError):
            raise ClientError(f"{self.key}: is no private key in PEM form without a password") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ClientError(f"{self.key}: is no key of P-256: remove it, and another is made")
        return key

    def read_chain(self) -> Chain | None:
        """The certificate; None without one. Raises ClientError where it is not for the key, or the key is open to
        others."""
        if not self.chain.exists() or not self.key.exists():
            return None
        return read_chain(read(self.chain), str(self.chain), self.read_key().public_key())

    def save(self, chain: Chain) -> None:
        """Keep a certificate; raises ClientError."""
        write_file(self.chain, chain.pem.encode(), error=ClientError)
