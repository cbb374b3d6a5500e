"""The record sets of the zones that a process has read last, so that edits in a row read a zone once."""

from __future__ import annotations

from collections import OrderedDict

from dnsvip.dns.zones.sets import ZoneSets, read_sets
from dnsvip.site import Zone

KEPT, KEPT_TEXT = 2, 1 << 20
"""Zones whose sets are remembered, and the characters of a text from which on that would take too much memory."""

_known: OrderedDict[str, ZoneSets] = OrderedDict()


def sets_of(zone: Zone) -> ZoneSets:
    """The sets of a zone, as `read_sets`, which are remembered."""
    known = _known.get(zone.name)
    if known is None or known.zone != zone:
        known = read_sets(zone)
        keep(known)
    return known


def keep(zone: ZoneSets) -> None:
    """Remember the sets of a zone."""
    _known.pop(zone.zone.name, None)
    if len(zone.zone.text) <= KEPT_TEXT:
        _known[zone.zone.name] = zone
    while len(_known) > KEPT:
        _known.popitem(last=False)
