"""The command line: one file per noun (README.md), loaded only when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from dnsvip import __version__
from dnsvip.cli.examples import with_examples
from dnsvip.errors import DnsvipError

COMMANDS = {
    "apply": "database.site",
    "serve": "processes.serve",
    "dispatch": "processes.dispatch",
    "xdp": "machine.xdp",
    "flows": "machine.flows",
    "watch": "machine.watch",
    "decode": "database.address",
    "encode": "database.address",
    "status": "operating.status",
    "clients": "objects.clients",
    "tiers": "objects.tiers",
    "clusters": "objects.clusters",
    "pools": "objects.pools",
    "servers": "objects.servers",
    "zones": "objects.zones",
    "services": "objects.services",
    "tsig": "objects.tsig",
    "classify": "objects.classify",
    "explain": "operating.explain",
    "audit": "operating.audit",
    "keys": "operating.keys",
    "nodes": "operating.nodes",
    "backup": "database.backup",
    "restore": "database.backup",
    "tokens": "operating.tokens",
    "doctor": "machine.doctor",
    "client": "machine.client",
    "demo": "machine.demo",
    "completion": "completion",
}
"""Command -> the module under dnsvip.cli that holds a click command of that name (`command` or `command_`)."""


class LazyGroup(click.Group):
    """A click group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of their table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dnsvip.cli.{COMMANDS[cmd_name]}")
        command = with_examples(cmd_name, getattr(module, cmd_name))
        return _completed(cmd_name, command) if "_DNSVIP_COMPLETE" in os.environ else command


def _completed(noun: str, command: click.Command) -> click.Command:
    """The command for a shell that asks what may come next: it completes names, too."""
    from dnsvip.cli.completion import with_names  # noqa: PLC0415 - loaded only where it is asked for

    return with_names(noun, command)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dnsvip")
def root() -> None:
    """DNS that gives every client its own encoded address, and the dispatcher that reads it."""


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; our own errors become one clear message and their exit code."""
    try:
        return root.main(args=argv, prog_name="dnsvip", standalone_mode=True)
    except DnsvipError as error:
        click.echo(click.style("error: ", fg="red", bold=True, reset=True) + str(error), err=True)
        sys.exit(error.exit_code)
