"""`dnsvip demo`: the whole chain on real packets, on this machine alone."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dnsvip.demo.page import Page
from dnsvip.demo.play import play
from dnsvip.demo.report import Both, Machine, Screen

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave it running until Enter, Ctrl-C or SIGTERM, and say how to look around."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document: acts, commands, checks.")
@click.option("--xdp", is_flag=True, help="With the dispatcher in the kernel; needs root.")
@click.option(
    "--html", type=FILE, metavar="FILE", help="Measure and compare too, and write a page about it all to FILE."
)
def demo(*, keep: bool, as_json: bool, xdp: bool, html: Path | None) -> None:
    """Show the main job on real packets, in temporary network namespaces.

    Exits 0 only if everything shown held.
    """
    shown = Machine() if as_json else Screen()
    if html is None:
        held = play(shown, keep=keep, xdp=xdp)
    else:
        if not html.absolute().parent.is_dir():  # known now, not in a minute
            raise click.UsageError(f"--html {html}: there is no folder {html.parent}")
        page = Page(html.absolute(), "in the kernel (XDP)" if xdp else "in user space (TUN)")
        held = play(Both(page, shown), keep=keep, xdp=xdp, measured=True)
        click.echo(f"{html}: the page", err=True)
    sys.exit(0 if held else 1)
