"""`dnsvip xdp`: the dispatcher's program in the kernel: attach, detach, status."""

from __future__ import annotations

import asyncio
import json
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dnsvip.dispatcher.io.xdp import decap as tunnel
from dnsvip.dispatcher.io.xdp import pinned_program
from dnsvip.dispatcher.io.xdp.neighbours import Neighbours
from dnsvip.dispatcher.io.xdp.runner import XdpRunner
from dnsvip.dns.io.xdp import answers
from dnsvip.errors import ConfigError
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import DispatchSettings, NodeConfig
from dnsvip.store.following.follower import SnapshotFollower
from dnsvip.telemetry.log import configure
from dnsvip.xdp.link import Mode

PINS = DispatchSettings().pins
NODE = click.argument("node_file", metavar="NODE.toml", type=click.Path(dir_okay=False, path_type=Path))


@click.group()
def xdp() -> None:
    """The dispatcher in the kernel (mode = "xdp")."""


@xdp.command()
@NODE
def attach(node_file: Path) -> None:
    """Attach the program to the node's interface, with the current site.

    It forwards from then on, without any process; `dnsvip dispatch` takes it over and keeps it up to date.
    """
    node, settings = _settings(node_file)
    configure(node.log)
    asyncio.run(_attach(node, settings))
    click.echo(f"attached to {settings.interface}; dnsvip dispatch {node_file} keeps it up to date")


@xdp.command()
@NODE
@click.option("--dns", "of_dns", is_flag=True, help="The DNS program instead; stop a running `dnsvip serve` first.")
def detach(node_file: Path, of_dns: bool) -> None:
    """Detach the program from the node's interface and forget its flows; stop a running dispatcher first.

    A DNS program (`[dns] xdp`) on the same interface stays.
    """
    if of_dns:
        _detach_dns(node_file)
        return
    _, settings = _settings(node_file)
    was_attached = pinned_program.detach(settings)
    neighbours = Neighbours()
    neighbours.keep([])
    neighbours.close()
    click.echo(
        f"detached from {settings.interface}" if was_attached else f"nothing was attached to {settings.interface}"
    )
    _say_ahead(settings)


@xdp.command()
@NODE
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(node_file: Path, as_json: bool) -> None:
    """Show what is attached to the node's interface, and how full its maps are."""
    _, settings = _settings(node_file)
    program = pinned_program.describe(settings)
    if as_json:
        click.echo(json.dumps(program))
    elif program is None:
        click.echo(f"nothing is attached to {settings.interface}")
        _say_ahead(settings)
    else:
        _show(program)


@xdp.command()
@click.argument("interface")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1)
@click.option("--source", default="100::/64", metavar="PREFIX", help="encap_source of the dispatchers. [100::/64]")
@click.option("--generic", is_flag=True, help="Above a driver that has no native XDP.")
@click.option("--off", is_flag=True, help="Take it off again.")
@click.option("--pins", type=click.Path(path_type=Path), default=PINS, help=f"A folder in a BPF file system. [{PINS}]")
def decap(interface: str, addresses: tuple[str, ...], source: str, generic: bool, off: bool, pins: Path) -> None:
    """On a server of a pool with forward = "encap": unwrap what dispatchers send to ADDRESS, in the kernel."""
    if off:
        was_attached = tunnel.detach(interface, pins)
        click.echo(f"detached from {interface}" if was_attached else f"nothing was attached to {interface}")
        return
    try:
        own, prefix = [IPv6Address(address) for address in addresses], IPv6Network(source)
    except ValueError as error:
        raise ConfigError(f"{error}: give IPv6 addresses of this server, and a prefix of 64 bits") from error
    if not own or prefix.prefixlen != 64:
        raise ConfigError("give the addresses of this server that dispatchers send to, and a prefix of 64 bits")
    tunnel.attach(interface, own, prefix, pins, Mode.GENERIC if generic else Mode.NATIVE)
    click.echo(f"attached to {interface}")


def _detach_dns(node_file: Path) -> None:
    settings = load_node(node_file).dns.xdp
    if settings is None:
        raise ConfigError(f"{node_file}: dns.xdp: missing; there is no DNS program to detach")
    was_attached = answers.detach(settings)
    said = "the DNS program was detached from" if was_attached else "no DNS program was attached to"
    click.echo(f"{said} {settings.interface}")


def _say_ahead(settings: DispatchSettings) -> None:
    """Name the DNS program where it is alone on the interface."""
    if program := pinned_program.ahead(settings):
        click.echo(f"program {program['name']} {program['tag']} ({program['id']}) of [dns] xdp is attached")


def _show(attachment: dict[str, Any]) -> None:
    program, interface = attachment["program"], attachment["interface"]
    click.echo(f"{interface}: {attachment['attached']}, program {program['name']} {program['tag']} ({program['id']})")
    if first := attachment["behind"]:
        click.echo(f"behind program {first['name']} {first['tag']} ({first['id']}) of [dns] xdp")
    click.echo(f"pinned in {attachment['pins']}")
    table = Table("map", "entries", "used", "KiB")
    for bpf_map in attachment["maps"]:
        used = "" if bpf_map["used"] is None else f"{bpf_map['used']:,}"
        table.add_row(bpf_map["name"], f"{bpf_map['entries']:,}", used, f"{bpf_map['bytes'] / 1024:,.0f}")
    Console().print(table)


async def _attach(node: NodeConfig, settings: DispatchSettings) -> None:
    feed = SnapshotFollower(node, ["dispatch"])
    await feed.start()
    try:
        runner = XdpRunner(settings, feed.snapshot)
        await runner.start()
        await runner.stop()
    finally:
        await feed.close()


def _settings(node_file: Path) -> tuple[NodeConfig, DispatchSettings]:
    node = load_node(node_file)
    if node.dispatch is None or node.dispatch.mode != "xdp":
        raise ConfigError(f'{node_file}: dispatch.mode: must be "xdp" here')
    return node, node.dispatch
