"""Request and response forms of PowerDNS's API: bodies as replacements, zones and record sets as JSON, zone ids.

Bodies are read as PowerDNS 4.7 reads them: unknown keys are ignored, `changetype` is case-insensitive, a TTL may be a
string, and `records` or `comments` that are not lists count as absent. Values that PowerDNS would misread are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from dnsvip import __version__
from dnsvip.admin.http.operation import ROOT, adapter
from dnsvip.dns.zones.edit import How, Replacement
from dnsvip.dns.zones.sets import Comment, RecordSet, ZoneSets
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import DnssecDenial, Zone
from dnsvip.site.plain import JsonObject, problem_of

SERVERS = f"{ROOT}/servers"
SERVER = f"{SERVERS}/localhost"
COMPATIBLE = "4.7.3"
"""The PowerDNS whose API this is. Clients choose by it what they send, and take nothing but numbers and dots."""

T = TypeVar("T")
DNS_PORT = 53
NSEC3 = "1 0 0 -"
"""The parameters of NSEC3 here: SHA-1, no opt-out, no further iterations, no salt (RFC 9276)."""

LOOSE = ConfigDict(extra="ignore")  # priorities of old versions, set-ptr: what others send along
LONGEST = 1 << 18
"""Characters in a content: 65,535 bytes, each as an escape."""


def _whole(value: Any) -> Any:
    """A number as JSON or a string of digits has it; anything else is left for the type to refuse."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value) else value


def listed(value: Any) -> Any:
    """A list; None for anything else."""
    return value if isinstance(value, list) else None


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _flag(value: Any) -> Any:
    return False if value is None else value


@dataclass(frozen=True, slots=True)
class RecordBody:
    """One record."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    content: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    disabled: Annotated[bool, Field(strict=True), BeforeValidator(_flag)] = False


@dataclass(frozen=True, slots=True)
class CommentBody:
    """A comment on a record set."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    content: Annotated[str, Field(max_length=65_535)]
    account: Annotated[str, Field(max_length=255)]
    modified_at: Annotated[int, BeforeValidator(_whole)] | None = None


@dataclass(frozen=True, slots=True)
class RRsetBody:
    """How a record set is to change."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    name: Annotated[str, Field(max_length=1024, pattern=r"\.$")]
    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,16}$")]
    changetype: Annotated[Literal["REPLACE", "DELETE", "EXTEND", "PRUNE"], BeforeValidator(_upper)]
    ttl: Annotated[int, Field(ge=0, le=(1 << 31) - 1), BeforeValidator(_whole)] | None = None
    records: Annotated[tuple[RecordBody, ...] | None, BeforeValidator(listed)] = None
    comments: Annotated[tuple[CommentBody, ...] | None, BeforeValidator(listed)] = None


@dataclass(frozen=True, slots=True)
class Patching:
    """The changes of a PATCH."""

    __pydantic_config__: ClassVar[ConfigDict] = LOOSE
    rrsets: tuple[RRsetBody, ...]


def replacements_of(zone: str, body: JsonObject, now: int) -> list[Replacement]:
    """What a PATCH of a zone asks for; raises InvalidSite. Comments without a time get `now`, in unix seconds."""
    patching = validated(zone, Patching, {**body, "rrsets": _relevant(body.get("rrsets"))})
    if problems := [problem for rrset in patching.rrsets for problem in _missing(zone, rrset)]:
        raise InvalidSite(problems)
    return [_replacement(rrset, now) for rrset in patching.rrsets]


def validated(zone: str, form: type[T], body: JsonObject) -> T:
    """A body in its form; raises InvalidSite."""
    try:
        value: T = adapter(form).validate_python(body)
    except ValidationError as error:
        raise InvalidSite([problem_of(f"zone.{zone}", form, item) for item in error.errors()]) from None
    return value


def _relevant(rrsets: Any) -> Any:
    """What PowerDNS looks at of the sets: a DELETE is about a name and a type, and a TTL is one of records."""
    if not isinstance(rrsets, list):
        return rrsets
    return [_relevant_keys(rrset) if isinstance(rrset, dict) else rrset for rrset in rrsets]


def _relevant_keys(rrset: JsonObject) -> JsonObject:
    if _upper(rrset.get("changetype")) == "DELETE":
        return {key: rrset[key] for key in rrset if key in ("name", "type", "changetype")}
    with_records = isinstance(rrset.get("records"), list)
    return {key: rrset[key] for key in rrset if key != "ttl" or with_records}


def _missing(zone: str, rrset: RRsetBody) -> Iterator[Problem]:
    where = f"zone.{zone}.{rrset.name}.{rrset.type}"
    if rrset.changetype == "REPLACE" and rrset.records is None and rrset.comments is None:
        yield Problem(where, "has neither records nor comments; nothing would change")
    if rrset.changetype in HOW and not rrset.records:
        yield Problem(f"{where}.records", "is missing")
    if rrset.changetype == "REPLACE" and rrset.records is not None and rrset.ttl is None:
        yield Problem(f"{where}.ttl", "is missing")


def _replacement(rrset: RRsetBody, now: int) -> Replacement:
    rtype = rrset.type.upper()
    if rrset.changetype == "DELETE":
        return Replacement(rrset.name, rtype, 0, (), ())
    records = None if rrset.records is None else tuple((one.content, one.disabled) for one in rrset.records)
    comments = None if rrset.comments is None else tuple(_comment(one, now) for one in rrset.comments)
    if rrset.changetype in HOW:
        return Replacement(rrset.name, rtype, rrset.ttl, records, comments, HOW[rrset.changetype])
    return Replacement(rrset.name, rtype, rrset.ttl or 0, records, comments)


HOW = {"EXTEND": How.MORE, "PRUNE": How.LESS}
"""Change types that PowerDNS 5 has for single records."""


def _comment(one: CommentBody, now: int) -> Comment:
    return Comment(one.content, one.account, now if one.modified_at is None else one.modified_at)


def zone_id(name: str) -> str:
    """A zone's id: absolute, and what is not a letter, digit, dot or dash as `=XX`."""
    dotted = f"{name.rstrip('.')}."
    return "=2E" if dotted == "." else re.sub(r"[^A-Za-z0-9.-]", lambda odd: f"={ord(odd[0]):02X}", dotted)


