"""`dnsvip demo`: the whole chain on real packets, on this machine alone."""

from __future__ import annotations

import sys

import click

from dnsvip.demo.play import play
from dnsvip.demo.report import Machine, Screen


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave it running until Enter, Ctrl-C or SIGTERM, and say how to look around."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document: acts, commands, checks.")
@click.option("--xdp", is_flag=True, help="With the dispatcher in the kernel; needs root.")
def demo(*, keep: bool, as_json: bool, xdp: bool) -> None:
    """Show the main job on real packets, in temporary network namespaces.

    Exits 0 only if everything shown held.
    """
    sys.exit(0 if play(Machine() if as_json else Screen(), keep=keep, xdp=xdp) else 1)
