"""Decisions as values: on a destination address (AddressVerdict) and on a packet (Verdict)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dnsvip.dispatcher.packet import Packet
from dnsvip.dispatcher.reason import ACCEPTED, Action, AddressReason
from dnsvip.site import ClassCluster, Client, Cluster, Forward, Per, Tier

NO_LIMIT = 65_535
"""`Target.path_mtu` where nothing is known of the way."""


@dataclass(frozen=True, slots=True)
class AddressVerdict:
    """The result of verifying a destination address: whether a new flow to it is admitted, and what it carries.

    `tier` is the tier that handles the flow; None drops the packet or (NOT_OURS) passes it on. A rejected address
    has one too where its cluster or tier falls back to the default tier; `accepted` is still false then. `client` is
    the client id of the payload (0: anonymous) and `record` that client's record, None where this node has none.
    `mode` is 0 for issued, 1 for proven; `epoch` the epoch slot; `values` the payload's fields, empty where the
    payload was not decrypted, and what the client claims. `unproven` is set where a running flow is accepted although
    its proof does not hold (any more), `label_ignored` where its flow label is no claim.
    """

    reason: AddressReason
    tier: Tier | None = None
    cluster: Cluster | ClassCluster | None = None
    client: int = 0
    session: int = 0
    mode: int = 0
    epoch: int = 0
    values: Mapping[str, int] = field(default_factory=dict)
    record: Client | None = None
    unproven: bool = False
    label_ignored: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the address itself is valid."""
        return self.reason in ACCEPTED


@dataclass(frozen=True, slots=True)
class Target:
    """One server of one pool. `number` stays its own over all snapshots; `address` is 4 or 16 bytes.

    `path_mtu` is the largest IP packet, in bytes as it came, that fits on the way to it: the MTU of the way,
    under encap less the outer header. `own` is the key of the set of clients' own servers that it was selected from.
    """

    number: int
    pool: str
    name: str
    address: bytes
    mode: Forward
    path_mtu: int = NO_LIMIT
    own: str = ""

    @property
    def version(self) -> int:
        """IP version of the address."""
        return 4 if len(self.address) == 4 else 6


@dataclass(frozen=True, slots=True)
class Policer:
    """A tier's policing (policing.py): its tier, the name of its buckets, and their parameters in nanoseconds,
    `byte_cost` in 2^-20 of one; a cost of 0 is no limit. `marks`: what is over is forwarded."""

    tier: str
    name: str
    byte_cost: int
    packet_cost: int
    burst: int
    marks: bool
    per: Per


class Verdict(NamedTuple):
    """What to do with a packet and why; `output.output_bytes` turns packet and verdict into the bytes that leave.

    `dscp` (0 to 63) marks the packet. In `mode` nat the destination becomes the server's address, or where `vip` is
    set (a reply, without a server) the source becomes that VIP; `port` replaces the client's port unless it is empty.
    In mode encap `flow_hash` is the 64-bit hash that selected the flow's server. `delay` is how long to hold the
    packet first, in nanoseconds. With ANSWER, `mtu` is what a `too-big` error reports.

    `packet` is the packet as parsed, None for a malformed one; its key is that of the flow. `address` is the verdict on
    its destination, where that was verified. `policer` is set in the template of a known flow alone
    (`DispatchTables.known`) whose packets it limits. A NamedTuple, as one is made for every packet.
    """

    action: Action
    reason: str
    server: Target | None = None
    dscp: int | None = None
    mode: Forward = Forward.DIRECT
    vip: bytes = b""
    port: bytes = b""
    delay: int = 0
    flow_hash: int = 0
    mtu: int = 0
    packet: Packet | None = None
    address: AddressVerdict | None = None
    policer: Policer | None = None
