"""The order in which a listener prefers the cipher suites of TLS 1.3: AES-128-GCM with SHA-256 first, as over QUIC.

X25519 and P-256 have no more strength than AES-128 (RFC 7748 section 7, NIST SP 800-57), and the key schedule of a
handshake takes a tenth less of it by SHA-256, which processors have in hardware, than by SHA-384, which is OpenSSL's
first. Python 3.15 has a method for it; before, OpenSSL is called by the pointer that a context begins with.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
import sys
from typing import Any, Protocol, cast

SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""All of them, the first preferred."""


class _Setting(Protocol):
    def set_ciphersuites(self, suites: str, /) -> None:
        """As Python 3.15 has it."""


def prefer_fast_suites(context: ssl.SSLContext) -> None:
    """Prefer SUITES in their order; where this Python gives no way to say so, the order stays OpenSSL's."""
    if hasattr(context, "set_ciphersuites"):
        cast("_Setting", context).set_ciphersuites(":".join(SUITES))
    elif (set_suites := _setter()) is not None:
        pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
        set_suites(pointer, ":".join(SUITES).encode())


def _setter() -> Any:
    """SSL_CTX_set_ciphersuites of the library that `ssl` uses, None where it cannot be called."""
    file = getattr(_ssl, "__file__", None)
    if sys.implementation.name != "cpython" or file is None:
        return None
    setter = getattr(ctypes.CDLL(file), "SSL_CTX_set_ciphersuites", None)
    if setter is not None:
        setter.argtypes = ctypes.c_void_p, ctypes.c_char_p
    return setter
