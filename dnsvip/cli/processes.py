"""`dnsvip serve`, `dispatch`, `decoder`, `announce`: what runs until it is stopped; `dnsvip.node` holds them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("node_file", metavar="NODE.toml", type=FILE)
@click.option(
    "--token-file",
    type=FILE,
    help="Write the first API token here (mode 0600) instead of showing it; only where the database holds none.",
)
def serve(node_file: Path, token_file: Path | None) -> None:
    """Answer DNS on the listeners of NODE.toml, and serve the HTTP API where it has a table [admin].

    Stops on SIGTERM or Ctrl-C, reads NODE.toml again on SIGHUP. Where the database holds no token yet, one is made
    and shown once. While the database is down, DNS is answered from the last good snapshot and the API answers 503.
    """
    from dnsvip.node import serve as node  # noqa: PLC0415 - help and completion must not load a DNS server

    node.serve(node_file, token_file)


@click.command()
@click.argument("node_file", metavar="NODE.toml", type=FILE)
@click.option("--detach", is_flag=True, help='With mode = "xdp": take the program off the interface at the end too.')
def dispatch(node_file: Path, detach: bool) -> None:
    """Forward packets for the cluster prefixes to their servers.

    Needs the right to make a TUN device and routes (root, or CAP_NET_ADMIN and CAP_NET_RAW), and a host
    that forwards. Stops on SIGTERM or Ctrl-C and takes everything it made with it; only the kernel's program
    (mode = "xdp") stays and goes on forwarding, so that a restart interrupts nothing. Reads NODE.toml again on SIGHUP.
    """
    from dnsvip.node import dispatch as node  # noqa: PLC0415 - help and completion must not load a dispatcher

    node.dispatch(node_file, detach=detach)


def _prefixes(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        return tuple(ip_network(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("prefixes", metavar="PREFIX...", nargs=-1, required=True, callback=_prefixes)
def announce(prefixes: tuple[Any, ...]) -> None:
    """Tell ExaBGP to announce each PREFIX while a dispatcher or DNS node of this host wants its packets.

    ExaBGP runs it as a process; it writes lines of ExaBGP's text API. It follows the routes that `dispatch` and `serve`
    make by [announce] of their node file: MED 10, or 60 and the community 65535:0 (RFC 8326) while a drained node
    leaves. deploy/bgp has the files, and those of BIRD and FRR, which need no such process.
    """
    from dnsvip.node import exabgp  # noqa: PLC0415 - as above

    exabgp.announce(prefixes)


@click.command()
@click.argument("node_file", metavar="NODE.toml", type=FILE)
def decoder(node_file: Path) -> None:
    """Answer programs of this server what the address of a connection says: tier, client, attributes.

    NODE.toml has the table [decoder]: clusters, API and token. The process holds the keys that read the addresses of
    these clusters, and follows their rotations. Stops on SIGTERM or Ctrl-C.
    """
    from dnsvip.node import decoder as node  # noqa: PLC0415 - as above

    node.decoder(node_file)
