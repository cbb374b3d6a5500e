"""`dnsvip nodes discovery`: how clients find a node's encrypted listeners, for zones and networks that others run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import click

from dnsvip.cli.shared.show import say
from dnsvip.dns.discovery.dnr import DHCP4, DHCP6, Announcement, announcements
from dnsvip.dns.discovery.offers import Offer, offers_of
from dnsvip.dns.discovery.records import TTL, Published, by_priority, records_of
from dnsvip.errors import ConfigError
from dnsvip.node.certificate_keys import keys_of, names_of
from dnsvip.site.io.files import load_node
from dnsvip.site.node_listen import Listener


def show(node_file: Path, addresses: Sequence[IPv4Address | IPv6Address], lifetime: int, *, as_json: bool) -> None:
    """Print it; `addresses` are for listeners that name none. Raises ConfigError."""
    settings = load_node(node_file).dns
    keys = {listener.tls: keys_of(listener.tls) for listener in settings.listeners if listener.tls}
    offers = [
        replace(offer, addresses=tuple(addresses)) if addresses and not offer.addresses else offer
        for offer in offers_of(settings.listen, settings.tls, keys)
    ]
    if not offers:
        raise ConfigError(
            f"{node_file}: no encrypted listener that is open to everybody has a name: add one, such as"
            ' address = "tls://[::]:853", and names = ["dns.example.test"] to [dns.tls]'
        )
    offers = [offer for _, offer in by_priority(offers)]
    for caution in _cautions(settings.listeners, offers):
        say(f"caution: {caution}", fg="yellow", err=True)
    records, announced = records_of(offers), announcements(offers, lifetime)
    if as_json:
        click.echo(json.dumps(_plain(records, announced), indent=2))
        return
    for line in _lines(records, announced):
        click.echo(line)


def _cautions(listeners: Iterable[Listener], offers: Iterable[Offer]) -> Iterator[str]:
    """What in a certificate keeps clients from believing what they find."""
    wanted = {offer.name: offer.addresses for offer in offers}
    for tls in {listener.tls for listener in listeners if listener.tls}:
        has = names_of(tls.certificate)
        for name in tls.names:
            parent = f"*.{name.partition('.')[2]}"
            if name in wanted and name not in has and parent not in has:
                yield f"{tls.certificate} is not for {name}: no client takes it"
        missing = {str(address) for name in tls.names for address in wanted.get(name, ())} - has
        if missing:
            some = ", ".join(sorted(missing))
            yield f"{tls.certificate} is not for {some}: whoever asks there for _dns.resolver.arpa does not believe it"


def _lines(records: Iterable[Published], announced: Sequence[Announcement]) -> Iterable[str]:
    yield "; records"
    for owner, rtype, content in records:
        yield f"{owner} {TTL} IN {rtype} {content}"
    four = b"".join(one.dhcp4 for one in announced if one.dhcp4)
    six = [one.dhcp6 for one in announced if one.dhcp6]
    if not four and not six:
        yield "; no DHCP options and router advertisements: name addresses of this server with --address"
        return
    yield "; DHCP, dnsmasq"
    if four:
        yield f"dhcp-option={DHCP4},{four.hex(':')}"
    yield from (f"dhcp-option=option6:{DHCP6},{one.hex(':')}" for one in six)
    yield "; DHCP, Kea"
    if four:
        yield _kea(DHCP4, "dhcp4", four)
    yield from (_kea(DHCP6, "dhcp6", one) for one in six)
    yield "; router advertisements, whole options"
    yield from (one.router.hex() for one in announced if one.router)


def _kea(code: int, space: str, data: bytes) -> str:
    return json.dumps({"code": code, "space": space, "csv-format": False, "data": data.hex()})


def _plain(records: Iterable[Published], announced: Iterable[Announcement]) -> dict[str, Any]:
    return {
        "records": [
            {"owner": owner, "ttl": TTL, "type": rtype, "content": content} for owner, rtype, content in records
        ],
        "announcements": [{**_shown(one.offer), **_hex(one)} for one in announced],
    }


def _hex(one: Announcement) -> dict[str, str | None]:
    options = {"dhcp4": one.dhcp4, "dhcp6": one.dhcp6, "router": one.router}
    return {key: value.hex() if value else None for key, value in options.items()}


def _shown(offer: Offer) -> dict[str, Any]:
    return {**asdict(offer), "addresses": list(map(str, offer.addresses)), "path": offer.path}
