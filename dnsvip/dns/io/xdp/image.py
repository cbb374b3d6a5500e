"""Templates, requesters and listeners as the DNS program has them in its maps (programs/dns_maps.h)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from ipaddress import ip_address
from struct import unpack
from sys import byteorder
from typing import NamedTuple

from dnsvip.address.ff1 import Ff1
from dnsvip.address.suffix import epoch_keys
from dnsvip.dns.dnssec.signatures import period
from dnsvip.dns.hotpath.ahead import Asked
from dnsvip.dns.hotpath.hits import AT
from dnsvip.dns.hotpath.marks import ALWAYS
from dnsvip.dns.hotpath.templates import Template
from dnsvip.dns.identity.identify import Ecs
from dnsvip.dns.listeners import Door
from dnsvip.dns.protection.rrl import kind_of
from dnsvip.dns.synthesis.issuer import Issuer, Recipe
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.zones.lookup import Owner
from dnsvip.xdp.maps import Map
from dnsvip.xdp.split_array import SplitArray
from dnsvip.xdp.structs import ObjectTypes, u64

OBJECT = PROGRAM = "dns"
TYPES = ObjectTypes(OBJECT)

_SHORT = 0xFFFF

LEFT = 0xFFFF_FFFF
"""In place of a record: the server identifies them."""


def bounds() -> dict[str, int]:
    """The bounds that both sides use, by their names in C."""
    return dict(TYPES.constants("dns_bounds"))


def reasons() -> dict[str, int]:
    """What packets are counted by, with its number."""
    return {word: number for word, number in TYPES.words("dns_reason", "DNS_").items() if word != "reasons"}


def split(outer: Map, value: str, each: str) -> SplitArray:
    """The arrays of a map of the program that has several, of values of this type; none where it has room for one."""
    size, number = TYPES.struct(value).size, bounds()[each]
    return SplitArray(outer, size, number, outer.max_entries if outer.max_entries > 1 else 0)


def asked_name(asked: Asked) -> bytes | None:
    """What a template is for; None for a name that is too long."""
    if len(asked.name) > bounds()["NAME_BYTES"]:
        return None
    name = asked.name.ljust(bounds()["NAME_BYTES"], b"\0")
    return TYPES.struct("asked_name").pack(
        name=name, type=asked.qtype.to_bytes(2, "big"), wants_signatures=int(asked.wants_signatures)
    )


def question_hash(asked: Asked, key: tuple[int, int]) -> int:
    """The hash of a question by a key, whose second number is odd (programs/dns.bpf.c)."""
    size = -(-len(asked.name) // 8)
    last = int.from_bytes(asked.qtype.to_bytes(2, "big"), byteorder) | int(asked.wants_signatures) << 16
    result, factor = key
    for word in (*unpack(f"={size}Q", asked.name.ljust(8 * size, b"\0")), last):
        result = (result ^ word) * factor & _LONG
        result = (result ^ result >> 29) * _FACTORS[1] & _LONG
        result ^= result >> 32
    return result


def left_to_the_server(name: bytes, owner: int, generation: int) -> bytes:
    """In place of a template for `asked_name`, whose hash is `owner`: there is none."""
    return TYPES.struct("template").pack_sparse(name=name, generation=generation, owner=owner, period=_period(ALWAYS))


class Fed(NamedTuple):
    """What the program has for a question: of which generation, when it was last asked for and until when it is used
    (unix seconds), and whether it is an answer or left to the server."""

    generation: int
    used: int
    until: int
    is_answer: bool

    @classmethod
    def of(cls, value: bytes) -> Fed:
        """By its value in the map."""
        generation, used, until, body = (int.from_bytes(value[at : at + size], "little") for at, size in _fed())
        return cls(generation, used, until, bool(body))


@cache
def _fed() -> Sequence[tuple[int, int]]:
    members = TYPES.struct("template").members
    generation, used, period, body = (members[name] for name in ("generation", "used", "period", "body"))
    until = TYPES.struct("dns_period").members["until"]
    return (
        (generation.offset, generation.size),
        (used.offset, used.size),
        (period.offset + until.offset, until.size),
        (body.offset, body.size),
    )


def _period(period: tuple[int, int]) -> bytes:
    since, until = period
    return TYPES.struct("dns_period").pack(since=since, until=until)


def template_value(
    asked: Asked, owner: int, template: Template, makers: Sequence[int], cell: int, zone: int, generation: int
) -> bytes | None:
    """The template for a question, whose hash is `owner` and whose holes these makers fill, counted by these numbers;
    None where it does not fit."""
    addresses, most = [LENGTH[hole.rtype] for hole in template.holes], bounds()
    signatures = [length for each in template.sets for length in each.lengths]
    lengths = [*addresses, *signatures]
    places = dict.fromkeys(range(len(lengths)), 0)
    body = template.pieces[0]
    for number, piece in zip(template.order or places, template.pieces[1:], strict=True):
        places[number] = len(body)
        body += bytes(lengths[number]) + piece
    if (
        not 0 < len(body) <= most["BODY_BYTES"]
        or len(addresses) > most["MAX_HOLES"]
        or len(signatures) > most["MAX_SIGNATURES"]
        or max(signatures, default=0) > most["SIGNATURE_BYTES"]
    ):
        return None
    hole, signature = TYPES.struct("dns_hole"), TYPES.struct("signature_hole")
    head = template.heads[0]
    return TYPES.struct("template").pack(
        name=asked_name(asked),
        generation=generation,
        used=0,
        owner=owner,
        size=template.size,
        beyond=min(template.beyond, _SHORT),
        body=len(body),
        cell=cell,
        zone=zone,
        kind=kind_hash(template.owner),
        sum=sum_of(body),
        flags=head[:2],
        counts=head[4:AT],
        by_edns=int(template.by_edns),
        holes=len(addresses),
        signatures=len(signatures),
        period=_period(template.period),
        hole=b"".join(
            hole.pack(at=places[n], length=length, maker=maker)
            for n, (length, maker) in enumerate(zip(addresses, makers, strict=True))
        ),
        signature=b"".join(
            signature.pack(at=places[len(addresses) + n], length=length, set=set_number(asked, generation, n))
            for n, length in enumerate(signatures)
        ),
        data=body,
    )


def kind_hash(owner: Owner | None) -> int:
    """What stands for a kind of answers in the accounts of the rate limit."""
    return int.from_bytes(blake2b(kind_of(owner), digest_size=8).digest(), "big")


def set_number(asked: Asked, generation: int, number: int) -> int:
    """What stands for a signature by its number in the answer to a question, in one generation of names."""
    said = asked.name + asked.qtype.to_bytes(2, "big") + generation.to_bytes(8, "big") + bytes((number,))
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "big")


def signed_set(number: int, addresses: Sequence[bytes]) -> bytes:
    """The key of a signature of these addresses (4 or 16 bytes each)."""
    return TYPES.struct("signed_set").pack(set=number, address=b"".join(each.ljust(16, b"\0") for each in addresses))


def signature(key: bytes, data: bytes) -> bytes:
    """A signature, by the data of its record."""
    return TYPES.struct("signature").pack(
        owner=hash_of(key), period=_period(period(data)), length=len(data), sum=sum_of(data), data=data
    )


def sum_of(data: bytes) -> int:
    """The sum of the 16-bit words in the order of memory (RFC 1071 section 2)."""
    words: tuple[int, ...] = unpack(f"={(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total > _SHORT:
        total = (total & _SHORT) + (total >> 16)
    return total


def requester(source: bytes, listener: int, ecs: Ecs | None, maker: int) -> bytes:
    """The key of what is ready for a source (4 or 16 bytes) that asks at a listener with an ECS option."""
    return TYPES.struct("requester").pack(
        source=source.rjust(16, b"\0"),
        ecs=ecs.address.packed.ljust(16, b"\0") if ecs else b"",
        maker=maker,
        listener=listener,
        version=4 if len(source) == 4 else 6,
        family=_FAMILY[ecs.address.version] if ecs else 0,
        bits=ecs.source_prefix if ecs else 0,
    )


_FAMILY = {4: 1, 6: 2}


def hash_of(key: bytes) -> int:
    """The hash of a key of 40 bytes, by which its record is known for its own (programs/dns_signatures.h)."""
    words: tuple[int, ...] = unpack("=5Q", key)
    return sum(word * factor for word, factor in zip(words, _FACTORS, strict=True)) & _LONG


_FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD)
_LONG = 0xFFFF_FFFF_FFFF_FFFF


def ready(
    key: bytes, address: bytes, made: tuple[Issuer, Recipe] | None, scope: int, cell: int, generation: int
) -> bytes:
    """For the requester of a key: an address that stays, or what those of all slots are made of; the ECS scope that the
    answer needs, and where it is counted."""
    fields: dict[str, int | bytes] = {"owner": owner_of(key, generation), "cell": cell, "scope": scope}
    if made is None:
        fields["address"] = address.ljust(16, b"\0")
        return TYPES.struct("ready").pack_sparse(made=_made(fields))
    issuer, recipe = made
    return TYPES.struct("ready").pack_sparse(
        made=TYPES.struct("made").pack_sparse(**fields, renew=issuer.cluster.renew_seconds),
        payload=wide(recipe.payload),
        hashed=recipe.hashed.ljust(32, b"\0"),
    )


def owner_of(key: bytes, generation: int) -> int:
    """What stands for the requester of a key in a generation of addresses (programs/dns_signatures.h)."""
    return hash_of(key) ^ generation * 0x9FB21C651E98DF25 & _LONG


def _made(fields: Mapping[str, int | bytes]) -> bytes:
    """An address that stays, with its check (programs/seal.h)."""
    made = TYPES.struct("made")
    first, second, owner = unpack("=3Q", made.pack_sparse(**fields)[:24])
    counted = int(fields["cell"]) << 8 | int(fields["scope"])
    mixed = (first * _FACTORS[0] ^ second * _FACTORS[1] ^ counted * _FACTORS[2] ^ owner) & _LONG
    return made.pack_sparse(**fields, check=(mixed ^ mixed >> 32) & 0xFFFF_FFFF)


def maker(issuer: Issuer, cipher: int, generation: int) -> bytes:
    """What makes a cluster's addresses under its active epoch, with an AES context."""
    cluster, epoch = issuer.cluster, issuer.epoch
    layout = cluster.address_layout
    keys = epoch_keys(epoch.secret, layout)
    shifts = {
        name: layout.pack({n: int(n == name) for n, _ in layout.fields}).bit_length() - 1 for name, _ in layout.fields
    }
    session_key, session_mask, session_shift = issuer.session_of
    return TYPES.struct("maker").pack(
        base=wide(layout.prefix_int | epoch.slot << layout.epoch_shift),
        plain=wide(int(cluster.plain)),
        suffix=wide((1 << layout.host_bits) - 1),
        mid=wide(Ff1(keys.encryption, layout.payload_bits).constant_block),
        nonce_key=issuer.nonce_key,
        tag_key=keys.tag,
        activated=epoch.activated_at,
        generation=generation,
        cipher=cipher,
        renew=cluster.renew_seconds,
        ttl=cluster.ttl,
        expiry_unit=cluster.expiry_unit,
        bits=layout.payload_bits,
        payload_shift=layout.payload_shift,
        tag_bits=layout.tag_bits,
        nonce_bits=layout.bits("nonce"),
        nonce_shift=shifts.get("nonce", 0),
        expiry_bits=layout.bits("expiry"),
        expiry_shift=shifts.get("expiry", 0),
        session_shift=session_shift,
        session_mask=session_mask,
        session_key=session_key,
    )


