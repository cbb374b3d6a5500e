"""What a client itself says of a flow: claims in its address, in a flow label, and in an address of its own.

The three are read with keys that only the dispatcher and that client, or the DNS server, have (address/README.md, from
"Claims" on). Pure: it knows no packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dnsvip.address.fields import Shifts, shifts_of
from dnsvip.address.keyring import Epoch, Keyring
from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, claims_of
from dnsvip.address.source import SourceCodec, SourceFormat, source_epoch
from dnsvip.dispatcher.verify.payload import Payload, allowed_numbers, are_allowed
from dnsvip.site import Cluster, Tier


class Speaker(NamedTuple):
    """Who says something, as the functions of a proof take it: key, binding, source and port."""

    key: bytes
    bind: Bind
    source: int
    port: int


class Said(NamedTuple):
    """The values of a payload with what its client says; whether a claim in its address is in no table of values,
    whether its label is no claim."""

    values: Mapping[str, int]
    invalid: bool = False
    label_ignored: bool = False


class CompiledClaims:
    """The claims of one cluster in addresses and flow labels, compiled."""

    def __init__(self, cluster: Cluster, layout: Layout) -> None:
        self._layout, self._label = layout, cluster.label_format
        self._shifts = shifts_of(layout.claims)
        self._allowed = allowed_numbers(cluster, layout.claims)
        self._label_shifts = shifts_of(self._label.claims) if self._label else ()
        self._label_allowed = allowed_numbers(cluster, self._label.claims) if self._label else []

    @property
    def reads_labels(self) -> bool:
        """Whether flow labels say anything here."""
        return self._label is not None

    def said(
        self,
        values: Mapping[str, int],
        address: int,
        label: int,
        speaker: Speaker | None,
        slot: int | None,
        slots: Iterable[int],
    ) -> Said:
        """What a flow to `address`, whose payload has these values, with a flow label (0: none) says. The proof holds
        for `slot`, None without one; a label may be of any of `slots`. Without a speaker its key is not known here."""
        form, shifts = self._label, self._shifts
        if shifts and slot is not None and speaker is not None:
            claims = claims_of(self._layout, address, *speaker, slot)
            values = _with(values, shifts, claims)
            if not are_allowed(self._allowed, values):
                return Said(values, invalid=True)
        if form is None or not label:
            return Said(values)
        heard = form.read(label, address, *speaker, slots) if speaker else None
        if heard is None:
            return Said(values, label_ignored=True)
        told = _with(values, self._label_shifts, heard)
        return Said(told) if are_allowed(self._label_allowed, told) else Said(values, label_ignored=True)


def _with(values: Mapping[str, int], shifts: Shifts, claims: int) -> dict[str, int]:
    """Values with those of claims."""
    told = {**values}
    for name, shift, top in shifts:
        told[name] = claims >> shift & top
    return told


class CompiledSource:
    """Clients' own addresses that one cluster reads, compiled."""

    def __init__(
        self, cluster: Cluster, form: SourceFormat, keyring: Keyring | None, tiers: Mapping[str, Tier]
    ) -> None:
        self.payload = Payload(cluster, form.fields, tiers)
        self._form = form
        epochs = keyring.epochs if keyring else ()
        self._by_slot = {
            epoch.slot: (epoch, SourceCodec(form, epoch.secret, epoch.slot)) for epoch in epochs if epoch.secret
        }

    def read(self, source: int) -> tuple[Epoch, dict[str, int]] | None:
        """The epoch and the values of a source address; None where it is not authentic, and so no information."""
        slot = source_epoch(source)
        entry = None if slot is None else self._by_slot.get(slot)
        if entry is None or not entry[1].authentic(source):
            return None
        epoch, codec = entry
        return epoch, self._form.unpack(codec.open(source))
