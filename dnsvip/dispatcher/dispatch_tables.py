"""A snapshot compiled for the packet path: the address verifier, the rings of the pools, the servers by number.

Built once per snapshot, read-only afterwards. A server keeps its number over snapshots (pass the old tables as
`previous`), so flows, which hold numbers, survive a change of the site.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

from dnsvip.address.session import shared_bit
from dnsvip.dispatcher.egress.encap import OVERHEAD
from dnsvip.dispatcher.flows.maglev import build_ring
from dnsvip.dispatcher.flows.owner import ENDED, dscp_of, server_of, tier_of
from dnsvip.dispatcher.flows.ranks import lowest_of
from dnsvip.dispatcher.own_servers import Member, OwnServers
from dnsvip.dispatcher.peers import ALONE, Peers, relay_key, widened
from dnsvip.dispatcher.policing import policer_of
from dnsvip.dispatcher.reason import Action, AddressReason, PacketReason
from dnsvip.dispatcher.routes import Router
from dnsvip.dispatcher.stand_ins import STAND_INS
from dnsvip.dispatcher.token_bucket import Limit, limit_of, resume_limit
from dnsvip.dispatcher.verdict import NO_LIMIT, AddressVerdict, Policer, Target, Verdict
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.errors import Problem
from dnsvip.site import MAX_POOLS, ClassCluster, Cluster, Forward, Pool, Server, ServerState, Snapshot
from dnsvip.site.isolation import Isolated, fault_of, isolate
from dnsvip.site.session_rules import shared_sessions

SESSION_SECONDS = 3600
"""Idle lifetime of TCP flows of an IPv4 cluster; IPv6 clusters configure theirs."""
PROOF_SLOTS = 3
"""A proof is accepted in its slot, the one before and the one after."""

MOST_FAULTS = 1000
"""How many objects that raised while packets were decided are named."""

_KEEPS_FLOWS = frozenset({ServerState.UP, ServerState.DRAIN})
_Weights: TypeAlias = tuple[tuple[str, int], ...]
_Identity: TypeAlias = tuple[str, str, bytes]
"""The pool (or the key of the set) of a server, its label there, and its address."""
_Weighted: TypeAlias = tuple[str, Target, int]
_Places: TypeAlias = tuple[list[str], "array[int]"]


@dataclass(frozen=True, slots=True)
class Ring:
    """The servers that take a pool's new flows; may be empty."""

    targets: tuple[Target, ...]
    places: array[int]

    def pick(self, flow_hash: int) -> Target | None:
        """The server for a hash."""
        return self.targets[self.places[flow_hash % len(self.places)]] if self.places else None

    def shares(self) -> Sequence[float]:
        """The share of new flows of each target, 0 to 1; counting takes milliseconds."""
        count = Counter(self.places)
        return [count[number] / len(self.places) for number in range(len(self.targets))]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server of the pool and the share of new flows that its place in the ring gives it, 0 to 1."""

    server: Server
    share: float


_KEYLESS = Problem(
    "dispatch.peers",
    "no IPv6 cluster has keys, by which dispatchers know each other: nothing is shared",
)


class DispatchTables:
    """One snapshot for the dispatcher.

    `unreachable` has the addresses (packed) without a route at present; `mtus` the path MTU in bytes by address
    (packed), where it is known; `peers` the other dispatchers that live. Packets are decided by `sound`, the snapshot
    with stand-ins (`stand_ins.py`) for the objects that make code raise; `problems` names them, and those that raised
    since (`blame`).
    """

    def __init__(
        self,
        snapshot: Snapshot,
        previous: DispatchTables | None = None,
        unreachable: frozenset[bytes] = frozenset(),
        mtus: Mapping[bytes, int] | None = None,
        peers: Peers = ALONE,
    ) -> None:
        self.snapshot = snapshot
        self._mtus, self._unreachable = mtus or {}, unreachable
        self.relay_key = relay_key(snapshot.masters)
        live = (each for each in peers.live if self.relay_key and each not in unreachable)
        self.peers = Peers(peers.own, tuple(live))
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
        return [
            *self.isolated.problems,
            *self._faults.copy().values(),
            *self.own.problems,
            *self.verifier.networks.problems,
            *([_KEYLESS] if self.peers.own and not self.relay_key else ()),
        ]

    def blame(self, error: Exception) -> Problem | None:
        """Note an error that a packet raised, once for each object; the problem where it is a new one."""
        problem = fault_of("dispatcher", error)
        if problem.where in self._faults or len(self._faults) >= MOST_FAULTS:
            return None
        self._faults[problem.where] = problem
        return problem

    def of(self, snapshot: Snapshot) -> DispatchTables:
        """The tables of another snapshot, with the same servers in reach."""
        return DispatchTables(snapshot, self, self._unreachable, self._mtus, self.peers)

    def _compile(self, snapshot: Snapshot, previous: DispatchTables | None) -> None:
        self.verifier: AddressVerifier = (
            previous.verifier
            if previous and previous.sound is snapshot
            else AddressVerifier(snapshot, previous.verifier if previous else None)
        )
        self.pools = snapshot.site.pools
        self._shared_sessions = {name: shared_bit(bits) for name, bits in shared_sessions(snapshot.site).items()}
        self.limits: dict[str, Limit] = {
            tier.name: limit_of(tier.rate) for tier in snapshot.site.tiers.values() if tier.rate
        }
        self.resume_limits: dict[str, Limit] = {
            cluster.name: resume_limit(cluster.resume_rate)
            for cluster in snapshot.site.clusters.values()
            if isinstance(cluster, Cluster) and cluster.resume_rate
        }
        self.own: OwnServers = OwnServers(snapshot.site, previous.own if previous else None)
        self.router = Router(snapshot.site, self.own)
        self.stickiness = {pool.name: pool.stickiness for pool in self.pools.values()}
        self.stickiness |= {key: self.own.stickiness(key) for key in self.own.sets}
        self._tiers: dict[str, int] = dict(previous._tiers) if previous else {}
        for name in snapshot.site.tiers:
            self._tiers.setdefault(name, len(self._tiers))
        self.lowest_priority = lowest_of(snapshot.site)
        policers = ((tier.name, policer_of(tier)) for tier in snapshot.site.tiers.values())
        self.policers: dict[int, Policer] = {self._tiers[name]: policer for name, policer in policers if policer}
        self._identities: list[_Identity] = list(previous._identities) if previous else []
        self._numbers = {identity: number for number, identity in enumerate(self._identities)}
        self._known: dict[int, Verdict] = {}
        self._candidates: dict[tuple[str, int], tuple[Candidate, ...]] = {}
        targets = {key: list(self._targets(key, members)) for key, members in self.rosters().items()}
        self.targets = {target.number: target for pool in targets.values() for _, target, _ in pool}
        self.peer_targets = {address: self._peer(address) for address in self.peers.live}
        self.targets |= {target.number: target for target in self.peer_targets.values()}
        self._find_translating()
        self._places: dict[_Weights, _Places] = {}
        old = previous._places if previous else {}
        own = {(key, version): self._ring(some, version, old) for key, some in targets.items() for version in (4, 6)}
        self._rings = {(name, version): self._resolved(name, version, own) for name, version in own}
        self._prefixes: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        self._clusters: dict[tuple[int, int, int], str] = {}
        for name, prefix in ((cluster.name, cluster.prefix) for cluster in snapshot.site.clusters.values()):
            shift = prefix.max_prefixlen - prefix.prefixlen
            self._prefixes[prefix.version].append((shift, int(prefix.network_address) >> shift))
            self._clusters[prefix.version, *self._prefixes[prefix.version][-1]] = name

    def _find_translating(self) -> None:
        """The pools and sets that have servers under nat, each with the IP version of those; and by the addresses of
        those, in sixteen bytes, their versions."""
        under_nat = [
            (key, server.address)
            for key, members in self.rosters().items()
            for pool, server in members
            if pool.forward is Forward.NAT
        ]
        self.translating = frozenset((key, address.version) for key, address in under_nat)
        self.translated: dict[bytes, int] = {widened(address.packed): address.version for _, address in under_nat}

    def _peer(self, address: bytes) -> Target:
        """Another dispatcher, as a server of no pool."""
        text = str(ip_address(address))
        path_mtu = self._mtus.get(address, NO_LIMIT)
        path_mtu -= OVERHEAD if path_mtu < NO_LIMIT else 0
        return Target(self._number(("", text, address)), "", text, address, Forward.ENCAP, path_mtu)

    def is_peers(self, owner: int) -> bool:
        """Whether an owner is another dispatcher, or was one."""
        return not owner & ENDED and not self.pool_of(owner)

    def _number(self, identity: _Identity) -> int:
        """The number of a server, or of another dispatcher, the same in every snapshot."""
        number = self._numbers.setdefault(identity, len(self._identities))
        if number == len(self._identities):
            self._identities.append(identity)
        return number

    def ours(self, address: int, version: int) -> bool:
        """Whether an address is in the prefix of any cluster."""
        for shift, number in self._prefixes[version]:  # noqa: SIM110 - a generator takes three times as long
            if address >> shift == number:
                return True
        return False

    def share_cluster(self, addresses: bytes) -> bool:
        """Whether a source and the destination behind it are in the prefix of one cluster."""
        half = len(addresses) // 2
        source = int.from_bytes(addresses[:half], "big")
        for shift, number in self._prefixes[6 if half == 16 else 4]:
            if source >> shift == number:
                return int.from_bytes(addresses[half:], "big") >> shift == number
        return False

    def cluster_of(self, data: bytes) -> str:
        """The name of the cluster that a packet goes to; empty for none, and where its addresses are unreadable."""
        version = data[0] >> 4 if data else 0
        place = _DESTINATION.get(version)
        if place is None or len(data) < place.stop:
            return ""
        address = int.from_bytes(data[place], "big")
        for shift, number in self._prefixes[version]:
            if address >> shift == number:
                return self._clusters[version, shift, number]
        return ""

    def is_shared(self, address: AddressVerdict) -> bool:
        """Whether an address has a session that a label named, which is not one client's alone."""
        return bool(address.cluster and address.session & self._shared_sessions.get(address.cluster.name, 0))

    def ring(self, pool: str | None, version: int) -> Ring:
        """The ring for new flows of a pool and IP version: its own, or the first non-empty one of its fallbacks."""
        return self._rings.get((pool or "", version), _EMPTY_RING)

    def candidates(self, pool: str | None, version: int) -> tuple[Candidate, ...]:
        """The servers of a pool or set, with their shares of its new flows. They are looked up once: there may be
        thousands."""
        key = pool or "", version
        if key not in self._candidates:
            ring = self.ring(pool, version)
            shares = {(one.pool, one.name): part for one, part in zip(ring.targets, ring.shares(), strict=True)}
            members = self.rosters().get(pool or "", ())
            self._candidates[key] = tuple(
                Candidate(server, shares.get((of.name, server.name), 0.0)) for of, server in members
            )
        return self._candidates[key]

    def known(self, owner: int) -> Verdict | None:
        """The verdict on a packet of a known flow; None if its server no longer keeps flows."""
        verdict = self._known.get(owner)
        if verdict is None:
            target = self.targets.get(server_of(owner))
            if target is not None and not owner & ENDED:
                verdict = forward_to(target, PacketReason.KNOWN, dscp_of(owner))
                verdict = verdict._replace(policer=self.policers.get(tier_of(owner)))
                self._known[owner] = verdict
        return verdict

    def pool_of(self, owner: int) -> str:
        """The pool (or the key of the set) that an owner was selected from, even if the server has left it."""
        return self._identities[server_of(owner)][0]

    def tier_number(self, name: str) -> int:
        """The number of a tier, the same in every snapshot."""
        return self._tiers[name]

    def home_of(self, owner: int) -> str:
        """The pool that an owner's server is, or was, in."""
        key, label, _ = self._identities[server_of(owner)]
        return label.partition("/")[0] if "/" in label else key

    def numbers_of(self, pool: Pool, server: Server) -> list[int]:
        """The numbers of a server, the same in every snapshot: in its pool, and in sets of clients' own servers."""
        label, packed = f"{pool.name}/{server.name}", server.address.packed
        some = ((key, label, packed) for key, members in self.own.sets.items() if (pool, server) in members)
        return [self._numbers[pool.name, server.name, packed], *map(self._numbers.__getitem__, some)]

    def rosters(self) -> Mapping[str, tuple[Member, ...]]:
        """The servers of each pool by its name, and of each set of clients' own servers by its key."""
        pools = {pool.name: tuple((pool, server) for server in pool.servers) for pool in self.pools.values()}
        return {**pools, **self.own.sets}

    def _targets(self, key: str, members: Iterable[Member]) -> Iterator[_Weighted]:
        """The servers of a pool or set that keep their flows, each with its label in the ring and its weight for new
        flows."""
        own = key not in self.pools
        for pool, server in members:
            label = f"{pool.name}/{server.name}" if own else server.name
            number = self._number((key, label, server.address.packed))
            if server.state in _KEEPS_FLOWS and server.address.packed not in self._unreachable:
                weight = server.weight if server.state is ServerState.UP else 0
                path_mtu = self._mtus.get(server.address.packed, NO_LIMIT)
                path_mtu -= OVERHEAD if pool.forward is Forward.ENCAP and path_mtu < NO_LIMIT else 0
                address = server.address.packed
                target = Target(number, pool.name, server.name, address, pool.forward, path_mtu, key if own else "")
                yield label, target, weight

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

    def _ring(self, targets: list[_Weighted], version: int, old: dict[_Weights, _Places]) -> Ring:
        fit = {label: (target, weight) for label, target, weight in targets if _carries(target, version)}
        weights = tuple(sorted((label, weight) for label, (_, weight) in fit.items() if weight))
        places = self._places.get(weights) or old.get(weights) or build_ring(weights)
        self._places[weights] = places
        return Ring(tuple(fit[label][0] for label in places[0]), places[1])