def wide(number: int) -> bytes:
    """A `struct wide`: a number of 128 bits."""
    return u64(number >> 64) + u64(number & (1 << 64) - 1)


def leave(key: bytes, generation: int) -> bytes:
    """What is ready for whom a guarded listener answers."""
    return TYPES.struct("ready").pack_sparse(made=_made({"owner": owner_of(key, generation), "cell": 0, "scope": 0}))


def otherwise(record: int, *, looks: bool, step: int) -> bytes:
    """Whom a step finds where no prefix is: the number of a record, whether the step looks at all, and whose cell
    counts."""
    return TYPES.struct("otherwise").pack(record=record, looks=int(looks), step=step)


def identity(
    generation: int,
    owners: int,
    trees: Sequence[tuple[int, int]],
    trusted: Sequence[tuple[int, int]],
    sources: Sequence[bytes],
) -> bytes:
    """How requesters are identified that have not asked before: the record of owner 0, the root and levels of each
    tree and of those of the networks whose ECS is believed, and what holds for those without ECS at each listener
    (`otherwise`); at others the server identifies them."""
    tree = TYPES.struct("run_tree")
    left = otherwise(LEFT, looks=False, step=0)
    return TYPES.struct("identity").pack(
        generation=generation,
        owners=owners,
        tree=b"".join(tree.pack(page=page, levels=levels) for page, levels in trees),
        trusted=b"".join(tree.pack(page=page, levels=levels) for page, levels in trusted),
        source=b"".join(sources) + left * (bounds()["MAX_LISTENERS"] - len(sources)),
    )


def resolver(source: bytes, listener: int, otherwise: bytes, generation: int) -> tuple[bytes, bytes]:
    """Key and value of what the ECS options of a source (4 or 16 bytes) say at a listener."""
    key = TYPES.struct("resolver_key").pack(
        source=source.rjust(16, b"\0"), listener=listener, version=4 if len(source) == 4 else 6
    )
    words: tuple[int, ...] = unpack("=3Q", key)
    owner = sum(word * factor for word, factor in zip(words, _FACTORS, strict=False)) & _LONG | 1
    return key, TYPES.struct("resolver").pack(owner=owner, generation=generation, otherwise=otherwise)


def guard_of(door: Door | None) -> int:
    """Whom a listener answers (`enum door_guard`)."""
    return TYPES.words("door_guard", "GUARD_")["none" if door is None else "known" if door.known else "networks"]


def door(address: str, port: int) -> bytes:
    """The key of an address that is answered on."""
    packed = ip_address(address).packed
    return TYPES.struct("door_key").pack(
        address=packed.rjust(16, b"\0"), port=port.to_bytes(2, "big"), version=4 if len(packed) == 4 else 6
    )
