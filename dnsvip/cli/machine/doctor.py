"""`dnsvip doctor`: examine a node before or while it runs, and say how to fix what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from dnsvip.doctor.examination import Part, examine_all
from dnsvip.doctor.finding import Finding, Level, exit_code
from dnsvip.printable import printable
from dnsvip.site.io.files import load_node

COLOURS = {Level.OK: "green", Level.UNKNOWN: "blue", Level.WARNING: "yellow", Level.FAILURE: "red"}
EPILOG = "Exit codes: 0 nothing wrong, 6 warnings only, 1 something will not work, 2 the node file is wrong."


@click.command(epilog=EPILOG)
@click.argument("node_file", metavar="NODE.toml", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--server", is_flag=True, help="Look at this machine as a server of the pools: is the prefix its own?")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Leave out what is well.")
def doctor(node_file: Path, *, server: bool, as_json: bool, quiet: bool) -> None:
    """Check ports, rights, kernel, clock, disk, database, keys, routing, servers and delegation of a node.

    It changes nothing: a database or key that is missing is not made. Run it as the user that the node runs as.
    """
    part = Part(load_node(node_file), server, os.environ)
    findings: list[Finding] = asyncio.run(_all(part, show=not as_json, quiet=quiet))
    if as_json:
        shown = [asdict(finding) for finding in findings if not quiet or finding.level is not Level.OK]
        click.echo(json.dumps({"findings": shown, "exit_code": exit_code(findings)}, indent=2))
    sys.exit(exit_code(findings))


async def _all(part: Part, *, show: bool, quiet: bool) -> list[Finding]:
    findings = []
    async for finding in examine_all(part):
        findings.append(finding)
        if show and not (quiet and finding.level is Level.OK):
            _show(finding)
    return findings


def _show(finding: Finding) -> None:
    level = click.style(f"{finding.level.value:8}", fg=COLOURS[finding.level])
    click.echo(f"{level} {finding.check:10} {printable(finding.what)}")
    if finding.level is not Level.OK and finding.mend:
        click.echo(f"{'':8} {'':10} -> {printable(finding.mend)}")
