"""DNS listeners of the node file, `[[dns.listen]]`, and the certificates of encrypted ones, `[dns.tls]`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict

from dnsvip.errors import Problem
from dnsvip.site.declare import About
from dnsvip.site.values import STRICT, DnsName, Name, Network, parse_endpoint

SCHEMES = {"": ("udp", "tcp"), "tls": ("tcp",), "https": ("tcp", "udp"), "quic": ("udp",)}
"""What an address may begin with, before `://`, and the protocols of its sockets."""

SERVED = frozenset({"", "tls", "https", "quic"})
"""The schemes that this version answers on."""

OURS = "dnsvip"
"""In `client_ca`: the authority that dnsvip keeps in the database."""

_FORMS = "ADDRESS:PORT, tls://ADDRESS:PORT, https://ADDRESS:PORT or quic://ADDRESS:PORT"


def parse_listen(text: str) -> tuple[str, str, int]:
    """Scheme, address and port of "tls://[2001:db8::1]:853" or, with the scheme "", of "192.0.2.1:53"; raises
    ValueError."""
    scheme, mark, endpoint = text.rpartition("://")
    if scheme not in SCHEMES or (mark and not scheme):
        raise ValueError(f"must be {_FORMS}")
    return scheme, *parse_endpoint(endpoint)


def _checked_listen(text: str) -> str:
    parse_listen(text)
    return text


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """`[dns.tls]`, and `tls` of one listener: certificate and key, whose client certificates identify clients, and the
    names that clients know the server by. Its files are read again when they change."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    certificate: Annotated[
        Path, About("Certificate", "PEM file with the certificate of encrypted DNS and its chain; read when renewed.")
    ]
    key: Annotated[Path, About("Key", "PEM file of its key.")]
    client_ca: Annotated[
        tuple[str, ...],
        BeforeValidator(_several),
        About(
            "Client authorities",
            "PEM files of authorities whose client certificates identify clients; `dnsvip` is the authority that the "
            "site keeps. Without any, none is asked for.",
        ),
    ] = ()
    names: Annotated[
        tuple[DnsName, ...],
        BeforeValidator(_several),
        About(
            "Names",
            "Names that clients authenticate the server by, which the certificate has; discovery gives the first, and "
            "`TOKEN.NAME` carries a token.",
        ),
    ] = ()

    publish: Annotated[
        bool,
        About(
            "Publish",
            "Whether the site's zones around the names get SVCB records of the encrypted listeners (RFC 9461) and "
            "TLSA records of the certificates (RFC 7671), which the nodes keep up to date.",
        ),
    ] = False
    next_key: Annotated[
        Path | None,
        About("Next key", "PEM file of the next certificate or its public key, for which a TLSA record is published."),
    ] = None

    def beside(self, folder: Path) -> ListenerTls:
        """The same with paths that are relative to a folder."""
        authorities = tuple(file if file == OURS else str(folder / file) for file in self.client_ca)
        return replace(
            self,
            certificate=folder / self.certificate,
            key=folder / self.key,
            client_ca=authorities,
            next_key=self.next_key and folder / self.next_key,
        )


@dataclass(frozen=True, slots=True)
class Listener:
    """One address the DNS server answers on; `name` is what a client's `listener` match refers to.

    A listener with `allow` or `identity` refuses strangers; both must hold where both are given.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    address: Annotated[
        str,
        AfterValidator(_checked_listen),
        About(
            "Address",
            "ADDRESS:PORT for DNS by UDP and TCP, `tls://ADDRESS:PORT` (DoT), `https://ADDRESS:PORT` (DoH) or "
            "`quic://ADDRESS:PORT` (DoQ); by default `127.0.0.1:5353` and `[::1]:5353`.",
        ),
    ]
    name: Annotated[Name, About("Name", 'What a client\'s `match = [{ listener = "NAME" }]` refers to.')] = "default"
    group: Annotated[
        Name | None,
        About(
            "Group",
            "DNS group of the site (`[dns_group.NAME]`) that this listener belongs to: with `identity`, only clients "
            "of its tiers are answered.",
        ),
    ] = None
    tier: Annotated[
        Name | None,
        About(
            "Tier",
            "Tier of whoever asks here and is identified by no step of `classify.order` before `listener`.",
        ),
    ] = None
    allow: Annotated[
        tuple[Network, ...],
        About("Allow", "Networks that are answered; others get REFUSED. By default everybody."),
    ] = ()
    identity: Annotated[
        Literal["required"] | None,
        About(
            "Identity",
            "With `required`, only known clients are answered, identified by key or network; others get REFUSED.",
        ),
    ] = None
    tls: Annotated[
        ListenerTls | None,
        About("TLS", "Certificate of this encrypted listener in place of that of `[dns.tls]`."),
    ] = None
    http3: Annotated[bool, About("HTTP3", "Whether an `https://` listener answers HTTP/3, by UDP, too.")] = True

    @property
    def scheme(self) -> str:
        """`tls`, `https` or `quic`; "" for UDP and TCP in the clear."""
        return parse_listen(self.address)[0]

    @property
    def endpoint(self) -> tuple[str, int]:
        """Address and port."""
        return parse_listen(self.address)[1:]

    @property
    def protocols(self) -> tuple[str, ...]:
        """Of `udp` and `tcp` those that it has sockets of."""
        return SCHEMES[self.scheme] if self.scheme != "https" or self.http3 else ("tcp",)


def listener_problems(listeners: tuple[Listener, ...], tls: ListenerTls | None) -> Iterator[Problem]:
    """Encrypted listeners without a certificate, and listeners that share a name and differ in their rules: a query is
    known by the name of its listener."""
    first: dict[str, Listener] = {}
    for place, listener in enumerate(listeners):
        other = first.setdefault(listener.name, listener)
        if replace(other, address=listener.address, tls=listener.tls, http3=listener.http3) != listener:
            text = f"{listener.address} and {other.address} are both called {listener.name!r} and have different rules"
            yield Problem(f"dns.listen.{place}.name", f"{text}; give each a name of its own")
        if listener.scheme not in SERVED:
            text = f"{listener.address}: {listener.scheme}:// is not served yet by this version; remove the listener"
            yield Problem(f"dns.listen.{place}.address", text)
        elif listener.scheme and (listener.tls or tls) is None:
            right = '[dns.tls] with certificate = "FILE" and key = "FILE", or tls = { ... } with both in this listener'
            yield Problem(f"dns.listen.{place}.tls", f"missing; {listener.address} needs a certificate: {right}")
