"""`dnsvip decode` and `dnsvip encode`: what an address carries and why it would be rejected, and the reverse.

Both work on a node's database, or on a format given by hand (see `byhand`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import click

from dnsvip.address.suffix import SuffixCodec, is_reserved
from dnsvip.cli.database import ad_hoc_format as byhand
from dnsvip.cli.shared.database import load_snapshot
from dnsvip.cli.shared.parameters import ADDRESS, FIELD, TIME
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verify.explain import DecodingStep, verdict_json
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.errors import CodecError
from dnsvip.site import Anonymous, ClassCluster, Client, Cluster, Service, Snapshot
from dnsvip.suggestion import did_you_mean

CONFIG = click.option(
    "--config", "node_file", metavar="NODE.toml", type=click.Path(path_type=Path, dir_okay=False), help="The node file."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

WHY_PLAIN = {
    Kind.NO_EPOCH: "it has no active key yet",
    Kind.NO_NONCE: "every nonce gives an address that must never be issued",
    Kind.UNFIT: "the client's id, tier or an attribute does not fit its layout",
}
"""Why a cluster answers the plain VIP."""


@click.command()
@click.argument("address", type=ADDRESS)
@CONFIG
@click.option("--source", type=ADDRESS, help="Where the packet comes from; a proof may be bound to it.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port it comes from, likewise.")
@click.option("--label", type=click.IntRange(0, (1 << 20) - 1), default=0, help="Its flow label; 0: none.")
@click.option("--at", type=TIME, help="Verify it at this time, unix seconds or ISO 8601; default: now.")
@byhand.format_options
@byhand.proof_options
@JSON
def decode(
    address: IPv4Address | IPv6Address,
    node_file: Path | None,
    source: IPv4Address | IPv6Address | None,
    port: int | None,
    label: int,
    at: float | None,
    *,
    as_json: bool,
    **by_hand: Any,
) -> None:
    """Show step by step what ADDRESS carries and whether it would be accepted.

    Exits 0 where it would be accepted as it is, 1 where it would be rejected or is not in a cluster.
    """
    packet = byhand.Packet(int(address), int(source or 0), port or 0, time.time() if at is None else at)
    if node_file is None:
        verdict, steps = byhand.verify_ad_hoc(by_hand, packet)
    else:
        byhand.refuse(by_hand)
        verifier = AddressVerifier(load_snapshot(node_file))
        verdict = verifier.verify(packet.address, packet.source, packet.port, packet.now, label=label)
        steps = verifier.explain(verdict, packet.address, packet.now)
    if verdict.reason is AddressReason.BAD_PROOF and source is None:
        steps = (*steps, DecodingStep("hint", "--source was not given, and the proof may be bound to it", ok=False))
    if verdict.reason is AddressReason.UNPROVEN and source is None:
        steps = (*steps, DecodingStep("hint", "--source was not given, and a network may be asked for", ok=False))
    if as_json:
        click.echo(json.dumps(verdict_json(address, verdict, steps), indent=2))
    else:
        _print(address, steps)
    sys.exit(0 if verdict.accepted else 1)


@click.command()
@CONFIG
@click.option("--cluster", help="The cluster; may be left out where there is only one IPv6 cluster.")
@click.option("--client", metavar="NAME|ID", help="The client; without it an anonymous one.")
@click.option(
    "--field", "fields", type=FIELD, multiple=True, metavar="NAME=VALUE", help="Set a field; may be repeated."
)
@byhand.format_options
@JSON
def encode(
    node_file: Path | None,
    cluster: str | None,
    client: str | None,
    fields: Sequence[tuple[str, str]],
    *,
    as_json: bool,
    **by_hand: Any,
) -> None:
    """Print the address that a client would receive now, or one with other fields.

    VALUE is a number or, with --config, the name of a tier or a word of the attribute's table.
    """
    if node_file is not None:
        byhand.refuse(by_hand)
        number = _encode_for(load_snapshot(node_file), cluster, client, fields, time.time())
    elif cluster or client:
        raise click.UsageError("--cluster and --client need --config; by hand, name every field")
    else:
        number = _seal(byhand.make_codec(by_hand), {name: _number(name, value, {}) for name, value in fields}, 0)
    address = str(IPv4Address(number) if number < 1 << 32 else IPv6Address(number))
    click.echo(json.dumps({"address": address}) if as_json else address)


def _print(address: IPv4Address | IPv6Address, steps: Sequence[DecodingStep]) -> None:
    click.secho(str(address), bold=True)
    width = max(len(step.title) for step in steps)
    for step in steps:
        mark = click.style("ok", fg="green") if step.ok else click.style("no", fg="red", bold=True)
        click.echo(f"  {mark}  {step.title:{width}}  {step.detail}")


def _encode_for(
    snapshot: Snapshot, name: str | None, who: str | None, fields: Sequence[tuple[str, str]], now: float
) -> int:
    """The address that DNS would answer, with `fields` changed."""
    cluster = _cluster(snapshot, name)
    asked = Classified(None if who is None else _client(snapshot, who), None), Requester(IPv6Address(0)), now
    if isinstance(cluster, ClassCluster):
        if fields:
            raise click.UsageError(f"--field: {cluster.name} is an IPv4 cluster, whose addresses carry only a class")
        vip = VipMaker(snapshot).a(Service("", "", cluster.name), *asked)
        return vip.address if vip else int(cluster.plain)
    vip = VipMaker(_encoding_anonymous(snapshot, cluster)).aaaa(Service("", cluster.name), *asked)
    if vip is None or vip.kind is not Kind.ENCODED:
        why = WHY_PLAIN[vip.kind if vip else Kind.NO_EPOCH]
        raise CodecError(f"cluster {cluster.name} would answer the plain VIP: {why}")
    entry = snapshot.keyrings[cluster.name].of(vip.address)
    if not fields or entry is None:
        return vip.address
    tables = {**cluster.values, "tier": {tier.name: tier.code for tier in snapshot.site.tiers.values()}}
    changed = {field: _number(field, value, tables.get(field, {})) for field, value in fields}
    return _seal(entry[1], entry[1].decode(vip.address) | changed, int(cluster.plain))


def _encoding_anonymous(snapshot: Snapshot, cluster: Cluster) -> Snapshot:
    """The snapshot with `cluster` encoding for anonymous clients too: `encode` is asked for an encoded address."""
    clusters = {**snapshot.site.clusters, cluster.name: replace(cluster, anonymous=Anonymous.ENCODED)}
    return replace(snapshot, site=replace(snapshot.site, clusters=clusters))


def _cluster(snapshot: Snapshot, name: str | None) -> Cluster | ClassCluster:
    clusters = snapshot.site.clusters
    encoding = [cluster for cluster in clusters.values() if isinstance(cluster, Cluster)]
    if name is None and len(encoding) == 1:
        return encoding[0]
    if name is not None and name in clusters:
        return clusters[name]
    meant = did_you_mean(name or "", clusters)
    raise click.UsageError(f"--cluster: name one of {', '.join(sorted(clusters)) or '(there are none yet)'}{meant}")


def _client(snapshot: Snapshot, who: str) -> Client:
    clients = snapshot.site.clients
    client = clients.get(who) or next((client for client in clients.values() if str(client.id) == who), None)
    if client is None:
        raise click.UsageError(f"--client: no client has the name or id {who!r}{did_you_mean(who, clients)}")
    return client


def _number(field: str, value: str, table: Mapping[str, int]) -> int:
    if value in table:
        return table[value]
    try:
        return int(value, 0)
    except ValueError:
        words = f" or one of {', '.join(sorted(table))}" if table else ""
        raise click.UsageError(f"--field {field}={value}: must be a number{words}") from None


def _seal(codec: SuffixCodec, values: Mapping[str, int], plain: int) -> int:
    try:
        address = codec.encode(values)
    except CodecError as error:
        raise click.UsageError(f"--field: {error}") from None
    if is_reserved(codec.layout, address, plain):
        raise CodecError(f"these fields give {IPv6Address(address)}, which must never be issued; change one of them")
    return address
