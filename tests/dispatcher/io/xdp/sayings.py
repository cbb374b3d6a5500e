"""What clients of a random cluster may say of themselves, and what they do say: claims, flow labels, own addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from dnsvip.address.fields import Fields, pack_claims
from dnsvip.address.keyring import Keyring
from dnsvip.address.proof import client_key
from dnsvip.address.source import SourceCodec
from dnsvip.site import Client, Cluster, Label, Source

OUR_64, MORE_64S = 0x2001_0DB8_FFFF << 80, (0, 1 << 64, 7 << 64)
"""The /64 that most packets of a world come from; others after it."""


def with_claims(random: Random, cluster: Cluster) -> Cluster:
    """Half of the clusters that name clients have claims, of bits that were the tag's, some with words."""
    room = min(24, cluster.tag_bits - 8)
    if random.random() < 0.5 or room < 1 or "client" not in dict(cluster.layout):
        return cluster
    names = [name for name in ("content", "session", "lang") if name not in dict(cluster.layout)]
    random.shuffle(names)
    claims: list[tuple[str, int]] = []
    for name in [*names, "rest"]:
        bits = min(room - sum(bits for _, bits in claims), random.choice((1, 3, 8)))
        if bits:
            claims.append((name, bits))
    tag = cluster.tag_bits - sum(bits for _, bits in claims)
    values = {**cluster.values, **words(random, claims, ("content", "lang"))}
    return replace(cluster, claims=tuple(claims), tag_bits=tag, values=values)


def with_label(random: Random, cluster: Cluster) -> Cluster:
    """Half of the clusters that name clients read flow labels, some with words."""
    if random.random() < 0.5 or "client" not in dict(cluster.layout):
        return cluster
    room = random.randint(1, 12)
    mac_bits = 20 - room
    free = {"quality", "priority", "session", "lang"} - {name for name, _ in (*cluster.layout, *cluster.claims)}
    names = random.sample(sorted(free), random.randint(0, len(free)))
    claims: list[tuple[str, int]] = []
    for name in names:
        bits = random.randint(1, 6)
        if bits < room:
            claims.append((name, bits))
            room -= bits
    claims.append(("other", room))
    values = {**cluster.values, **words(random, claims, ("quality", "lang", "other"))}
    return replace(cluster, label=Label(tuple(claims), mac_bits), values=values)


def with_source(random: Random, cluster: Cluster) -> Cluster:
    """Half of the clusters read clients' own addresses."""
    if random.random() < 0.5:
        return cluster
    tag = random.randint(8, 41)
    left, fields = 61 - tag, list[tuple[str, int]]()
    wanted = random.choice((["tier"], ["client"], ["tier", "client"], ["tier", "client"]))
    wanted += random.sample(["expiry", "session", "lang", "own"], random.randint(0, 4))
    for name in wanted:
        bits = min(left, {"tier": 4, "client": random.choice((5, 12)), "expiry": 6, "own": 2}.get(name, 3))
        if bits:
            fields.append((name, bits))
            left -= bits
    if left:
        fields.append(("nonce", left))
    random.shuffle(fields)
    values = {**cluster.values, **words(random, fields, ("own",))}
    return replace(cluster, source=Source(tuple(fields), tag), values=values)


def words(random: Random, fields: Fields | list[tuple[str, int]], names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Words for some of the fields with these names."""
    return {
        name: {f"v{number}": number for number in random.sample(range(1, 1 << bits), min(2, (1 << bits) - 1))}
        for name, bits in fields
        if name in names and random.random() < 0.7
    }


def said(random: Random, cluster: Cluster, fields: Fields) -> int:
    """What a client says in claims: mostly words that the cluster knows."""
    if random.random() < 0.1:
        return random.getrandbits(sum(bits for _, bits in fields))
    return pack_claims(
        fields,
        {
            name: random.choice((0, *cluster.values[name].values()) if name in cluster.values else range(1 << bits))
            for name, bits in fields
        },
    )


def label_to(
    random: Random, cluster: Cluster, master: bytes, client: Client, vip: int, source: int, port: int, slot: int
) -> int:
    """A label that the client sets on a flow; now and then one of a time that is too late, or with a bit flipped."""
    form = cluster.label_format
    assert form is not None
    key = client_key(master, cluster.address_layout, client.id, client.key_generation)
    slot += random.choice((-2, -1, *(0,) * 8, 1, 2))
    label = form.make(vip, key, client.proof.bind, source, port, slot, said(random, cluster, form.claims))
    return label ^ 1 << random.randrange(20) if random.random() < 0.1 else label


def own_address(random: Random, cluster: Cluster, keyring: Keyring, values: Mapping[str, int]) -> int:
    """An address of a client's own that says these values; now and then with a bit flipped."""
    form = cluster.source_format
    assert form is not None
    epoch = random.choice(keyring.epochs)
    codec = SourceCodec(form, epoch.secret, epoch.slot)
    address = codec.seal(OUR_64 + random.choice(MORE_64S), form.pack(values))
    return address ^ 1 << random.randrange(72) if random.random() < 0.1 else address
