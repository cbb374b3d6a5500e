"""A snapshot compiled for the packet path: the address verifier, the rings of the pools, the servers by number.

Built once per snapshot, read-only afterwards. A server keeps its number over snapshots (pass the old tables as
`previous`), so flows, which hold numbers, survive a change of the site.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dnsvip.dispatcher.egress.encap import OVERHEAD
from dnsvip.dispatcher.flows.maglev import build_ring
from dnsvip.dispatcher.reason import Action, AddressReason, PacketReason
from dnsvip.dispatcher.stand_ins import STAND_INS
from dnsvip.dispatcher.token_bucket import Limit, limit_of
from dnsvip.dispatcher.verdict import NO_LIMIT, Target, Verdict
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.errors import Problem
from dnsvip.site import MAX_POOLS, ClassCluster, Cluster, Forward, Pool, Server, ServerState, Snapshot
from dnsvip.site.isolation import Isolated, fault_of, isolate

NO_DSCP = 255
SESSION_SECONDS = 3600
"""Idle lifetime of TCP flows of an IPv4 cluster; IPv6 clusters configure theirs."""
PROOF_SLOTS = 3
"""A proof is accepted in its slot, the one before and the one after."""

MOST_FAULTS = 1000
"""How many objects that raised while packets were decided are named."""

_KEEPS_FLOWS = frozenset({ServerState.UP, ServerState.DRAIN})
_Weights: TypeAlias = tuple[tuple[str, int], ...]
_Places: TypeAlias = tuple[list[str], "array[int]"]


@dataclass(frozen=True, slots=True)
class Ring:
    """The servers that take a pool's new flows; may be empty."""

    targets: tuple[Target, ...]
    places: array[int]

    def pick(self, flow_hash: int) -> Target | None:
        """The server for a hash."""
        return self.targets[self.places[flow_hash % len(self.places)]] if self.places else None


