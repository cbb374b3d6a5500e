"""`dnsvip serve`, `dispatch` and `decoder`: what runs until it is stopped. `dnsvip.node` holds the processes."""

from __future__ import annotations

from pathlib import Path

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


@click.command()
@click.argument("node_file", metavar="NODE.toml", type=FILE)
def decoder(node_file: Path) -> None:
    """Answer programs of this server what the address of a connection says: tier, client, attributes.

    NODE.toml has the table [decoder]: clusters, API and token. The process holds the keys that read the addresses of
    these clusters, and follows their rotations. Stops on SIGTERM or Ctrl-C.
    """
    from dnsvip.node import decoder as node  # noqa: PLC0415 - as above

    node.decoder(node_file)
