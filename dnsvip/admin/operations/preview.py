"""/clusters/NAME/preview: what addresses of a cluster would be like, before it is stored. It changes nothing.

The address is made by the code that answers, under a key made for this answer and forgotten: no dispatcher accepts it.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address, ip_network

from aiohttp import web

from dnsvip.address.layout import Layout
from dnsvip.address.suffix import SECRET_BYTES, SuffixCodec, is_reserved
from dnsvip.admin.http import bodies
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Cluster
from dnsvip.site.plain import JsonObject, parse
from dnsvip.site.rotation import field_seconds, rotation_seconds

FIELDS = (
    *("prefix", "plain", "layout", "tag_bits", "claims", "source"),
    *("expiry_unit", "ttl", "renew", "session_lifetime", "rotate_every"),
)
"""What an address, its expiry and the rotation of keys follow from; all else in a body is left alone."""

TRIES = 16
"""Payloads tried where an address must never be issued."""

CLIENT = 1001
"""The client id of the example, or the greatest that fits."""


@dataclass(frozen=True, slots=True)
class Preview:
    """An example address with the values in it, and what follows from the widths: a forged issued address passes once
    in 2^`tag_bits`, a forged proven one, of those that a flood gets through the cheap check, once in 2^`proof_bits`;
    new addresses have an expiry for `expiry_seconds` after a rotation, and keys rotate every `rotation_seconds`."""

    address: str
    values: dict[str, int]
    tag_bits: int
    proof_bits: int
    expiry_seconds: int | None
    rotation_seconds: int | None


async def preview(request: web.Request) -> web.Response:
    """What addresses of a cluster would be like. The body is that of a PUT; what they do not depend on may be missing,
    and the plain address."""
    cluster = _cluster(request.match_info["name"], await bodies.read_object(request))
    layout = cluster.address_layout
    values, address = _example(layout, int(cluster.plain))
    lasts, rotates = field_seconds(cluster), rotation_seconds(cluster)
    shown = Preview(str(IPv6Address(address)), values, layout.tag_bits, layout.proof_bits, lasts, rotates)
    return bodies.answer(asdict(shown))


def _cluster(name: str, body: JsonObject) -> Cluster:
    """The cluster as far as it is entered; raises InvalidSite."""
    known = {key: body[key] for key in FIELDS if body.get(key) is not None}
    known = {"plain": _second(known.get("prefix")), "default_tier": "default", **known}
    cluster = parse("cluster", name, known)
    if not isinstance(cluster, Cluster):
        raise InvalidSite([Problem(f"cluster.{name}.prefix", "is of IPv4, whose addresses carry no fields")])
    return cluster


def _second(prefix: object) -> str:
    """The second address of a prefix, such as a plain address usually is."""
    try:
        return str(ip_network(str(prefix))[1])
    except (ValueError, IndexError):
        return "::1"


def _example(layout: Layout, plain: int) -> tuple[dict[str, int], int]:
    """Values that fit the layout, and an address that may be issued for them."""
    codec = SuffixCodec(layout, secrets.token_bytes(SECRET_BYTES), 0)
    values, address = {}, plain
    for _ in range(TRIES):
        values = {name: _value(name, bits) for name, bits in layout.fields}
        address = codec.encode(values)
        if not is_reserved(layout, address, plain):
            break
    return values, address


def _value(name: str, bits: int) -> int:
    usual = {"client": CLIENT, "nonce": secrets.randbits(bits), "session": secrets.randbits(bits)}
    return min(usual.get(name, 1), (1 << bits) - 1)


ROUTES = [Operation("POST", f"{ROOT}/clusters/{{name}}/preview", preview, "cluster", answer=Preview, body=JsonObject)]
