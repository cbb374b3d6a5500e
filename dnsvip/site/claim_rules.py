"""The rules of what clients themselves say: claims, flow labels, source addresses."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.address.layout import SHORT_TAG_BITS
from dnsvip.errors import Problem
from dnsvip.site.choices import NonceOf
from dnsvip.site.clusters import Cluster

SHORT_NONCE_BITS = 16
"""Below that a client's answers have a nonce in common after some hundreds."""


def check_said(where: str, cluster: Cluster) -> Iterator[Problem]:
    """The problems of what clients of a cluster say."""
    layout, claims = dict(cluster.layout), dict(cluster.claims)
    for name in dict(cluster.label.claims if cluster.label else ()):
        other = "layout" if name in layout else "claims" if name in claims else ""
        if other:
            text = f"{name!r} is in {other} too: the names in layout, claims and label are all different"
            yield Problem(f"{where}.label.claims", text)
    if cluster.nonce is NonceOf.ANSWER and "nonce" not in layout:
        yield Problem(
            f"{where}.nonce", 'needs a field "nonce" in the layout: there is none to differ from answer to answer'
        )
    if "client" not in layout:
        text = 'needs a field "client" in the layout: a claim is made with the key of the client that it names'
        yield from (Problem(f"{where}.{key}", text) for key in ("claims", "label") if getattr(cluster, key))


def said_remarks(cluster: Cluster) -> Iterator[Problem]:
    """What is allowed of a cluster's nonces, labels and source addresses but probably a mistake."""
    nonce = dict(cluster.layout).get("nonce", SHORT_NONCE_BITS)
    if cluster.nonce is NonceOf.ANSWER and nonce < SHORT_NONCE_BITS:
        text = f"a client has {1 << nonce} addresses, and answers repeat soon; use {SHORT_NONCE_BITS} bits or more"
        yield Problem(f"cluster.{cluster.name}.nonce", text)
    if cluster.source is not None and cluster.source.tag_bits < SHORT_TAG_BITS:
        odds = 1 << cluster.source.tag_bits
        text = f"one forged address in {odds} passes; use {SHORT_TAG_BITS} or more"
        yield Problem(f"cluster.{cluster.name}.source.tag_bits", text)


def fields_called(name: str, cluster: Cluster) -> list[int]:
    """The widths of the fields with this name, in layout, claims, label and source addresses, narrowest first."""
    source = cluster.source.layout if cluster.source else ()
    places = (cluster.layout, cluster.claims, cluster.label.claims if cluster.label else (), source)
    return sorted(bits for fields in places for known, bits in fields if known == name)
