"""The epochs of one cluster: which key encodes now, which keys still decode (address/README.md, "Epochs")."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dnsvip.address.layout import EPOCH_SLOTS, Layout
from dnsvip.address.suffix import EpochKeys, SuffixCodec
from dnsvip.errors import CodecError


class EpochState(StrEnum):
    """State of an epoch. A retired epoch has no key and is not in the keyring."""

    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One generation of key material. Times are unix seconds, 0 before the event.

    It is accepted for at least `keep_seconds` after `retiring_since`: the largest TTL + session_lifetime while it was
    active.
    """

    slot: int
    state: EpochState
    secret: bytes = field(repr=False)
    published_at: int = 0
    published_generation: int = 0
    activated_at: int = 0
    retiring_since: int = 0
    keep_seconds: int = 0

    @property
    def key_id(self) -> str:
        """Identifies this key among all others, whatever their slot, without revealing the secret."""
        return hashlib.sha256(b"dnsvip epoch key " + self.secret).hexdigest()[:16]


class Keyring:
    """The codecs of a cluster by epoch slot. Immutable. `keys`, by slot, are in place of the epochs' secrets.

    Raises CodecError where two epochs share a slot or more than one is active.
    """

    __slots__ = ("_by_slot", "active", "epochs", "layout")

    def __init__(self, layout: Layout, epochs: Iterable[Epoch], keys: Mapping[int, EpochKeys] | None = None) -> None:
        self.layout = layout
        self.epochs = tuple(sorted(epochs, key=lambda epoch: epoch.slot))
        self._by_slot: list[tuple[Epoch, SuffixCodec] | None] = [None] * EPOCH_SLOTS
        self.active: tuple[Epoch, SuffixCodec] | None = None
        for epoch in self.epochs:
            held = keys[epoch.slot] if keys else epoch.secret
            self._add(epoch, SuffixCodec(layout, held, epoch.slot))

    def _add(self, epoch: Epoch, codec: SuffixCodec) -> None:
        if self._by_slot[epoch.slot] is not None:
            raise CodecError(f"epoch slot {epoch.slot} is used twice")
        self._by_slot[epoch.slot] = (epoch, codec)
        if epoch.state is EpochState.ACTIVE:
            if self.active is not None:
                raise CodecError(f"epochs {self.active[0].slot} and {epoch.slot} are both active")
            self.active = (epoch, codec)

    def at(self, slot: int) -> tuple[Epoch, SuffixCodec] | None:
        """The epoch in a slot and its codec; None where the slot is empty or retired."""
        return self._by_slot[slot]

    def of(self, address: int) -> tuple[Epoch, SuffixCodec] | None:
        """The epoch that an address names; None as in `at`."""
        return self._by_slot[address >> self.layout.epoch_shift & 3]
