"""Random sites with random keys, and random packets for them: the input of an equality run.

Everything comes from one seed. Checksums in packets are random, as neither side verifies one: a wrong one has to stay
wrong by the same difference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random

from dnsvip.address.fields import Fields
from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.layout import RESERVED_NAMES
from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.dispatcher.egress.encap import encapsulate
from dnsvip.dispatcher.peers import ALONE, DIRECT_STEP, SECOND_STEP, Peers, mark, relay_key, widened
from dnsvip.site import (
    ClassCluster,
    Classify,
    Client,
    ClientState,
    Cluster,
    Evidence,
    Excess,
    Fallback,
    Forward,
    Match,
    Networks,
    OnExpired,
    OnInvalid,
    Over,
    Per,
    Policing,
    Pool,
    Proof,
    Rate,
    SelectRule,
    Server,
    ServerState,
    Service,
    SessionFrom,
    Site,
    Snapshot,
    Step,
    Stickiness,
    Tier,
    TierAction,
)
from tests.dispatcher.io.xdp.sayings import OUR_64, label_to, own_address, said, with_claims, with_label, with_source

START = 1_700_000_000
MASTER = bytes(range(32, 64))
V4 = 0x0A000000
TCP_FLAGS = (*(2,) * 12, *(16,) * 16, *(24,) * 8, 17, 17, 4, 20, 18, 1, 0, 3, 6, 63)
RESERVED = (0, 1, 0xFE80 << 112 | 1, 0xFF02 << 112 | 1, 0xFFFF_C633_6407)
RESERVED4 = (7, 0x7F000001, 0xE0000001, 0xF0000001, 0xFFFFFFFF)
"""Sources that no client has."""
OWN, *OTHERS = (IPv6Address(f"fd00:99::{n}").packed for n in range(1, 5))
"""Dispatchers of a cluster."""
HEADS = {6: 40, 4: 20}
"""Sizes of fixed headers, which end with the destination."""
EXTENSIONS = (bytes([0]), bytes([60]), bytes([43]))


def random_layout(random: Random, prefix: IPv6Network) -> tuple[tuple[tuple[str, int], ...], int]:
    """Fields and tag bits that fill the rest of the address."""
    room = 125 - prefix.prefixlen
    tag = random.randint(max(8, room - 80), min(64, room - 20))
    left = room - tag
    wanted = random.choice((["tier"], ["client"], ["tier", "client"], ["tier", "client"]))
    wanted += random.sample(["expiry", "session", "lang", "age"], random.randint(0, 4))
    widths = {"tier": 4, "client": 12, "expiry": 5, "session": 6, "lang": 3, "age": 2}
    fields = []
    for name in wanted:
        if widths[name] <= left:
            fields.append((name, widths[name]))
            left -= widths[name]
    for name in ("nonce", "more"):
        if left:
            fields.append((name, min(left, 64)))
            left -= min(left, 64)
    random.shuffle(fields)
    return tuple(fields), tag


def _number(cluster: Cluster) -> int:
    """The bits of a cluster's prefix."""
    return int(cluster.prefix.network_address) >> 128 - cluster.prefix.prefixlen


