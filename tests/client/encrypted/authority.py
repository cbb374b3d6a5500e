"""Certificates of a test's authority as pairs of files, and the authority as text."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from tests.dns.io import tls_world
from tests.dns.io.tls_world import NAME

__all__ = ["NAME", "Authority", "KeyPair"]

KeyPair = tuple[Path, Path]
"""Files of a certificate and its key."""


class Authority(tls_world.Authority):
    """An authority in a folder."""

    @property
    def ca(self) -> str:
        """Its certificate as PEM."""
        return self.file.read_text()

    def pair(self, *names: str, days: int = 30, label: str = "") -> KeyPair:
        """A certificate for names and addresses, called `label` or by the first of them."""
        label = label or names[0]
        self.issue(label, *map(_alternative, names), days=days)
        files = self.folder / f"{label}.pem", self.folder / f"{label}.key"
        files[1].chmod(0o600)
        return files


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