def zone_of_id(text: str) -> str:
    """The name that an id stands for; names that need no `=XX` may be written as they are."""
    return re.sub(r"=([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), text)


def server() -> JsonObject:
    """The one server there is."""
    return {
        "type": "Server",
        "id": "localhost",
        "daemon_type": "authoritative",
        "version": COMPATIBLE,
        "product": f"dnsvip {__version__}",
        "url": SERVER,
        "config_url": f"{SERVER}/config{{/config_setting}}",
        "zones_url": f"{SERVER}/zones{{/zone}}",
    }


def zone_head(zone: Zone, serial: int) -> JsonObject:
    """A zone as the list shows it, with the serial of its SOA."""
    key = zone_id(zone.name)
    numbers = {"serial": serial, "edited_serial": serial, "notified_serial": serial, "last_check": 0}
    names = {
        "id": key,
        "name": f"{zone.name.rstrip('.')}.",
        "type": "Zone",
        "kind": "Slave" if zone.is_secondary else "Native",
    }
    return {
        **names,
        "url": f"{SERVER}/zones/{key}",
        **numbers,
        "account": "",
        "catalog": "",
        "dnssec": zone.is_signed,
        "masters": [primary.removesuffix(f":{DNS_PORT}") for primary in zone.primaries],
    }


def zone_details(zone: Zone, serial: int) -> JsonObject:
    """A zone by itself, without its record sets."""
    sent = zone.transfer.tsig if zone.transfer else None
    keys: JsonObject = {
        "master_tsig_key_ids": [f"{sent}."] if sent else [],
        "slave_tsig_key_ids": [f"{zone.primaries_tsig}."] if zone.primaries_tsig else [],
    }
    hashed = zone.is_signed and zone.dnssec is not None and zone.dnssec.denial is DnssecDenial.NSEC3
    proofs = {"nsec3narrow": hashed, "nsec3param": NSEC3 if hashed else ""}
    rules = {"api_rectify": False, **proofs, "soa_edit": "", "soa_edit_api": "DEFAULT"}
    return {**zone_head(zone, serial), **keys, **rules}


def rrsets(zone: ZoneSets, name: str | None, rtype: str | None) -> list[JsonObject]:
    """The record sets of a zone as JSON: those of a name and of a type where these are given."""
    wanted = None if name is None else f"{name.lower().rstrip('.')}."
    return [
        _rrset(record_set)
        for record_set in zone.sets.values()
        if (wanted is None or record_set.name.lower() == wanted)
        and (rtype is None or rtype.upper() == record_set.type_name)
    ]


def _rrset(record_set: RecordSet) -> JsonObject:
    records = [{"content": entry.content, "disabled": entry.disabled} for entry in record_set.entries]
    comments = [asdict(comment) for comment in record_set.comments]
    return {
        "name": record_set.name.lower(),
        "type": record_set.type_name,
        "ttl": record_set.ttl,
        "records": records,
        "comments": comments,
    }
