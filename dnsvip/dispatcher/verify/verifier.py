"""Verifies destination addresses: what an address carries and whether it may open a flow.

The steps are those of address/README.md, "Decoding, in this order". An AddressVerifier compiles one snapshot; the
clock, the packet's source, the set of used single-use addresses and the bad proofs so far are arguments. It knows no
packets, flows or servers. Verifying a valid address costs little more than decrypting it, a forged one costs one
SipHash. Packets of known flows are not verified again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from dnsvip.address.keyring import Epoch
from dnsvip.address.proof import acceptable_slots, client_key, proven_slot
from dnsvip.dispatcher.reason import ACCEPTED, AddressReason
from dnsvip.dispatcher.verdict import AddressVerdict
from dnsvip.dispatcher.verify.claims import CompiledClaims, Said, Speaker
from dnsvip.dispatcher.verify.clusters import CompiledClassCluster, CompiledCluster
from dnsvip.dispatcher.verify.explain import DecodingStep, explain
from dnsvip.dispatcher.verify.networks import SourceNetworks
from dnsvip.dispatcher.verify.payload import Payload
from dnsvip.errors import ObjectError
from dnsvip.site import ClassCluster, Client, Fallback, Networks, Snapshot, Tier
from dnsvip.site.cow_map import CowMap, difference

Used: TypeAlias = Callable[[int], bool]
"""Whether another flow has already used a proven address ("Single use"). It is called last, only for an address that
is otherwise accepted and whose client's record asks for single use, so a caller may take the call as its use."""


class Guesses(Protocol):
    """The bad proofs of source networks (flows/guesses.py): by cluster and the first 64 bits of the source."""

    def refuses(self, guesser: tuple[str, int], now: int) -> bool:
        """Whether no proof of this network is verified any more in this slot."""
        ...

    def count(self, guesser: tuple[str, int], now: int, slot_seconds: int) -> None:
        """Count a bad one."""
        ...


_Compiled = TypeVar("_Compiled")

MAX_KEYS = 1 << 16
"""Client keys cached by an AddressVerifier; the oldest is evicted first."""


