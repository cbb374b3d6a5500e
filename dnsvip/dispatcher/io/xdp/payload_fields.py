"""Where the kernel program finds the fields of a payload.

That of an encoded VIP has claims below its layout, and those of the flow label below them; a client's own address has
a layout alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TypeAlias

from dnsvip.address.fields import Fields, shifts_of
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.site import Cluster

IN_VIP, IN_SOURCE = "vip", "source"
"""Whose payload it is (enum carrier)."""

Parts: TypeAlias = tuple[Fields, Fields, Fields]
"""The fields of a layout, of claims, and of labels."""

Places: TypeAlias = Mapping[str, tuple[int, int]]
"""Shift and width of each field, in bits."""

NOWHERE = (0, 0)


def carried(cluster: Cluster) -> tuple[Parts, Parts]:
    """What each carrier of a cluster carries, in the order of enum carrier."""
    label, own = cluster.label, cluster.source
    return (cluster.layout, cluster.claims, label.claims if label else ()), (own.layout if own else (), (), ())


def places_of(parts: Parts) -> Places:
    """The places of all fields, the first in the most significant bits."""
    return {name: (shift, top.bit_length()) for name, shift, top in shifts_of(tuple(chain(*parts)))}


def field_at(place: tuple[int, int] | None, table: int = 0) -> bytes:
    """A `struct field`; of no bits where there is none."""
    shift, bits = place or NOWHERE
    return TYPES.struct("field").pack(shift=shift, bits=bits, table=table if place else 0)
