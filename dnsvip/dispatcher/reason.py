"""The outcomes of judging an address, as values; each outcome has its own counter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dnsvip.site import Tier


class Reason(StrEnum):
    """Why an address is judged as it is, in the order of decoding (address/README.md)."""

    NOT_OURS = "not-ours"
    PLAIN = "plain"
    CLASS = "class"
    UNKNOWN_EPOCH = "unknown-epoch"
    BAD_TAG = "bad-tag"
    BAD_PAYLOAD = "bad-payload"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNPROVEN = "unproven"
    BAD_PROOF = "bad-proof"
    REPLAYED = "replayed"
    ISSUED = "issued"
    PROVEN = "proven"


ACCEPTED = frozenset({Reason.PLAIN, Reason.CLASS, Reason.ISSUED, Reason.PROVEN})
"""The reasons of addresses that are good as they stand."""


@dataclass(frozen=True, slots=True)
class AddressVerdict:
    """What an address is and what becomes of a new flow to it.

    `tier` is the one to use, None where the packet is to be dropped or (NOT_OURS) passed on untouched.
    It is also set for a rejected address whose cluster or tier falls back to the default tier; then
    `accepted` is still false. `values` are the payload's fields, empty where it was not opened; `mode`
    0 issued, 1 proven.
    """

    reason: Reason
    tier: Tier | None = None
    cluster: str | None = None
    client: int = 0
    session: int = 0
    mode: int = 0
    epoch: int = 0
    values: Mapping[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the address is good as it stands."""
        return self.reason in ACCEPTED


@dataclass(frozen=True, slots=True)
class Step:
    """One step of decoding told to people; `ok` is false where the address fails it, and then the verdict follows."""

    title: str
    detail: str
    ok: bool = True
