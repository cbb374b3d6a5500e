"""What PowerDNS's API does apart from the event loop: read a PATCH, edit a zone, show its record sets."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import dns.rdatatype

from dnsvip.admin.http.json_objects import parse_object
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.powerdns import forms, zone_forms
from dnsvip.dns.zones.edit import Replacement, edited
from dnsvip.dns.zones.recent_sets import keep, sets_of
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.sets import ZoneSets, near_serial, read_sets
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Dnssec, Zone
from dnsvip.site.plain import JsonObject

CHALLENGE = "_acme-challenge"
"""The first label of the names that ACME asks (RFC 8555 section 8.4)."""
TXT = dns.rdatatype.TXT

LARGEST = 4096
"""Characters that a token for challenges may set at one name: a challenge has 43."""

LISTED = 1 << 16
"""Characters of a zone in which its SOA is looked for where many are listed; others may write them."""


def read_patch(name: str, body: bytes, now: int, most: int | None = None) -> list[Replacement]:
    """What the body of a PATCH asks for; raises InvalidSite, and Refusal, also where it sets more than `most` sets."""
    wanted = forms.replacements_of(name, parse_object(body), now)
    if most is not None and (number := sum(not one.removes for one in wanted)) > most:
        raise Refusal("too-large", f"This token may set {most} names in one request, not {number}.")
    return wanted


def edit(zone: Zone, replacements: Sequence[Replacement], most_challenges: int | None = None) -> Zone:
    """The zone after the replacements, an equal one where they change nothing; raises InvalidSite, also where they add
    to more challenges than `most_challenges`, or to one that is LARGEST then."""
    before = sets_of(zone)
    after = edited(before, replacements)
    if most_challenges is not None and (number := _challenges(after)) > max(most_challenges, _challenges(before)):
        text = f"would have {number} names {CHALLENGE}, more than the {most_challenges} that this token may add to"
        raise InvalidSite([Problem(f"zone.{zone.name}", f"{text}; delete those of certificates that have been issued")])
    if most_challenges is not None and any(_has_grown(before, after, one.name) for one in replacements):
        text = f"would have more than the {LARGEST} characters at one name that this token may set"
        raise InvalidSite([Problem(f"zone.{zone.name}", f"{text}; delete those of certificates that have been issued")])
    keep(after)
    return after.zone


def new_zone(name: str, body: bytes, now: int) -> Zone:
    """The zone that the body of a POST describes; raises InvalidSite. It has the name servers and record sets given, or
    is a zone file; without an SOA it gets one as PowerDNS makes it."""
    wanted, replacements = zone_forms.creation_of(name, parse_object(body), now)
    transfer = zone_forms.transfer_by(Zone(name), wanted.master_tsig_key_ids)
    own_key = next(iter(wanted.slave_tsig_key_ids), None)
    if wanted.is_secondary:
        return Zone(name, transfer=transfer, primaries=wanted.masters, primaries_tsig=own_key)
    if wanted.zone is not None:
        text = wanted.zone
    else:
        servers = [f"@ 3600 IN NS {server}" for server in wanted.nameservers or (zone_forms.NOWHERE,)]
        serial = time.strftime("%Y%m%d01", time.gmtime(now))
        first = wanted.nameservers[0] if wanted.nameservers else zone_forms.NOWHERE
        soa = f"@ 3600 IN SOA {first} hostmaster {serial} 10800 3600 604800 3600"
        text = "\n".join([soa, *servers, ""])
    before = read_sets(Zone(name, text))
    after = edited(before, replacements).zone if replacements else before.zone
    signed = Dnssec(enabled=True, denial=zone_forms.denial_by(Dnssec(), wanted.nsec3param))
    return replace(after, transfer=transfer, primaries_tsig=own_key, dnssec=signed if wanted.dnssec else None)


def exported(zone: Zone) -> str:
    """The records of a zone, one a line, as PowerDNS exports them: in the order of names, disabled ones left out."""
    sets = sorted(sets_of(zone).sets.values(), key=lambda one: (one.name.lower(), one.type_name))
    return "".join(
        f"{one.name.lower()}\t{entry.ttl}\tIN\t{one.type_name}\t{entry.content}\n"
        for one in sets
        for entry in one.served
    )


def found(_slowest: Zone, zones: Sequence[Zone], pattern: str, wanted: str, most: int, size: int) -> list[JsonObject]:
    """What in zones fits a pattern by name or content, at most so much, until it has a `size`; of the kind `wanted`, or
    all."""
    fits = re.compile(fnmatch.translate(pattern.replace("[", "[[]")), re.IGNORECASE)  # which never looks back far
    some: list[JsonObject] = []
    for zone in zones:
        with suppress(InvalidSite):  # one that cannot be read is found by no record
            for one in zone_forms.matches(zone, fits, wanted, sets_of):
                if len(some) >= most or size <= 0:
                    return some
                some.append(one)
                size -= size_of(one)
    return some


def size_of(one: JsonObject) -> int:
    """The characters of what was found, more or less."""
    return 256 + len(one.get("content", ""))


def shown_sets(zone: Zone, name: str | None, rtype: str | None) -> str:
    """The zone's record sets, of a name and of a type where these are given, as JSON; raises InvalidSite."""
    if not zone.text:  # it has yet to be transferred
        return "[]"
    return json.dumps(forms.rrsets(sets_of(zone), name, rtype), ensure_ascii=False)


def heads(_slowest: Zone, zones: Sequence[Zone]) -> str:
    """Zones as the list shows them, as JSON without brackets."""
    return json.dumps([forms.zone_head(z, near_serial(z, LISTED) or 0) for z in zones], ensure_ascii=False)[1:-1]


def _challenges(sets: ZoneSets) -> int:
    """How many names have challenges."""
    first = CHALLENGE.encode()
    return sum(owner[0] == first and rtype == TXT for owner, rtype in sets.sets)


def _has_grown(before: ZoneSets, after: ZoneSets, name: str) -> bool:
    """Whether a challenge has become longer, and too long."""
    key = labels_of(name), int(TXT)
    old, new = (
        sum(len(one.content) for one in sets.sets[key].entries) if key in sets.sets else 0 for sets in (before, after)
    )
    return new > max(LARGEST, old)