class DispatchTables:
    """One snapshot for the dispatcher.

    `unreachable` has the addresses (packed) without a route at present; `mtus` the path MTU in bytes by address
    (packed), where it is known. Packets are decided by `sound`, the snapshot with stand-ins (`stand_ins.py`) for the
    objects that make code raise; `problems` names them, and those that raised since (`blame`).
    """

    def __init__(
        self,
        snapshot: Snapshot,
        previous: DispatchTables | None = None,
        unreachable: frozenset[bytes] = frozenset(),
        mtus: Mapping[bytes, int] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self._mtus, self._unreachable = mtus or {}, unreachable
        self._faults: dict[str, Problem] = {}
        self.isolated: Isolated[None] = isolate(
            snapshot, lambda sound: self._compile(sound, previous), STAND_INS, previous.isolated if previous else None
        )

    @property
    def sound(self) -> Snapshot:
        """The snapshot that packets are decided by."""
        return self.isolated.snapshot

    @property
    def problems(self) -> list[Problem]:
        """The objects that make code raise, one problem of each."""
        return [*self.isolated.problems, *self._faults.copy().values()]

    def blame(self, error: Exception) -> Problem | None:
        """Note an error that a packet raised, once for each object; the problem where it is a new one."""
        problem = fault_of("dispatcher", error)
        if problem.where in self._faults or len(self._faults) >= MOST_FAULTS:
            return None
        self._faults[problem.where] = problem
        return problem

    def of(self, snapshot: Snapshot) -> DispatchTables:
        """The tables of another snapshot, with the same servers in reach."""
        return DispatchTables(snapshot, self, self._unreachable, self._mtus)

    def _compile(self, snapshot: Snapshot, previous: DispatchTables | None) -> None:
        self.verifier: AddressVerifier = (
            previous.verifier
            if previous and previous.sound is snapshot
            else AddressVerifier(snapshot, previous.verifier if previous else None)
        )
        self.pools = snapshot.site.pools
        self.limits: dict[str, Limit] = {
            tier.name: limit_of(tier.rate) for tier in snapshot.site.tiers.values() if tier.rate
        }
        self._identities: list[tuple[str, str, bytes]] = list(previous._identities) if previous else []
        self._numbers = {identity: number for number, identity in enumerate(self._identities)}
        self._known: dict[int, Verdict] = {}
        targets = {pool.name: list(self._targets(pool, self._unreachable)) for pool in self.pools.values()}
        self.targets = {target.number: target for pool in targets.values() for target, _ in pool}
        self._places: dict[_Weights, _Places] = {}
        old = previous._places if previous else {}
        own = {
            (pool.name, version): self._ring(targets[pool.name], version, old)
            for pool in self.pools.values()
            for version in (4, 6)
        }
        self._rings = {(name, version): self._resolved(name, version, own) for name, version in own}
        self._prefixes: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for prefix in (cluster.prefix for cluster in snapshot.site.clusters.values()):
            shift = prefix.max_prefixlen - prefix.prefixlen
            self._prefixes[prefix.version].append((shift, int(prefix.network_address) >> shift))

    def ours(self, address: int, version: int) -> bool:
        """Whether an address is in the prefix of any cluster."""
        return any(address >> shift == number for shift, number in self._prefixes[version])

    def ring(self, pool: str | None, version: int) -> Ring:
        """The ring for new flows of a pool and IP version: its own, or the first non-empty one of its fallbacks."""
        return self._rings.get((pool or "", version), _EMPTY_RING)

    def known(self, owner: int) -> Verdict | None:
        """The verdict on a packet of a known flow; None if its server no longer keeps flows."""
        verdict = self._known.get(owner)
        if verdict is None:
            target = self.targets.get(owner >> 8)
            if target is not None:
                verdict = forward_to(target, PacketReason.KNOWN, dscp_of(owner))
                self._known[owner] = verdict
        return verdict

    def pool_of(self, owner: int) -> str:
        """The pool that an owner was selected from, even if the server has left it."""
        return self._identities[owner >> 8][0]

    def number_of(self, pool: Pool, server: Server) -> int:
        """The number of a server, the same in every snapshot."""
        return self._numbers[pool.name, server.name, server.address.packed]

    def _targets(self, pool: Pool, unreachable: frozenset[bytes]) -> Iterator[tuple[Target, int]]:
        """The servers that keep their flows, each with its weight for new flows."""
        for server in pool.servers:
            identity = (pool.name, server.name, server.address.packed)
            number = self._numbers.setdefault(identity, len(self._identities))
            if number == len(self._identities):
                self._identities.append(identity)
            if server.state in _KEEPS_FLOWS and server.address.packed not in unreachable:
                weight = server.weight if server.state is ServerState.UP else 0
                path_mtu = self._mtus.get(server.address.packed, NO_LIMIT)
                path_mtu -= OVERHEAD if pool.forward is Forward.ENCAP and path_mtu < NO_LIMIT else 0
                yield Target(number, pool.name, server.name, server.address.packed, pool.forward, path_mtu), weight

    def _resolved(self, name: str, version: int, own: Mapping[tuple[str, int], Ring]) -> Ring:
        """The first ring with a server along the pools that `name` falls back to (`rules` allows no cycle)."""
        for _ in range(MAX_POOLS):
            ring = own.get((name, version), _EMPTY_RING)
            if ring.places:
                return ring
            pool = self.pools.get(name)
            if pool is None or pool.fallback is None:
                break
            name = pool.fallback
        return _EMPTY_RING

    def _ring(self, targets: list[tuple[Target, int]], version: int, old: dict[_Weights, _Places]) -> Ring:
        fit = {target.name: (target, weight) for target, weight in targets if _carries(target, version)}
        weights = tuple(sorted((name, weight) for name, (_, weight) in fit.items() if weight))
        places = self._places.get(weights) or old.get(weights) or build_ring(weights)
        self._places[weights] = places
        return Ring(tuple(fit[name][0] for name in places[0]), places[1])


def forward_to(
    target: Target, reason: AddressReason | PacketReason, dscp: int | None, delay: int = 0, flow_hash: int = 0
) -> Verdict:
    """The verdict that sends a packet of a flow (its 64-bit hash) to a server."""
    return Verdict(Action.FORWARD, reason.value, target, dscp, target.mode, delay=delay, flow_hash=flow_hash)


def owner_of(target: Target, dscp: int | None) -> int:
    """The server and mark of a flow as one number: the server's number, and the DSCP in the low 8 bits."""
    return target.number << 8 | (NO_DSCP if dscp is None else dscp)


def dscp_of(owner: int) -> int | None:
    """The DSCP of an owner."""
    return None if owner & 255 == NO_DSCP else owner & 255


def session_seconds(cluster: Cluster | ClassCluster | None) -> int:
    """Idle lifetime of a cluster's TCP flows."""
    return cluster.session_lifetime if isinstance(cluster, Cluster) else SESSION_SECONDS


def proof_seconds(cluster: Cluster | ClassCluster | None) -> int:
    """Maximum time a proven address is accepted."""
    return PROOF_SLOTS * cluster.slot_seconds if isinstance(cluster, Cluster) else 0


def _carries(target: Target, version: int) -> bool:
    """Whether packets of an IP version can be sent to a server: IPv4 by an IPv6 next hop (RFC 8950) or in a tunnel, but
    not the reverse."""
    return target.mode is not Forward.NAT if version == 4 else target.version == 6


_EMPTY_RING = Ring((), array("i"))
