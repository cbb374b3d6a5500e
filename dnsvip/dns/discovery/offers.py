"""What a node's listeners offer of encrypted DNS: by which names, protocols, ports and addresses clients reach it.

Listeners that answer some requesters only are nobody's business, and offered to nobody. Nor are those of port 0, which
is another one at each start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from dnsvip.site import STRICT, DnsName
from dnsvip.site.node_listen import Listener, ListenerTls
from dnsvip.site.server_forms import DOH_PATH

Addresses: TypeAlias = tuple[IPv4Address | IPv6Address, ...]

MOST = 64
"""Offers and keys that are read of one report."""

PROTOCOLS = {"tls": ("dot",), "quic": ("doq",), "https": ("h2", "h3")}
"""By scheme the protocols that ALPN chooses (RFC 9461 section 3); the last one of HTTPS by UDP."""

UDP = frozenset({"doq", "h3"})


@dataclass(frozen=True, slots=True)
class Offer:
    """One name at one port: the protocols there, the path of HTTPS, and the addresses, none where they are not known.
    `keys` are the SHA-256 digests (hex) of public keys that its certificates have, or will have."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: DnsName
    protocols: tuple[Annotated[str, Field(pattern=r"^(dot|doq|h2|h3)$")], ...]
    port: Annotated[int, Field(ge=1, le=65_535)]
    addresses: Annotated[Addresses, Field(max_length=MOST)] = ()
    keys: Annotated[tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Field(max_length=MOST)] = ()

    @property
    def path(self) -> str:
        """The URI template of HTTPS (RFC 9461 section 5), "" without."""
        return f"{DOH_PATH}{{?dns}}" if "h2" in self.protocols else ""


class _Place(NamedTuple):
    name: str
    port: int
    http: bool


def offers_of(
    listeners: Iterable[Listener], common: ListenerTls | None, keys: Mapping[ListenerTls, tuple[str, ...]] | None = None
) -> list[Offer]:
    """The offers of a node's listeners, whose certificates are `common` where they have none of their own; `keys` by
    certificate. TLS and QUIC at one port are one offer."""
    found: dict[_Place, list[tuple[Listener, ListenerTls]]] = {}
    for listener in listeners:
        tls = listener.tls or common
        _, port = listener.endpoint
        if listener.scheme and tls is not None and port and not (listener.allow or listener.identity):
            for name in tls.names:
                if not name.startswith("*."):
                    found.setdefault(_Place(name, port, listener.scheme == "https"), []).append((listener, tls))
    return [
        Offer(
            place.name,
            tuple(dict.fromkeys(protocol for listener, _ in some for protocol in _protocols(listener))),
            place.port,
            _addresses(listener for listener, _ in some),
            tuple(dict.fromkeys(key for _, tls in some for key in (keys or {}).get(tls, ()))),
        )
        for place, some in found.items()
    ]


def merged(offers: Iterable[Offer]) -> list[Offer]:
    """The offers of all nodes: those that differ in addresses and keys alone are one. Where the addresses of some are
    not known, hints to the others would keep clients from them, and there are none."""
    alike: dict[tuple[str, int, tuple[str, ...]], list[Offer]] = {}
    for offer in offers:
        alike.setdefault((offer.name, offer.port, offer.protocols), []).append(offer)
    return [_one(some) for _, some in sorted(alike.items())]


def _one(some: Sequence[Offer]) -> Offer:
    known = all(offer.addresses for offer in some)
    addresses = {address for offer in some for address in offer.addresses} if known else set()
    keys = tuple(sorted({key for offer in some for key in offer.keys}))
    return replace(some[0], addresses=tuple(sorted(addresses, key=_order)), keys=keys)


_ADAPTER: TypeAdapter[Offer] = TypeAdapter(Offer)


def plain(offers: Iterable[Offer]) -> list[Any]:
    """Offers as they go into a report; `read` is the inverse."""
    return [_ADAPTER.dump_python(offer, mode="json") for offer in offers]


def read(plain_offers: Any) -> list[Offer]:
    """The offers of a report; those that cannot be read, of another version, are left out."""
    offers = []
    for one in plain_offers[:MOST] if isinstance(plain_offers, list) else ():
        try:
            offers.append(_ADAPTER.validate_python(one))
        except ValidationError:
            continue
    return offers


def _protocols(listener: Listener) -> tuple[str, ...]:
    protocols = PROTOCOLS[listener.scheme]
    return protocols if listener.scheme != "https" or listener.http3 else protocols[:1]


def _addresses(listeners: Iterable[Listener]) -> Addresses:
    """The addresses of listeners, none where one is any address of the machine."""
    addresses = {ip_address(listener.endpoint[0]) for listener in listeners}
    return () if any(address.is_unspecified for address in addresses) else tuple(sorted(addresses, key=_order))


def _order(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    return address.version, int(address)