class World:
    """A site, changes of it, and packets for it."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.deleting, self.resuming = Random(seed), Random(seed)
        self.routing, self.peering = Random(seed), Random(seed)
        self.peers = ALONE
        self.expiring = Random(seed)
        self.translating = Random(seed)
        self.claiming, self.saying = Random(seed), Random(seed)
        self.ending = Random(seed)
        self.placing = Random(seed)
        self.ranking = Random(seed)
        self.ended: frozenset[int] = frozenset()
        self.deleted: dict[int, int] = {}
        self.mtus: dict[bytes, int] = {}
        self.unreachable: frozenset[bytes] = frozenset()
        pools = self._pools()
        tiers = self._tiers(tuple(pools))
        clusters = self._clusters(tuple(tiers))
        clients = self._clients(tuple(tiers))
        services = {
            f"*.{name}.test": Service(f"*.{name}.test", name, session=SessionFrom.LABEL)
            for name, cluster in clusters.items()
            if isinstance(cluster, Cluster) and self.expiring.random() < 0.5
        }
        self.site = Site(clusters=clusters, tiers=tiers, pools=pools, clients=clients, services=services)
        self._place()
        self._reroute()
        self.keyrings = {c.name: self._keyring(c) for c in clusters.values() if isinstance(c, Cluster)}
        self.masters = {name: MASTER for name in self.keyrings if random.random() < 0.9}
        self.flows: list[bytes] = []
        self.labels: dict[bytes, int] = {}
        self.scene: list[tuple[int, bytes]] = []
        self._scenes = (
            self._again,
            self._pairs,
            self._pieces,
            self._reset,
            self._rush,
            self._using_up,
            self._guessing,
            self._translated,
        )
        self.vips: list[int] = []
        self.now = START * 10**9
        self.renew()

    def snapshot(self) -> Snapshot:
        """The site as it is now."""
        return Snapshot(1, self.site, self.keyrings, self.masters, deleted=dict(self.deleted), ended=self.ended)

    def change(self) -> None:
        """Change the site: servers, clients, deleted ones, tiers, reachability and path MTU of servers."""
        random = self.random
        states = (*ServerState, *(ServerState.UP,) * 4)
        pools = {
            name: replace(
                pool,
                servers=tuple(
                    replace(server, state=random.choice(states)) if random.random() < 0.25 else server
                    for server in pool.servers
                ),
                forward=self._forward(pool),
            )
            for name, pool in self.site.pools.items()
        }
        clients = {
            name: replace(
                client,
                state=random.choice((*ClientState, *(ClientState.ENABLED,) * 3)),
                tier=random.choice(tuple(self.site.tiers)),
                end_flows=self.ending.random() < 0.5,
            )
            if random.random() < 0.15
            else client
            for name, client in self.site.clients.items()
        }
        tiers = {
            name: replace(tier, policing=self._policing()) if random.random() < 0.3 else tier
            for name, tier in self.site.tiers.items()
        }
        deleted = [name for name in clients if self.deleting.random() < 0.1]
        self.deleted = {number: 1 for number in self.deleted if self.deleting.random() < 0.7}
        self.deleted |= {clients[name].id: 1 for name in deleted}
        again = {clients[name].id for name in deleted if self.ending.random() < 0.5}
        self.ended = frozenset(number for number in self.ended if number in self.deleted) | again
        clients = {name: client for name, client in clients.items() if name not in deleted}
        actions = (*(TierAction.FORWARD,) * 12, TierAction.DROP)
        tiers = {name: replace(tier, action=self.ending.choice(actions)) for name, tier in tiers.items()}
        self.site = replace(self.site, pools=pools, clients=clients, tiers=tiers)
        if self.placing.random() < 0.5:
            self._place()
        if self.routing.random() < 0.5:
            self._reroute()
        self.renew()

    def _forward(self, pool: Pool) -> Forward:
        """How packets reach a pool from now on: now and then another way, without or with nat."""
        if pool.forward is Forward.ENCAP or self.translating.random() < 0.9:
            return pool.forward
        return Forward.DIRECT if pool.forward is Forward.NAT else Forward.NAT

    def renew(self) -> None:
        """New addresses, and new reachability and path MTU of servers."""
        random = self.random
        servers = [server.address.packed for pool in self.site.pools.values() for server in pool.servers]
        self.mtus = {packed: random.choice((68, 200, 1280, 1500, 1500)) for packed in servers if random.random() < 0.25}
        self.unreachable = frozenset(packed for packed in servers if random.random() < 0.05)
        self.vips = [self._vip() for _ in range(60)]
        if self.peering.random() < 0.6:
            live = self.peering.sample(OTHERS, self.peering.randint(0, len(OTHERS)))
            self.peers = Peers(OWN, tuple(live))
            self.mtus |= {each: 1280 for each in live if self.peering.random() < 0.2}
            self.unreachable |= {each for each in live if self.peering.random() < 0.1}

    def packets(self, count: int) -> Iterator[tuple[int, bytes]]:
        """`count` packets, each with its time in unix nanoseconds."""
        random = self.random
        for _ in range(count):
            if self.scene:
                pause, data = self.scene.pop()
                self.now += pause * 10**9
                yield self.now, data
                continue
            self.now += random.choice((0, 1000, 100_000, 3_000_000)) if random.random() < 0.998 else self._pause()
            if not self.flows or random.random() < 0.15:
                self.flows.append(self._flow())
                self.flows = self.flows[-40:]
            flow = random.choice(self.flows)
            if random.random() < 0.01:
                self.scene = list(random.choice(self._scenes)(flow))[::-1]
            yield self.now, self._relayed(self._packet(flow))

    def _relayed(self, data: bytes) -> bytes:
        """Now and then a packet as another dispatcher relays it, or somebody who does not know its mark."""
        random = self.peering
        version = data[0] >> 4 if len(data) >= 20 else 0
        if not self.peers.own or version not in (4, 6) or len(data) < HEADS[version] or random.random() < 0.9:
            return data
        destination = widened(data[HEADS[version] - (4 if version == 4 else 16) : HEADS[version]])
        made = mark(relay_key(self.masters), destination, random.choice((DIRECT_STEP, SECOND_STEP)))
        made ^= random.choice((0, 0, 0, 0, 1))
        out = bytearray(encapsulate(data, random.choice((*(OWN,) * 9, OTHERS[0])), None, made))
        out[6] = random.choice((*(out[6],) * 9, 4, 41))
        return bytes(out)

    # The parts of a site

    def _pools(self) -> dict[str, Pool]:
        random = self.random
        names = [f"p{n}" for n in range(random.randint(1, 4))]
        pools = {}
        for n, name in enumerate(names):
            mode = random.choice(tuple(Forward))
            servers = []
            for m in range(random.choice((0, 1, 2, 3, 4, 5))):
                six: IPv6Address | IPv4Address = IPv6Address((0xFD00 << 112) + (n << 16) + m + 1)
                four = IPv4Address(V4 + (n << 8) + m + 1)
                address = four if mode is Forward.DIRECT and random.random() < 0.2 else six
                if mode is Forward.NAT and self.translating.random() < 0.5:
                    address = four
                state = random.choice((*ServerState, *(ServerState.UP,) * 12))
                servers.append(Server(f"s{m}", address, random.choice((0, 50, *(100,) * 8)), state))
            fallback = random.choice((None, *names[n + 1 :]))
            pools[name] = Pool(name, tuple(servers), random.choice(tuple(Stickiness)), mode, fallback=fallback)
        return pools

    def _tiers(self, pools: tuple[str, ...]) -> dict[str, Tier]:
        random = self.random
        codes = random.sample(range(16), random.randint(2, 6))
        return {
            f"t{code}": Tier(
                f"t{code}",
                code,
                random.choice((*pools * 8, None, "nowhere")),
                random.choice((*(TierAction.FORWARD,) * 20, TierAction.DROP)),
                random.choice((None, None, random.randrange(64))),
                self._rate(),
                random.random() < 0.1,
                random.choice(tuple(Fallback)),
                self.ending.random() < 0.5,
                self._policing(),
                (0, 0, 3, 7)[code % 4],
            )
            for code in codes
        }

    def _policing(self) -> Policing | None:
        random = self.random
        if random.random() < 0.6:
            return None
        return Policing(
            random.choice((None, 1e4, 1e6, 1.3e9)),
            random.choice((None, 5, 100, 20_000)),
            random.choice((0.01, 0.25, 2)),
            random.choice(tuple(Excess)),
            random.choice(tuple(Per)),
        )

    def _rate(self) -> Rate | None:
        random = self.random
        if random.random() < 0.6:
            return None
        return Rate(
            random.choice((0.5, 0.5, 10, 333.3, 5000, 5000)),
            random.choice((1, 2.5, 20)),
            random.choice((*Over, Over.PASS)),
            random.choice(tuple(Per)),
        )

    def _clusters(self, tiers: tuple[str, ...]) -> dict[str, Cluster | ClassCluster]:
        random = self.random
        clusters: dict[str, Cluster | ClassCluster] = {}
        for n in range(random.randint(1, 3)):
            length = random.choice((32, 40, 48, 56, 64, 64, 64, 65, 71, 80, 96))
            network = (0x2001_0DB8 + n << 96) + random.getrandbits(96)
            prefix = IPv6Network((network, length), strict=False)
            fields, tag = random_layout(random, prefix)
            cluster = Cluster(
                f"c{n}",
                prefix,
                prefix.network_address + random.randint(1, 9),
                fields,
                tag,
                random.choice((*tiers * 10, "nobody")),
                {
                    name: {
                        f"v{number}": number for number in random.sample(range(1, 1 << bits), min(2, (1 << bits) - 1))
                    }
                    for name, bits in fields
                    if name in ("lang", "age") and random.random() < 0.8
                },
                expiry_unit=random.choice((1, 60, 900)),
                on_invalid=random.choice(tuple(OnInvalid)),
                on_expired=self.expiring.choice((None, *OnExpired, OnExpired.RESET)),
                slot_seconds=random.choice((1, 30, 300)),
                session_lifetime=random.choice((5, 100, 3600)),
                resume_rate=self.resuming.choice((0, 1, 7, 333, 20_000)),
            )
            cluster = with_claims(self.claiming, cluster)
            clusters[f"c{n}"] = with_source(self.saying, with_label(self.saying, cluster))
        if random.random() < 0.6:
            hosts = random.sample(range(2, 15), 4)
            classes = {name: (hosts[n],) for n, name in enumerate(tiers[:3])} | {"gone": (hosts[3],)}
            network = IPv4Network("192.0.2.0/28")
            clusters["legacy"] = ClassCluster(
                "legacy", network, IPv4Address("192.0.2.1"), classes, random.choice(tiers)
            )
        return clusters

    def _clients(self, tiers: tuple[str, ...]) -> dict[str, Client]:
        random = self.random
        return {
            f"k{n}": Client(
                f"k{n}",
                n,
                random.choice((*tiers, *tiers, "gone")),
                proof=Proof(random.choice(tuple(Bind)), random.random() < 0.3, random.random() < 0.2),
                state=random.choice((*(ClientState.ENABLED,) * 8, *ClientState)),
                key_generation=random.randrange(3),
                end_flows=self.ending.random() < 0.5,
            )
            for n in range(1, random.randint(2, 15))
        }

    def _place(self) -> None:
        """Other networks of clients, and other clusters, tiers and clients that ask for them; in a third of the worlds
        nobody does."""
        random, site = self.placing, self.site
        if random.random() < 0.3:
            return
        taken: set[tuple[Step, str]] = set()

        def networks() -> tuple[Match, ...]:
            """Some around the sources of packets, which nobody has yet."""
            found = []
            for _ in range(random.randrange(4)):
                step = random.choice((Step.ECS, Step.SOURCE))
                text = str(
                    IPv4Network((0xC6336407 ^ random.choice((0, 0, 1 << 8)), random.randrange(33)), strict=False)
                    if random.random() < 0.4
                    else IPv6Network(
                        (self._source() + random.choice((0, 0, 1, 2)), random.choice((0, 32, 80, 126, 127, 128))),
                        strict=False,
                    )
                )
                if (step, text) not in taken:
                    taken.add((step, text))
                    found.append(Match(step, text))
            return tuple(found)

        self.site = replace(
            site,
            clusters={
                name: replace(cluster, identify_source=random.random() < 0.6) for name, cluster in site.clusters.items()
            },
            tiers={
                name: replace(tier, networks=random.choice((*Networks, Networks.ANY)))
                for name, tier in site.tiers.items()
            },
            clients={
                name: replace(
                    client,
                    match=networks(),
                    networks=random.choice((Networks.ANY, Networks.ANY, Networks.ONLY)),
                    attributes=self._attributes(random),
                )
                for name, client in site.clients.items()
            },
            classify=Classify(random.choice((tuple(Step), (Step.SOURCE, Step.ECS), (Step.SOURCE,)))),
        )

    def _attributes(self, random: Random) -> dict[str, str | int]:
        """Attributes of a client: words and numbers, some of which its clusters do not have."""
        words = ["nowhere", 0, 1, 2, 3, 1 << 40]
        for cluster in self.site.clusters.values():
            words += [word for table in getattr(cluster, "values", {}).values() for word in table]
        return {name: random.choice(words) for name in ("lang", "more", "age") if random.random() < 0.4}

    def _reroute(self) -> None:
        """Other rules of clusters, and other pools and servers of clients' own; in a third of the worlds none."""
        random, site = self.routing, self.site
        if random.random() < 0.3:
            return
        pools = (*site.pools, *site.pools, "nowhere")
        clusters = {
            name: replace(
                cluster, select=tuple(self._rule(cluster, pools) for _ in range(random.choice((0, 2, 5, 64))))
            )
            for name, cluster in site.clusters.items()
        }
        servers = [f"{pool.name}/{server.name}" for pool in site.pools.values() for server in pool.servers]
        servers += ["s0", "p0/gone", "nowhere/s1"]
        clients = {
            name: replace(
                client,
                pool=random.choice(pools) if random.random() < 0.15 else None,
                servers=tuple(random.sample(servers, random.randint(1, 3))) if random.random() < 0.2 else (),
            )
            for name, client in site.clients.items()
        }
        self.site = replace(site, clusters=clusters, clients=clients)

    def _rule(self, cluster: Cluster | ClassCluster, pools: tuple[str, ...]) -> SelectRule:
        random, when = self.routing, {}
        domains: dict[str, Sequence[str | int]] = {"tier": tuple(self.site.tiers), "proof": tuple(Evidence)}
        domains["client"] = (*self.site.clients, "nobody")
        if isinstance(cluster, Cluster):
            domains |= {"age": (0, 1, 2, 3), "gone": (0, 1)}
            domains |= {name: range(1 << min(bits, 12)) for name, bits in cluster.layout if name in ("lang", "more")}
            domains |= {name: tuple(words) for name, words in cluster.values.items()}
            more = {**cluster.claimed, **dict(cluster.source.layout if cluster.source else ())}.items()
            domains |= {
                name: range(1 << min(bits, 12))
                for name, bits in more
                if name not in cluster.values and name not in RESERVED_NAMES
            }
        for name, words in domains.items():
            if random.random() < (0.02 if name == "gone" else 0.4) and words:
                when[name] = tuple(random.sample(words, random.randint(1, min(3, len(words)))))
        priority = self.ranking.choice((None, None, None, 0, 3, 5, 7))
        return SelectRule(when, random.choice(pools), random.choice((None, None, random.randrange(64))), priority)

    def _keyring(self, cluster: Cluster) -> Keyring:
        random = self.random
        slots = random.sample(range(4), random.randint(1, 3))
        states = [EpochState.ACTIVE, EpochState.RETIRING, EpochState.PUBLISHED]
        epochs = [
            Epoch(slot, state, random.randbytes(32), activated_at=random.choice((0, START - 1000, START - 100_000)))
            for slot, state in zip(slots, states, strict=False)
        ]
        return Keyring(cluster.address_layout, epochs)

    # Addresses

    def _vip(self) -> int:
        random = self.random
        cluster = random.choice(tuple(self.site.clusters.values()))
        if isinstance(cluster, ClassCluster):
            return int(cluster.prefix.network_address) + random.randrange(16)
        if cluster.source and self.saying.random() < 0.3:
            return int(cluster.plain)
        match random.randrange(12):
            case 0:
                return int(cluster.plain)
            case 1:
                return int(cluster.prefix.network_address) | random.getrandbits(128 - cluster.prefix.prefixlen)
            case 2:
                return self._issued(cluster) ^ 1 << random.randrange(128 - cluster.prefix.prefixlen)
            case 3 | 4 | 5:
                return self._proven(cluster)
        return self._issued(cluster)

    def _values(self, cluster: Cluster, fields: Fields) -> dict[str, int]:
        random = self.random
        values = {name: random.randrange(1 << bits) for name, bits in fields}
        if random.random() < 0.95:
            codes = [tier.code for tier in self.site.tiers.values()]
            for name, bits in fields:
                if name == "tier":
                    values[name] = random.choice(codes) & (1 << bits) - 1
                elif name == "client":
                    values[name] = random.randrange(20) & (1 << bits) - 1
                elif name == "expiry":
                    values[name] = random.choice(((1 << bits) - 1, (1 << bits) - 1, (1 << bits) - 1, values[name]))
                elif name in cluster.values:
                    fitting = [number for number in cluster.values[name].values() if not number >> bits]
                    values[name] = random.choice((0, *fitting))
        return values

    def _issued(self, cluster: Cluster, **values: int) -> int:
        """An issued address, of random values but for these."""
        layout = cluster.address_layout
        epoch = self.random.choice(self.keyrings[cluster.name].epochs)
        entry = self.keyrings[cluster.name].at(epoch.slot)
        assert entry
        return entry[1].encode(self._values(cluster, layout.fields) | values)

    def _proven(self, cluster: Cluster, **values: int) -> int:
        random, layout = self.random, cluster.address_layout
        issued = self._issued(cluster, **values)
        entry = self.keyrings[cluster.name].of(issued)
        assert entry
        client = self._client(layout.get(entry[1].open(issued), "client"))
        if client is None or cluster.name not in self.masters or random.random() < 0.1:
            return issued | layout.mode_bit
        key = client_key(MASTER, layout, client.id, client.key_generation)
        slot = self.now // 10**9 // cluster.slot_seconds + random.choice((-2, -1, *(0,) * 8, 1, 2))
        claims = said(self.claiming, cluster, cluster.claims)
        address = prove(layout, issued, key, client.proof.bind, self._source(), 7000, slot, claims)
        flips = layout.claim_bits and self.claiming.random() < 0.05
        return address ^ 1 << layout.tag_bits + self.claiming.randrange(layout.claim_bits) if flips else address

    def _speak(self, vip: int, source: int) -> tuple[int, int]:
        """The source of a flow to a VIP, which may be its client's own address, and the flow label that it begins with;
        0 where it has none of its own."""
        random = self.saying
        cluster = next((one for one in self._encoded() if vip >> 128 - one.prefix.prefixlen == _number(one)), None)
        if cluster is None or random.random() < 0.2:
            return source, 0
        if cluster.source and vip == int(cluster.plain):
            values = self._values(cluster, cluster.source.layout)
            return own_address(random, cluster, self.keyrings[cluster.name], values), 0
        entry = self.keyrings[cluster.name].of(vip)
        client = self._client(cluster.address_layout.get(entry[1].open(vip), "client")) if entry else None
        if cluster.label is None or client is None:
            return source, 0
        slot = self.now // 10**9 // cluster.slot_seconds
        return source, label_to(random, cluster, MASTER, client, vip, source, 7000, slot)

    def _client(self, number: int) -> Client | None:
        return self.site.clients.get(f"k{number}")

    # Packets

    def _source(self) -> int:
        return OUR_64 | 5

    def _pause(self) -> int:
        return self.random.choice((1, 20, 31, 61, 181, 4000)) * 10**9

    def _flow(self) -> bytes:
        """The version, protocol, ports and addresses of a flow."""
        random = self.random
        vip = random.choice(self.vips) if random.random() < 0.97 else random.getrandbits(128)
        source = self._source() + random.choice((0, 0, 0, 1, 2))
        source, label = self._speak(vip, source)
        if random.random() < 0.03:
            source = random.choice((*RESERVED, vip))
        ports = struct.pack("!HH", random.choice((7000, 7001, random.randrange(65536))), random.choice((80, 443)))
        four = vip < 1 << 32
        protocol = random.choice((*(6,) * 14, *(17,) * 10, *(1 if four else 58,) * 5, random.randrange(256)))
        if four:
            addresses = struct.pack("!II", random.choice((*(0xC6336407,) * 12, *RESERVED4, vip)), vip)
        else:
            addresses = source.to_bytes(16, "big") + vip.to_bytes(16, "big")
            self.labels[addresses] = label
        return bytes([4 if four else 6, protocol]) + ports + addresses

    # Scenes: packets that follow each other, each with the seconds that pass before it

    def _again(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """SYNs sent again, before and after the flow is answered, established or ended, and after its address may have
        expired or its proof's slot be over."""
        random = self.random
        if random.random() < 0.5:
            vip = self._proven(random.choice(self._encoded())).to_bytes(16, "big")
            flow = bytes([6, 6]) + struct.pack("!HH", 7000, 80) + self._source().to_bytes(16, "big") + vip
            self.flows.append(flow)
        for _ in range(random.randint(2, 12)):
            flags = random.choice((2, 2, 2, 16, 16, 18, 17))
            yield random.choice((0, 0, 0, 0, 1, 1, 15, 29, 31, 61, 119, 121)), self._segment(flow, flags)

    def _pairs(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """Pairs of packets from sources that are made up, to one address, some with a third packet later."""
        random = self.random
        plain = [int(cluster.plain) for cluster in self.site.clusters.values()]
        vip = random.choice(plain) if random.random() < 0.7 else int.from_bytes(flow[-4 if flow[0] == 4 else -16 :])
        size, version = (4, 4) if vip < 1 << 32 else (16, 6)
        protocol = random.choice((6, 6, 17))
        for _ in range(random.randint(1, 40)):
            source = random.randrange(1 << 24) + (0xC6000000 if size == 4 else self._source())
            source += random.randrange(32) << 64 if size == 16 else 0
            addresses = source.to_bytes(size, "big") + vip.to_bytes(size, "big")
            made_up = bytes([version, protocol]) + random.randbytes(2) + b"\0P" + addresses
            yield 0, self._segment(made_up, 2)
            yield random.choice((0, 0, 0, 0, 1)), self._segment(made_up, 16)
            if random.random() < 0.3:
                self.flows.append(made_up)

    def _pieces(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """First and later fragments to this address, and to another that is refused."""
        random = self.random
        version, vip, identity = flow[0], flow[-4 if flow[0] == 4 else -16 :], random.randbytes(4)
        for _ in range(random.randint(1, 4)):
            wrong = vip[:-1] + bytes([vip[-1] ^ random.choice((0, 1))])
            addresses = flow[6 : -len(vip)] + wrong
            for offset, more in ((0, 1), (5, random.randrange(2))):
                upper = flow[2:4] + flow[4:6] + struct.pack("!HH", 60, 0) + bytes(32)
                if version == 6:
                    head = struct.pack("!BBH", 17, 0, offset << 3 | more) + identity
                    data = struct.pack("!IHBB", 6 << 28, 48, 44, 64) + addresses + head + upper
                else:
                    piece = more << 13 | offset
                    data = struct.pack("!BBH2sHBB", 0x45, 0, 60, identity[:2], piece, 64, 17) + bytes(2)
                    data += addresses + upper
                yield 0, data

    def _reset(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """A reset in the name of a server, then the client's packets."""
        random = self.random
        if flow[0] == 4:
            return
        source, ports = flow[6:22], flow[4:6] + flow[2:4]
        yield 0, self._segment(flow, 2)
        yield 0, self._segment(flow, 16)
        for server in sorted({s.address.packed for pool in self.site.pools.values() for s in pool.servers}):
            if len(server) == 16:
                yield 0, self._segment(bytes([6, 6]) + ports + server + source, random.choice((4, 20, 17)))
        for seconds in (1, 61, 1):
            yield seconds, self._segment(flow, random.choice((2, 16, 16)))

    def _rush(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """New flows to a tier that has a rate, more at once than it allows."""
        random = self.random
        limited = [tier for tier in self.site.tiers.values() if tier.rate]
        if not limited:
            return
        tier = random.choice([tier for tier in limited if tier.pool in self.site.pools] or limited)
        for cluster in self._encoded():
            if "tier" in dict(cluster.layout):
                free = {"client": 0} if "client" in dict(cluster.layout) else {}
                vip = self._issued(cluster, tier=tier.code, **free)
            elif cluster.default_tier == tier.name:
                vip = int(cluster.plain)
            else:
                continue
            addresses = self._source().to_bytes(16, "big") + vip.to_bytes(16, "big")
            for _ in range(random.choice((3, 10, 40))):
                yield 0, self._segment(bytes([6, 6]) + random.randbytes(2) + b"\0P" + addresses, 2)

    def _using_up(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """New flows to proven addresses of one client with single use, at times more than its share of the uses."""
        random = self.random
        once = [client for client in self.site.clients.values() if client.proof.single_use]
        carrying = [cluster for cluster in self._encoded() if "client" in dict(cluster.layout)]
        if not once or not carrying:
            return
        client, cluster, source = random.choice(once), random.choice(carrying), self._source().to_bytes(16, "big")
        for _ in range(random.choice((5, 40, 100))):
            vip = self._proven(cluster, client=client.id).to_bytes(16, "big")
            yield (
                random.choice((*(0,) * 60, 1)),
                self._segment(bytes([6, 6]) + struct.pack("!HH", 7000, 80) + source + vip, 2),
            )

    def _guessing(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """Guessed proofs from one network, about as many as a slot takes; then right ones, the later ones in another
        slot."""
        random = self.random
        carrying = [c for c in self._encoded() if "client" in dict(c.layout) and c.name in self.masters]
        if not carrying or not self.site.clients:
            return
        cluster, client = random.choice(carrying), random.choice(tuple(self.site.clients.values()))
        layout, source = cluster.address_layout, self._source() + (random.randint(1, 2) << 64)
        issued = self._issued(cluster, client=client.id)
        key = client_key(MASTER, layout, client.id, client.key_generation)
        ports = struct.pack("!HH", 7000, 80)

        def tried(proven: int, host: int) -> bytes:
            kind = random.choice((6, 6, 17))
            return bytes([6, kind]) + ports + (source + host).to_bytes(16, "big") + proven.to_bytes(16, "big")

        def right(after: int) -> bytes:
            slot = self.now // 10**9 // cluster.slot_seconds + after
            return tried(prove(layout, issued, key, client.proof.bind, source, 7000, slot), 0)

        for n in range(random.choice((10, 63, 64, 65, 80))):
            guess = (issued | layout.mode_bit) ^ random.choice((0, n & 31))
            yield 0, self._segment(tried(guess, n % 3), 2)
        for after in (0, 0, 1, 0):
            again = right(after)
            yield after * cluster.slot_seconds, self._segment(again, random.choice((2, 16)))

    def _translated(self, flow: bytes) -> Iterator[tuple[int, bytes]]:
        """Packets of clients to IPv4 VIPs, and what any server sends them: replies, errors, fragments."""
        random, legacy = self.random, self.site.clusters.get("legacy")
        servers = {s.address.packed for pool in self.site.pools.values() for s in pool.servers}
        servers = sorted(packed for packed in servers if len(packed) == 4)
        if not isinstance(legacy, ClassCluster) or not servers:
            return
        hosts = [host for some in legacy.classes.values() for host in some]
        vips = [int(legacy.prefix.network_address) + host for host in hosts] + [int(legacy.plain)]
        vip = random.choice(vips).to_bytes(4, "big")
        for port in random.sample(range(7000, 7020), 3):
            source, protocol = bytes([0xC6, 0x33, 0x64, random.randrange(1, 4)]), random.choice((1, 6, 17))
            ports = struct.pack("!HH", port, 80) if protocol != 1 else struct.pack("!HH", port, 1)
            back = ports[2:] + ports[:2] if protocol != 1 else ports
            kinds = {1: (b"\x08", b"\0")}.get(protocol, (b"", b""))

            def upper(ports: bytes, kind: bytes, flags: int, protocol: int = protocol) -> bytes:
                match protocol:
                    case 1:
                        return kind + bytes(1) + random.randbytes(2) + ports + bytes(random.randrange(9))
                    case 17:
                        return ports + struct.pack("!H", 12) + random.choice((bytes(2), random.randbytes(2))) + bytes(4)
                return ports + bytes(8) + bytes([0x50, flags]) + random.randbytes(6)

            for flags, answer in ((2, 18), (16, 16), (24, 24)):
                yield 0, self._ip(4, protocol, source + vip, upper(ports, kinds[0], flags))
                for server in servers:
                    yield 0, self._ip(4, protocol, server + source, upper(back, kinds[1], answer))
                    if random.random() < 0.3:
                        yield 0, self._error(4, protocol, ports, server + source)
                        inner = self._ip(4, protocol, source + server, upper(ports, kinds[0], flags))
                        body = bytes([3, 3]) + random.randbytes(6) + inner[: random.choice((28, 48, 1000))]
                        yield 0, self._ip(4, 1, server + source, body)
                if random.random() < 0.5:
                    inner = self._ip(4, protocol, vip + source, upper(back, kinds[1], answer))
                    body = bytes([11, 0]) + random.randbytes(6) + inner[: random.choice((28, 48, 1000))]
                    yield 0, self._ip(4, 1, b"\xc6\x33\x64\xfe" + vip, body)

    def _encoded(self) -> list[Cluster]:
        return [cluster for cluster in self.site.clusters.values() if isinstance(cluster, Cluster)]

    def _segment(self, flow: bytes, flags: int) -> bytes:
        """A TCP segment of a flow without data, or a datagram."""
        version, protocol, ports, addresses = flow[0], flow[1], flow[2:6], flow[6:]
        upper = ports + struct.pack("!H", 28) + bytes(22)
        if protocol != 17:
            protocol, upper = 6, ports + bytes(8) + bytes([0x50, flags]) + bytes(6)
        if version == 4:
            return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(upper), 0, 0, 64, protocol, 0) + addresses + upper
        word = 6 << 28 | self.labels.get(addresses, 0)
        return struct.pack("!IHBB", word, len(upper), protocol, 64) + addresses + upper

    def _packet(self, flow: bytes) -> bytes:
        random = self.random
        version, protocol, ports, addresses = flow[0], flow[1], flow[2:4] + flow[4:6], flow[6:]
        kind = random.randrange(40)
        if kind < 2:
            return self._error(version, protocol, ports, addresses)
        if kind < 6:
            return self._reply(version, protocol, ports, addresses)
        if kind == 6 and random.random() < 0.3:
            return self._ip(version, random.randrange(256), addresses, random.randbytes(random.randrange(60)))
        upper = self._upper(version, protocol, ports)
        data = self._ip(version, protocol, addresses, upper)
        return self._broken(data) if kind < 9 else data

    def _upper(self, version: int, protocol: int, ports: bytes) -> bytes:
        random = self.random
        size = random.choice((0, 0, 1, 7, 40, 160, random.randrange(1500)))
        if protocol == 6:
            flags = random.choice(TCP_FLAGS)
            offset = self.expiring.choice((0x50, 0x50, 0x50, 0x60, 0xF0)) if size >= 40 else 0x50
            return ports + self.expiring.randbytes(8) + bytes([offset, flags]) + random.randbytes(6) + bytes(size)
        if protocol == 17:
            check = random.choice((bytes(2), random.randbytes(2)))
            first = self.resuming.choice((0, 0x3F, 0x40, 0x7F, 0x80, 0xC3))  # of QUIC: 0x40 to 0x7F
            return ports + struct.pack("!H", 8 + size) + check + bytes([first] * bool(size)) + bytes(max(size - 1, 0))
        if protocol in (1, 58):
            kinds = (8, 0) if version == 4 else (128, 129)
            kind = random.choice((*kinds, *kinds, 135, 3, 1))
            return bytes([kind, 0]) + random.randbytes(2) + ports + bytes(size)
        return bytes(size)

    def _ip(self, version: int, protocol: int, addresses: bytes, payload: bytes) -> bytes:
        random = self.random
        hops = random.choice((64, 64, 64, 255, 2, 1, 0)) if random.random() < 0.1 else 64
        tos = random.choice((0, 0, 3, 184, 255))
        trailer = bytes(random.choice((0, 0, 0, 6)))
        if version == 4:
            piece = random.choice((0, 0x4000, 0x4000, 0x2000, 100, 0x2064)) if random.random() < 0.5 else 0
            options = bytes(4 * self.translating.choice((*(0,) * 8, 1, 2, 10)))
            first, size = 0x45 + len(options) // 4, 20 + len(options) + len(payload)
            head = struct.pack("!BBHHHBB", first, tos, size, random.randrange(4), piece, hops, protocol)
            return head + random.randbytes(2) + addresses + options + payload + trailer
        chain, first = b"", protocol
        if random.random() < 0.15:
            chain, first = self._chain(protocol)
        label = self.labels.get(addresses, 0) if self.saying.random() < 0.8 else 0
        word = 6 << 28 | tos << 20 | (label or random.getrandbits(20))
        return (
            struct.pack("!IHBB", word, len(chain) + len(payload), first, hops) + addresses + chain + payload + trailer
        )

    def _chain(self, protocol: int) -> tuple[bytes, int]:
        """Extension headers that lead to `protocol`, and the type of the first."""
        random = self.random
        chain, following = b"", protocol
        for _ in range(random.randint(1, 3) if random.random() < 0.9 else random.randint(7, 10)):
            kind = random.choice((43, 44, 44, 44, 60, 60, 0))
            if kind == 44:
                word = random.choice((0, 1, 1, 80, 81))
                chain = struct.pack("!BBHI", following, 0, word, random.randrange(3)) + chain
            else:
                units = random.choice((0, 0, 1))
                left = random.choice((0, 0, 0, 1)) if kind == 43 else 0
                chain = bytes([following, units, 0, left]) + bytes(4 + 8 * units) + chain
            following = kind
        return chain, following

    def _error(self, version: int, protocol: int, ports: bytes, addresses: bytes) -> bytes:
        """An ICMP error from somewhere about a packet that the server of a flow sent."""
        random = self.random
        half = len(addresses) // 2
        back = addresses[half:] + addresses[:half]
        upper = self._upper(version, protocol, ports[2:] + ports[:2])
        if protocol in (1, 58) and len(upper) > 8:
            upper = upper[:4] + ports + upper[8:]
        inner = self._ip(version, protocol, back, upper)
        inner = inner[: random.choice((len(inner), len(inner), 48, 28, random.randrange(len(inner) + 1)))][:1200]
        kind = random.choice((1, 2, 3, 4, 127)) if version == 6 else random.choice((3, 4, 5, 11, 12))
        body = bytes([kind, 0]) + random.randbytes(6) + inner
        return self._ip(version, 58 if version == 6 else 1, random.randbytes(half) + addresses[half:], body)

    def _reply(self, version: int, protocol: int, ports: bytes, addresses: bytes) -> bytes:
        """A reply of some server to a client, under nat."""
        random = self.random
        half = len(addresses) // 2
        servers = [s.address.packed for pool in self.site.pools.values() for s in pool.servers]
        servers = [packed for packed in servers if len(packed) == half]
        if not servers:
            return self._ip(version, protocol, addresses[::-1], self._upper(version, protocol, ports))
        server = random.choice(servers)
        if random.random() < 0.2:
            return self._error(version, protocol, ports, server + addresses[:half])
        upper = self._upper(version, protocol, ports[2:] + ports[:2])
        if protocol in (1, 58) and len(upper) >= 8:
            upper = bytes([129 if protocol == 58 else 0]) + upper[1:4] + ports[:2] + upper[6:]
        return self._ip(version, protocol, server + addresses[:half], upper)

    def _broken(self, data: bytes) -> bytes:
        """A truncated, extended or corrupted packet."""
        random = self.random
        out = bytearray(data)
        match random.randrange(4):
            case 0:
                out = out[: random.randrange(len(out) + 1)]
            case 1:
                out[random.randrange(len(out))] ^= 1 << random.randrange(8)
            case 2:
                out[random.randrange(min(len(out), 60))] = random.randrange(256)
            case _:
                out += random.randbytes(random.randrange(30))
        return bytes(out)
