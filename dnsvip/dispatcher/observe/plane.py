"""What a data plane exposes for observation: its flow table and its packet events, and the filter on both.

The user-space runner and the in-kernel program both implement `FlowTable` and `Events`. Whatever people see is made
from these and from a snapshot's DispatchTables, so it is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.reason import Action
from dnsvip.dispatcher.verdict import Target


class FlowState(StrEnum):
    """The state of a flow in its table."""

    NEW = "new"
    ESTABLISHED = "established"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Flow:
    """An entry of the flow table: `key` as in `Packet`, `seen` in unix seconds, `server` None where the flow's server
    no longer keeps flows."""

    key: bytes
    seen: int
    state: FlowState
    pool: str
    server: Target | None = None
    dscp: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One packet and its verdict: at unix nanoseconds `at`, with packet key `key` (empty for a malformed packet),
    `size` bytes long."""

    at: int
    key: bytes
    size: int
    reason: str
    action: Action
    server: Target | None = None
    dscp: int | None = None
    delay: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects flows or packets: those that match every criterion given.

    `address` matches a source, a VIP or a server; `client` and `tier` match by name what the VIP carries; `server` is
    SERVER or POOL/SERVER.
    """

    address: IPv4Network | IPv6Network | None = None
    client: str | None = None
    tier: str | None = None
    server: str | None = None
    reason: str | None = None
    state: FlowState | None = None
    opening: bool = False
    """Packets only: leave out those of known flows. A hint, which a data plane may ignore."""


class FlowTable(Protocol):
    """The flows of a data plane."""

    def flows(self) -> Iterator[Flow]:
        """Every known flow. A flow that is added or removed meanwhile may be missing; none is repeated."""

    def forget(self, key: bytes) -> bool:
        """Remove a flow, so that its next packet is handled as a new flow's; whether it was known."""


class Events(Protocol):
    """The packets of a data plane, or a sample of them under load."""

    def watch(self, sink: Callable[[Event], None], criteria: Filter) -> Callable[[], None]:
        """Pass events to `sink`, which is quick and never raises, until the returned function is called. Events that
        do not match `criteria` may be left out, and need not be."""

    @property
    def missed(self) -> int:
        """Packets since the start for which watchers got no event because there were too many."""


class ObservedPlane(Protocol):
    """A data plane as it is observed."""

    @property
    def tables(self) -> DispatchTables:
        """The tables in force."""

    @property
    def table(self) -> FlowTable:
        """Its flows."""

    @property
    def events(self) -> Events:
        """Its packets."""
