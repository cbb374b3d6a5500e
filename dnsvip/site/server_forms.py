"""DNS servers as clients and secondaries name them: in plain text, or over TLS, HTTPS or QUIC.

    192.0.2.53:53                                         UDP and TCP
    tls://[2001:db8:53::1]:853#dns.example.test           RFC 7858
    https://192.0.2.53:443/dns-query#dns.example.test     RFC 8484
    h3://192.0.2.53:443/dns-query#dns.example.test        the same, by HTTP/3 first
    quic://192.0.2.53:853#dns.example.test                RFC 9250

The name is the one in the server's certificate; without it the certificate is for the address. Servers have addresses
here: who asks for a name has no DNS yet.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from dnsvip.site.values import TLS, checked_dns_name, parse_endpoint


class Scheme(StrEnum):
    """How a server is asked."""

    PLAIN = "dns"
    TLS = "tls"
    HTTPS = "https"
    HTTP3 = "h3"
    QUIC = "quic"


DOH_PATH = "/dns-query"
"""The path of DNS over HTTPS (RFC 8484) unless another is named."""

LONGEST = 320
"""Characters of a server."""

_PATH = re.compile(r"/[A-Za-z0-9._~/-]{1,128}")
_EXAMPLES = {
    Scheme.TLS: f"{TLS}[2001:db8::1]:853#dns.example.test",
    Scheme.HTTPS: f"https://[2001:db8::1]:443{DOH_PATH}#dns.example.test",
    Scheme.HTTP3: f"h3://[2001:db8::1]:443{DOH_PATH}#dns.example.test",
    Scheme.QUIC: "quic://[2001:db8::1]:853#dns.example.test",
}


_SCHEMES = "tls://, https://, h3:// or quic://"
_HTTP = frozenset({Scheme.HTTPS, Scheme.HTTP3})


class ServerForm(NamedTuple):
    """A server taken apart. `name` is None where its certificate is for its address; `path` is that of HTTPS."""

    scheme: Scheme
    host: str
    port: int
    name: str | None = None
    path: str = ""

    @property
    def is_encrypted(self) -> bool:
        """Whether what is asked, and the server itself, are protected."""
        return self.scheme is not Scheme.PLAIN

    @property
    def is_http(self) -> bool:
        """Whether it is asked over HTTPS, in whatever version."""
        return self.scheme in _HTTP


def parse_server(text: str) -> ServerForm:
    """Take a server apart; raises ValueError that names the right form."""
    scheme_text, mark, rest = text.partition("://")
    if not mark:
        if "#" in text:
            raise ValueError("only servers that are asked over TLS, HTTPS or QUIC have a name")
        return ServerForm(Scheme.PLAIN, *_endpoint(text))
    scheme = next((each for each in _EXAMPLES if each == scheme_text), None)
    if scheme is None:
        raise ValueError(f"must begin with {_SCHEMES}, or be ADDRESS:PORT: {_EXAMPLES[Scheme.TLS]}")
    place, mark, name = rest.partition("#")
    place, slash, path = place.partition("/")
    try:
        host, port = _endpoint(place)
    except ValueError as error:
        raise ValueError(f"{error}; the form is {_EXAMPLES[scheme]}") from None
    if mark and not _is_host_name(name):
        raise ValueError(f"the name after # must be a DNS name in lower case: {_EXAMPLES[scheme]}")
    if slash and scheme not in _HTTP:
        raise ValueError(f"only https:// and h3:// have a path; the form is {_EXAMPLES[scheme]}")
    path = f"/{path}" if path else DOH_PATH
    if scheme in _HTTP and not _PATH.fullmatch(path):
        raise ValueError(f"the path must have letters, digits and . _ ~ / - only: {_EXAMPLES[scheme]}")
    return ServerForm(scheme, host, port, name or None, path if scheme in _HTTP else "")


def is_encrypted(text: str) -> bool:
    """Whether a server, of a form that has been checked, is asked over TLS, HTTPS or QUIC."""
    return "://" in text


def _endpoint(text: str) -> tuple[str, int]:
    try:
        host, port = parse_endpoint(text)
    except ValueError as error:
        if "does not appear to be" in str(error):
            raise ValueError("must have an address in place of a name, which goes behind #") from None
        raise
    if not port:
        raise ValueError("must end in :PORT, 1 to 65535")
    return host, port


def _is_host_name(name: str) -> bool:
    try:
        return name not in ("", ".") and "*" not in name and checked_dns_name(name) == name
    except ValueError:
        return False


def _checked_server(text: str) -> str:
    parse_server(text)
    return text


def _checked_primary(text: str) -> str:
    if parse_server(text).scheme not in (Scheme.PLAIN, Scheme.TLS):
        raise ValueError(f"zones are transferred from ADDRESS:PORT, or over TLS: {_EXAMPLES[Scheme.TLS]}")
    return text


DnsServer = Annotated[str, Field(max_length=LONGEST), AfterValidator(_checked_server)]
"""A server that clients ask."""

Primary = Annotated[str, Field(max_length=LONGEST), AfterValidator(_checked_primary)]
"""A server that zones are transferred from."""
