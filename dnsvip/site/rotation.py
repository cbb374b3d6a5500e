"""When a cluster's keys rotate, and how long its expiry field lasts (address/README.md, "Epochs"). Pure.

The field counts from the activation of the epoch. Once it is full, an address can only say "as long as the epoch" and
no longer expires by itself. Rotation is due before that, unless the site says `rotate_every = "never"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from dnsvip.address.keyring import Epoch
from dnsvip.errors import Problem
from dnsvip.site.clusters import Cluster

DAY = 86_400

LONGEST = 30 * DAY
"""The default of `rotate_every`, in seconds, where the expiry field lasts longer."""

SPARE = 32
"""Rotation is due when 1/SPARE of the field is left: dispatchers must have taken the new key before it is full."""


class ExpiryField(StrEnum):
    """What is left of the expiry field of an active epoch. NEAR: rotation is late, and half of its spare time gone."""

    FINE = "fine"
    NEAR = "near"
    FULL = "full"


def least_rotation(cluster: Cluster) -> int:
    """The least seconds between two epochs: of the four key slots one encodes and one holds the next key, which leaves
    two for retiring keys."""
    return max(1, -(-(cluster.ttl + cluster.session_lifetime) // 2))


def field_seconds(cluster: Cluster) -> int | None:
    """For how long after an epoch's activation every new address can have an expiry; None without such a field.

    The highest value has another meaning, and the field must hold an address that is renewed last and lives for a TTL.
    """
    layouts = [cluster.layout, *([cluster.source.layout] if cluster.source else [])]
    widths = [bits for layout in layouts for name, bits in layout if name == "expiry"]
    if not widths:
        return None
    bits = min(widths)
    return max(0, ((1 << bits) - 2) * cluster.expiry_unit - cluster.renew_seconds - cluster.ttl)


def rotation_seconds(cluster: Cluster) -> int | None:
    """The seconds between two epochs: `rotate_every`, or less where the expiry field needs it; None where keys rotate
    on request only."""
    lasts, wanted = field_seconds(cluster), cluster.rotate_every
    if wanted == "never":
        return None
    if lasts is None:
        return wanted
    return max(least_rotation(cluster), min(wanted or LONGEST, lasts - lasts // SPARE))


def full_at(cluster: Cluster, active: Epoch) -> int | None:
    """The unix second from which new addresses of an epoch do not expire by themselves; None without the field."""
    lasts = field_seconds(cluster)
    return None if lasts is None else active.activated_at + lasts


def expiry_field(cluster: Cluster, active: Epoch, now: float) -> ExpiryField:
    """What is left of the expiry field at `now` (unix seconds); FINE without one."""
    lasts = field_seconds(cluster)
    if lasts is None:
        return ExpiryField.FINE
    left = active.activated_at + lasts - now
    if left <= 0:
        return ExpiryField.FULL
    return ExpiryField.NEAR if left < lasts / SPARE / 2 else ExpiryField.FINE


def remarks(cluster: Cluster) -> Iterator[Problem]:
    """What is allowed of a cluster's rotation but needs to be known."""
    where, lasts, due = f"cluster.{cluster.name}.rotate_every", field_seconds(cluster), rotation_seconds(cluster)
    if cluster.rotate_every == "never":
        after = (
            ""
            if lasts is None
            else f"; {in_words(lasts)} after a rotation new addresses no longer expire by themselves"
        )
        yield Problem(where, f"is never: keys rotate only by `dnsvip keys rotate {cluster.name}`{after}")
    elif lasts is None or due is None:
        return
    elif due > lasts:
        text = f"the expiry field is full after {in_words(lasts)}, and keys cannot rotate before {in_words(due)}"
        yield Problem(where, f"{text}; widen the field, or raise expiry_unit")
    elif cluster.rotate_every is None:
        text = f"is not set: keys rotate every {in_words(due)}, before the expiry field is full"
        yield Problem(where, f"{text}; set it to {due} or less, or to never")
    elif cluster.rotate_every > due:
        yield Problem(
            where, f"{cluster.rotate_every} is longer than the expiry field lasts: keys rotate every {due} seconds"
        )


def in_words(seconds: float) -> str:
    """A duration in its two largest units: "1 d 6 h"."""
    left, parts = round(seconds), []
    for unit, size in (("d", DAY), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"