class AddressVerifier:
    """Verifies addresses under one snapshot. One per thread: ciphers and derived keys are shared between calls.

    `before` is the verifier of an earlier snapshot, from which the index of unchanged clients is taken.
    """

    def __init__(self, snapshot: Snapshot, before: AddressVerifier | None = None) -> None:
        self._snapshot = snapshot
        self._clients = _by_id(snapshot, before)
        self.networks: SourceNetworks = SourceNetworks(snapshot.site, before.networks if before else None)
        self._keys: dict[tuple[str, int], bytes] = {}
        self._clusters: dict[int, dict[int, CompiledCluster]] = {}
        self._class_clusters: dict[int, dict[int, CompiledClassCluster]] = {}
        for cluster in snapshot.site.clusters.values():
            shift = cluster.prefix.max_prefixlen - cluster.prefix.prefixlen
            number = int(cluster.prefix.network_address) >> shift
            if isinstance(cluster, ClassCluster):
                self._class_clusters.setdefault(shift, {})[number] = CompiledClassCluster(cluster, snapshot.site)
            else:
                self._clusters.setdefault(shift, {})[number] = CompiledCluster(cluster, snapshot)

    def verify(
        self,
        address: int,
        source: int,
        port: int,
        now: float,
        used: Used = lambda _: False,
        *,
        running: bool = False,
        guesses: Guesses | None = None,
        label: int = 0,
    ) -> AddressVerdict:
        """The verdict on a new flow from `source` and `port` to `address` at `now` (unix seconds), or on one that is
        `running` and only new here (address/README.md, "Flows that outlive their address"). `guesses` counts bad
        proofs, and may refuse others; `label` is the flow label of the first packet, 0 for none.

        Addresses are integers; one below 2^32 is read as IPv4, since nothing in ::/96 is ever routed. Raises
        ObjectError where a client or cluster makes it fail.
        """
        if address < 1 << 32:
            class_cluster = _matching(self._class_clusters, address)
            return self._verify_class(class_cluster, address, source) if class_cluster else _NOT_OURS
        cluster = _matching(self._clusters, address)
        if cluster is None:
            return _NOT_OURS
        flow = _NewFlow(address, source, port, now, used, running and cluster.resumes, guesses, label)
        try:
            return self._plain(cluster, flow) if address == cluster.plain else self._decode(cluster, flow)
        except ObjectError:
            raise
        except Exception as error:
            raise ObjectError(f"cluster.{cluster.name}", error) from error

    def explain(self, verdict: AddressVerdict, address: int, now: float) -> tuple[DecodingStep, ...]:
        """The steps that led to `verdict`, which `verify` returned for `address` at `now`."""
        return explain(verdict, address, self._snapshot, now)

    def client(self, number: int) -> Client | None:
        """The record of the client with this id; None where the site has no such client."""
        client: Client | None = self._clients.get(number)
        return client

    def _plain(self, cluster: CompiledCluster, flow: _NewFlow) -> AddressVerdict:
        """Step 2: the client's own address may say who it is; it is judged like an issued one of its epoch. Else the
        network of that address may."""
        read = cluster.source.read(flow.source) if cluster.source else None
        if cluster.source is None or read is None:
            return self.networks.identified(cluster, cluster.plainly(), flow.source, 6)
        epoch, values = read
        flow = flow._replace(address=cluster.bare(epoch.slot), label=0, sourced=True)
        return self._judge_named(cluster, cluster.source.payload, epoch, values, flow)

    def _verify_class(self, cluster: CompiledClassCluster, address: int, source: int) -> AddressVerdict:
        """The verdict on an address of an IPv4 cluster. A class is not authentic, and the default tier's says nothing:
        it is like the plain VIP where the cluster asks whose networks packets come from."""
        if address == cluster.plain:
            return self.networks.identified(cluster, cluster.plainly(), source, 4)
        tier = cluster.tier(address)
        if tier is None:
            return AddressVerdict(AddressReason.BAD_PAYLOAD, None, cluster.cluster)
        verdict = AddressVerdict(AddressReason.CLASS, tier, cluster.cluster)
        if tier is cluster.default_tier:
            return self.networks.identified(cluster, verdict, source, 4)
        if tier.networks is Networks.ANY or self.networks.is_of_tier(tier, source, 4):
            return verdict
        default = cluster.default_tier if tier.unproven is Fallback.DEFAULT_TIER else None
        fallback = AddressVerdict(AddressReason.UNPROVEN, default, cluster.cluster)
        return self.networks.identified(cluster, fallback, source, 4)

    def _decode(self, cluster: CompiledCluster, flow: _NewFlow) -> AddressVerdict:
        """Step 3, authenticity; then `_judge`."""
        address = flow.address
        entry = cluster.keyring.of(address) if cluster.keyring else None
        if entry is None:
            return cluster.reject(AddressReason.UNKNOWN_EPOCH, address)
        epoch, codec = entry
        if not codec.authentic(address):
            return cluster.reject(AddressReason.BAD_TAG, address)
        return self._judge_named(cluster, cluster.payload, epoch, codec.decode(address), flow)

    def _judge_named(
        self, cluster: CompiledCluster, payload: Payload, epoch: Epoch, values: Mapping[str, int], flow: _NewFlow
    ) -> AddressVerdict:
        """As `_judge`; raises ObjectError for the client that makes it fail."""
        client = self._clients.get(values.get("client", 0))
        try:
            return self._judge(cluster, payload, epoch, values, client, flow)
        except Exception as error:
            if client is None:
                raise
            raise ObjectError(f"client.{client.name}", error) from error

    def _judge(
        self,
        cluster: CompiledCluster,
        payload: Payload,
        epoch: Epoch,
        values: Mapping[str, int],
        client: Client | None,
        flow: _NewFlow,
    ) -> AddressVerdict:
        """Steps 5 to 8 of an address that is authentic, then what the client says."""
        address = flow.address
        tier = payload.tier(values, client)
        if tier is None:
            return cluster.reject(AddressReason.BAD_PAYLOAD, address, values, client)
        if client.is_ended if client else values.get("client", 0) in self._snapshot.ended:
            return cluster.verdict(AddressReason.REVOKED, None, address, values, client)
        grace = cluster.cluster.session_lifetime if flow.running else 0
        if payload.expired(epoch, values, flow.now - grace):
            return cluster.reject(AddressReason.EXPIRED, address, values, client)
        if client is None and values.get("client", 0) in self._snapshot.deleted:
            return cluster.reject(AddressReason.REVOKED, address, values)
        everybodys = tier is cluster.default_tier and not values.get("client")  # it says no more than the plain VIP
        reason, slot, speaker = self._admit(cluster, tier, None if everybodys else values, client, flow)
        if reason in ACCEPTED:
            ignored = False
            if cluster.claims:
                values, invalid, ignored = self._said(cluster, cluster.claims, values, client, flow, slot, speaker)
                if invalid:
                    return cluster.reject(AddressReason.BAD_PAYLOAD, address, values, client)
            unproven = reason is AddressReason.RESUMED
            reason = AddressReason.RESUMED if flow.running else reason
            verdict = cluster.verdict(reason, tier, address, values, client, unproven=unproven, ignored=ignored)
            return self.networks.identified(cluster, verdict, flow.source, 6) if everybodys else verdict
        if reason is AddressReason.UNPROVEN:
            fallback = cluster.default_tier if tier.unproven is Fallback.DEFAULT_TIER else cluster.fallback
            verdict = cluster.verdict(reason, fallback, address, values, client)
            return self.networks.identified(cluster, verdict, flow.source, 6)
        return cluster.reject(reason, address, values, client)

    def _admit(
        self,
        cluster: CompiledCluster,
        tier: Tier,
        values: Mapping[str, int] | None,
        client: Client | None,
        flow: _NewFlow,
    ) -> tuple[AddressReason, int | None, Speaker | None]:
        """Steps 7 and 8: the client's state, its network (`values` None: any), and its proof where one is carried or
        required; the slot that the proof is right for, and whose it is, None without one. RESUMED: a running flow whose
        proof does not hold."""
        if client and not cluster.payload.serves(client):
            return AddressReason.REVOKED, None, None
        if not flow.address & cluster.layout.mode_bit:
            required = tier.require_proof or (client is not None and client.proof.required)
            only = tier.networks is Networks.ONLY or (client is not None and client.networks is Networks.ONLY)
            if only and values is not None:
                required = required or not self.networks.is_at_home(tier, values.get("client"), flow.source)
            accepted = AddressReason.SOURCE if flow.sourced else AddressReason.ISSUED
            return AddressReason.UNPROVEN if required else accepted, None, None
        if client is None:
            return AddressReason.BAD_PROOF, None, None
        slot, speaker = self._passes(cluster, client, flow)
        if slot is None and not flow.running:
            return AddressReason.BAD_PROOF, None, None
        if client.proof.single_use and flow.used(flow.address):
            return AddressReason.REPLAYED, None, None
        return AddressReason.RESUMED if slot is None else AddressReason.PROVEN, slot, speaker

    def _passes(self, cluster: CompiledCluster, client: Client, flow: _NewFlow) -> tuple[int | None, Speaker | None]:
        """The slot that a proof is right for, None where it is wrong, and whose it is. Of a flow that is not running a
        bad proof counts, and after too many from one network no more are verified, nor keys derived ("Guessing")."""
        guesses, guesser = None if flow.running else flow.guesses, (cluster.name, flow.source >> 64)
        if guesses is not None and guesses.refuses(guesser, int(flow.now)):
            return None, None
        slot, speaker = None, self._speaker(cluster, client, flow)
        if speaker is not None:
            slots = acceptable_slots(flow.now, cluster.cluster.slot_seconds)
            slot = proven_slot(cluster.layout, flow.address, *speaker, slots)
        if guesses is not None and slot is None:
            guesses.count(guesser, int(flow.now), cluster.cluster.slot_seconds)
        return slot, speaker

    def _said(
        self,
        cluster: CompiledCluster,
        claims: CompiledClaims,
        values: Mapping[str, int],
        client: Client | None,
        flow: _NewFlow,
        slot: int | None,
        speaker: Speaker | None,
    ) -> Said:
        """What the client of an accepted flow says; `speaker` is it where its proof has been looked at. A label is read
        of a flow's first packet alone, where the payload names a client."""
        label = flow.label if not flow.running and values.get("client", 0) else 0
        if slot is None and not (label and claims.reads_labels):
            return Said(values)
        if speaker is None and client:
            speaker = self._speaker(cluster, client, flow)
        slots = acceptable_slots(flow.now, cluster.cluster.slot_seconds) if label else ()
        return claims.said(values, flow.address, label, speaker, slot, slots)

    def _speaker(self, cluster: CompiledCluster, client: Client, flow: _NewFlow) -> Speaker | None:
        key = self._key(cluster, client)
        return None if key is None else Speaker(key, client.proof.bind, flow.source, flow.port)

    def _key(self, cluster: CompiledCluster, client: Client) -> bytes | None:
        """The client's key in a cluster, cached; None where the cluster has no client master yet."""
        key = self._keys.get((cluster.name, client.id))
        if key is None and cluster.master is not None:
            if len(self._keys) >= MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            key = client_key(cluster.master, cluster.layout, client.id, client.key_generation)
            self._keys[cluster.name, client.id] = key
        return key


class _NewFlow(NamedTuple):
    """The arguments of `AddressVerifier.verify`. Of one that is `sourced` the client's own address speaks: `address` is
    then that of an issued address that says nothing."""

    address: int
    source: int
    port: int
    now: float
    used: Used
    running: bool
    guesses: Guesses | None
    label: int = 0
    sourced: bool = False


_NOT_OURS = AddressVerdict(AddressReason.NOT_OURS)


def _by_id(snapshot: Snapshot, before: AddressVerifier | None) -> CowMap[int, Client]:
    clients = snapshot.site.clients
    if before is None:
        return CowMap((client.id, client) for client in clients.values())
    differences = list(difference(before._snapshot.site.clients, clients))
    removed = [old.id for _, old, _ in differences if old]
    return before._clients.changed(removed, [(new.id, new) for _, _, new in differences if new])


def _matching(clusters: Mapping[int, Mapping[int, _Compiled]], address: int) -> _Compiled | None:
    """The cluster whose prefix holds an address; prefixes never overlap (site rules)."""
    for shift, by_prefix in clusters.items():
        cluster = by_prefix.get(address >> shift)
        if cluster is not None:
            return cluster
    return None
