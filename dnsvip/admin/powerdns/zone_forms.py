"""Whole zones in the forms of PowerDNS's API: bodies that make and set them, what a search finds, keys, metadata."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from dnsvip.admin.powerdns.forms import DNS_PORT, LOOSE, listed, replacements_of, validated, zone_id
from dnsvip.dns.dnssec.keys import SigningKey
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.edit import Replacement
from dnsvip.dns.zones.sets import ZoneSets
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Dnssec, DnssecDenial, Transfer, Zone
from dnsvip.site.plain import JsonObject
from dnsvip.site.server_forms import Primary
from dnsvip.site.values import DnsName

LONGEST_PATTERN = 253
"""Characters of what is searched for."""


def _capital(value: Any) -> Any:
    return value.capitalize() if isinstance(value, str) else value


Kind = Literal["Native", "Master", "Primary", "Slave", "Secondary"]
"""Kinds of zones. Native, Master and Primary are alike here: their records are edited, and transferred where the zone
has `transfer`. Slave and Secondary are transferred from their masters."""

SECONDARY = ("Slave", "Secondary")


def with_port(value: Any) -> Any:
    """A server as PowerDNS has it, an address with or without a port, as dnsvip has it."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        address = ip_address(value)
        return f"[{address}]:{DNS_PORT}" if address.version == 6 else f"{address}:{DNS_PORT}"
    return value


Masters = Annotated[tuple[Annotated[Primary, BeforeValidator(with_port)], ...], Field(max_length=8)]


def _key_name(value: Any) -> Any:
    return value.lower().removesuffix(".") if isinstance(value, str) else value


KeyIds = Annotated[tuple[Annotated[DnsName, BeforeValidator(_key_name)], ...], Field(max_length=1)]
"""The TSIG key of a zone's transfers, by its name."""

_UNSIGNED = "is for signed zones: set dnssec to true with it"

Nsec3 = Literal["", "1 0 0 -"]


NOWHERE = "a.misconfigured.dns.server.invalid."
"""The name server of a zone that was made without one, as PowerDNS has it in the SOA; here in an NS record too, without
which no zone is served."""


@dataclass(frozen=True, slots=True)
class Creating:
    """The body of a POST of a zone. What there is no place for is taken only where it says nothing."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    name: Annotated[str, Field(max_length=1024, pattern=r"\.$")]
    kind: Annotated[Kind, BeforeValidator(_capital)] = "Native"
    nameservers: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\s;()]+\.$")], ...], Field(max_length=64)] = ()
    zone: str | None = None
    dnssec: Annotated[bool, Field(strict=True)] = False
    account: Literal[""] = ""
    masters: Masters = ()
    nsec3param: Nsec3 = ""
    master_tsig_key_ids: KeyIds = ()
    slave_tsig_key_ids: KeyIds = ()

    @property
    def is_secondary(self) -> bool:
        """Whether the zone is transferred from its masters."""
        return self.kind in SECONDARY


@dataclass(frozen=True, slots=True)
class Setting:
    """The body of a PUT of a zone: what of it is to be otherwise."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    kind: Annotated[Kind, BeforeValidator(_capital)] | None = None
    dnssec: Annotated[bool, Field(strict=True)] | None = None
    account: Literal[""] = ""
    masters: Masters | None = None
    nsec3param: Nsec3 | None = None
    master_tsig_key_ids: KeyIds | None = None
    slave_tsig_key_ids: KeyIds | None = None

    def set(self, zone: Zone) -> Zone:
        """The zone as it is to be."""
        changed: dict[str, Any] = {} if self.masters is None else {"primaries": self.masters}
        if self.slave_tsig_key_ids is not None:
            changed["primaries_tsig"] = next(iter(self.slave_tsig_key_ids), None)
        if self.master_tsig_key_ids is not None:
            changed["transfer"] = transfer_by(zone, self.master_tsig_key_ids)
        dnssec = zone.dnssec or Dnssec()
        if self.dnssec is not None:
            dnssec = replace(dnssec, enabled=self.dnssec)
        if self.nsec3param and not dnssec.enabled:
            raise InvalidSite([Problem(f"zone.{zone.name}.nsec3param", _UNSIGNED)])
        if self.nsec3param is not None:
            dnssec = replace(dnssec, denial=denial_by(dnssec, self.nsec3param))
        return replace(zone, **changed, dnssec=dnssec if zone.dnssec or dnssec != Dnssec() else None)