def forward_to(
    target: Target, reason: AddressReason | PacketReason, dscp: int | None, delay: int = 0, flow_hash: int = 0
) -> Verdict:
    """The verdict that sends a packet of a flow (its 64-bit hash) to a server."""
    return Verdict(Action.FORWARD, reason.value, target, dscp, target.mode, delay=delay, flow_hash=flow_hash)


_DESTINATION = {4: slice(16, 20), 6: slice(24, 40)}
"""Where the destination is in a packet of each IP version."""


def session_seconds(cluster: Cluster | ClassCluster | None) -> int:
    """Idle lifetime of a cluster's TCP flows."""
    return cluster.session_lifetime if isinstance(cluster, Cluster) else SESSION_SECONDS


def proof_seconds(cluster: Cluster | ClassCluster | None) -> int:
    """Maximum time a proven address is accepted."""
    return PROOF_SLOTS * cluster.slot_seconds if isinstance(cluster, Cluster) else 0


def _carries(target: Target, version: int) -> bool:
    """Whether packets of an IP version can be sent to a server: IPv4 by an IPv6 next hop (RFC 8950) or in a tunnel, but
    not the reverse; under nat only those of the server's own version."""
    return target.version == version or (version == 4 and target.mode is not Forward.NAT)


_EMPTY_RING = Ring((), array("i"))