def transfer_by(zone: Zone, keys: Sequence[str]) -> Transfer | None:
    """Who may transfer a zone, with this TSIG key or without any."""
    after = replace(zone.transfer or Transfer(), tsig=next(iter(keys), None))
    return after if after.to or after.tsig else None


def denial_by(dnssec: Dnssec, nsec3param: str) -> DnssecDenial:
    """How a zone denies with these parameters of NSEC3, or without any."""
    if nsec3param:
        return DnssecDenial.NSEC3
    return DnssecDenial.COMPACT if dnssec.denial is DnssecDenial.NSEC3 else dnssec.denial


def creation_of(name: str, body: JsonObject, now: int) -> tuple[Creating, list[Replacement]]:
    """What a POST asks for, and its record sets; raises InvalidSite."""
    wanted = validated(name, Creating, body)
    given = body.get("rrsets") or []
    sets = [{**one, "changetype": "REPLACE"} if isinstance(one, dict) else one for one in listed(given) or []]
    replacements = replacements_of(name, {"rrsets": sets}, now)
    if wanted.is_secondary is not bool(wanted.masters):
        text = "are for zones of the kind Slave, which have one at least"
        raise InvalidSite([Problem(f"zone.{name}.masters", text)])
    if wanted.is_secondary and (wanted.zone is not None or wanted.nameservers or replacements):
        raise InvalidSite([Problem(f"zone.{name}", "is transferred from its masters; give it no records")])
    if wanted.nsec3param and not wanted.dnssec:
        raise InvalidSite([Problem(f"zone.{name}.nsec3param", _UNSIGNED)])
    if wanted.zone is not None and replacements:
        raise InvalidSite([Problem(f"zone.{name}.zone", "is a whole zone; leave rrsets out, or give these alone")])
    return wanted, replacements


def matches(
    zone: Zone, fits: re.Pattern[str], wanted: str, sets_of: Callable[[Zone], ZoneSets]
) -> Iterator[JsonObject]:
    """What of a zone fits a pattern, as a search shows it: the zone itself, its records, and comments on them."""
    name, key = f"{zone.name.rstrip('.')}.", zone_id(zone.name)
    if wanted in ("all", "zone") and (fits.match(name) or fits.match(name[:-1])):
        yield {"object_type": "zone", "name": name, "zone_id": key}
    for record_set in sets_of(zone).sets.values() if wanted != "zone" and zone.text else ():
        owner = record_set.name.lower()
        named = fits.match(owner) or fits.match(owner.rstrip("."))
        head = {"name": owner, "type": record_set.type_name, "zone": name, "zone_id": key}
        if wanted in ("all", "record"):
            for entry in record_set.entries:
                if named or fits.match(entry.content):
                    more = {"content": entry.content, "disabled": entry.disabled, "ttl": entry.ttl}
                    yield {**head, "object_type": "record", **more}
        if wanted in ("all", "comment"):
            for comment in record_set.comments:
                if named or fits.match(comment.content):
                    yield {**head, "object_type": "comment", "content": comment.content}


def cryptokey(number: int, role: str, key: SigningKey, apex: Labels, *, active: bool, published: bool) -> JsonObject:
    """A key of a zone, without its secret."""
    flags, public = int.from_bytes(key.dnskey[:2], "big"), base64.b64encode(key.dnskey[4:]).decode()
    digest = key.ds(apex)
    shown: JsonObject = {"type": "Cryptokey", "id": number, "keytype": role, "active": active, "published": published}
    return {
        **shown,
        "flags": flags,
        "algorithm": {13: "ECDSAP256SHA256", 15: "ED25519"}.get(key.algorithm, str(key.algorithm)),
        "bits": 256,
        "dnskey": f"{flags} 3 {key.algorithm} {public}",
        "ds": [f"{key.tag} {key.algorithm} {digest[3]} {digest[4:].hex()}"] if flags & 1 else [],
    }
